"""One simple command of a shell while it is read: which word is at hand, and who will read it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_COMMAND_FOLLOWS = frozenset(
    {"if", "then", "elif", "else", "do", "while", "until", "!", "{", "time", "exec", "env"}
    | {"nohup", "sudo", "command", "builtin"}
)
_RUN_THEIR_WORDS = frozenset({"eval", "let", "trap", "unset", "read", "mapfile", "readarray"})
_DECLARE = frozenset({"declare", "typeset", "local", "readonly", "export"})
_TAKE_VARIABLES = frozenset({"[", "test", "printf"})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_SUBSCRIPT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[[^\]]*")
_WORD_CHARS_MAX = 200


@dataclass(slots=True)
class SimpleCommand:
    """The plain characters of a command's words; quoted ones and expansions are NUL.

    `redirects` tells whether the next word names a file. `cases` counts the `case` that are open,
    in which a `)` ends a pattern.
    """

    in_word: bool = False
    redirects: bool = False
    cases: int = 0
    _runs_words: bool = False
    _word: list[str] = field(default_factory=list[str])
    _first: str = ""
    _count: int = 0
    _is_shell: bool = False
    _outer_cases: list[int] = field(default_factory=list[int])

    @property
    def at_start(self) -> bool:
        """Whether the word at hand, or the next one, says what is run."""
        return not self._count

    @property
    def runs_word(self) -> bool:
        """Whether the shell (or another one) reads the word at hand, or the next one, as code."""
        return self._runs_words and not self.redirects

    @property
    def is_for(self) -> bool:
        """Whether `for` is all that was said."""
        return self._count == 1 and self._first == "for"

    @property
    def in_subscript(self) -> bool:
        """Whether the word at hand assigns to an element: `name[`, and no end yet."""
        return self.at_start and _SUBSCRIPT.fullmatch("".join(self._word)) is not None

    def add(self, char: str) -> None:
        """Take the next character of the word at hand."""
        self.in_word = True
        if len(self._word) < _WORD_CHARS_MAX:
            self._word.append(char)

    def end_word(self) -> None:
        """Take the end of a word, if one is at hand."""
        if not self.in_word:
            return
        word = "".join(self._word)
        self._word.clear()
        self.in_word = False
        if self.redirects:
            self.redirects = False
            return
        if not self._count:
            if word == "case":
                self.cases += 1
            elif word == "esac":
                self.cases = max(0, self.cases - 1)
            if word in _COMMAND_FOLLOWS or _ASSIGNMENT.match(word):
                return
            self._first = word
            self._runs_words = word in _RUN_THEIR_WORDS
        self._count += 1
        self._watch(word)

    def _watch(self, word: str) -> None:
        if word[:1] == "-":
            self._runs_words = (
                self._runs_words
                or (self._first in _DECLARE and "i" in word)
                or (self._first in _TAKE_VARIABLES and word == "-v")
                or (self._is_shell and word[:2] != "--" and "c" in word)
            )
        self._is_shell = self._is_shell or word.rsplit("/", 1)[-1] in _SHELLS

    def end(self) -> None:
        """Take the end of the command."""
        self.end_word()
        self.redirects = False
        self._count = 0
        self._first = ""
        self._runs_words = self._is_shell = False

    def open_group(self) -> None:
        """Take a `(`."""
        self._outer_cases.append(self.cases)
        self.cases = 0

    def close_group(self) -> bool:
        """Take a `)`; tell whether it ends something inside of the code that is being read."""
        self.end()
        if self.cases:
            return True
        if self._outer_cases:
            self.cases = self._outer_cases.pop()
            return True
        return False
