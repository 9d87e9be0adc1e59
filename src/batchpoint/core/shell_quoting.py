"""Where placeholders stand in a shell command, and how to refer to their values right there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from batchpoint.domain.errors import Invalid

NESTING_MAX = 50
_ARITHMETIC_TESTS = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v"})
_COMMAND_FOLLOWS = frozenset(
    {"if", "then", "elif", "else", "do", "while", "until", "!", "{", "time", "exec", "env"}
    | {"nohup", "sudo", "command", "builtin"}
)
_RUN_THEIR_WORDS = frozenset({"eval", "let", "trap", "unset", "read", "mapfile", "readarray"})
_DECLARE = frozenset({"declare", "typeset", "local", "readonly", "export"})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_PLAIN_DELIMITER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_SUBSCRIPT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[[^\]]*")
_PARAMETER = re.compile(r"[#!]?(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[-@*#?$!])")


class Reference(NamedTuple):
    """A placeholder in a command: the variable that holds its value. `tag` is the caller's."""

    variable: str
    tag: int = 0


Items = Sequence[str | Reference]
"""A command: single characters, and references in the places of values."""


class Quoted(NamedTuple):
    """A command fit to be run, and the tags of values that the shell would take for code.

    `evaluated` are references in arithmetic, or in the words of `eval`, `bash -c` and the like:
    there, only numbers are safe. Arithmetic gets a whole number whatever the value is.
    """

    text: str
    evaluated: frozenset[int]


def quoted(items: Items) -> Quoted:
    """Return the command with each reference written so that it expands to exactly its value.

    Values are no part of the text, so a context that is misread can split a value or leave the
    reference unexpanded, and never make code of it. bash and POSIX shells are understood.

    Raises:
        Invalid: `binding_invalid`, a reference where none can stand, or nesting beyond NESTING_MAX.
    """
    reader = _Reader(items, 0, set())
    reader.code("")
    return Quoted("".join(reader.out), frozenset(reader.evaluated))


@dataclass(slots=True)
class _Heredoc:
    delimiter: str
    literal: bool
    strip_tabs: bool
    slot: int
    """Where in the output its delimiter was written."""


@dataclass(slots=True)
class _Command:
    """The simple command that is being read: its plain words so far, and the one at hand."""

    words: list[str] = field(default_factory=list[str])
    word: list[str] = field(default_factory=list[str])
    test: list[tuple[int, Reference]] | None = None
    """Inside `[[ ]]`: the references in it, with the places of their texts in the output."""
    in_word: bool = False
    cases: int = 0
    outer_cases: list[int] = field(default_factory=list[int])

    def add(self, char: str) -> None:
        self.word.append(char)
        self.in_word = True

    def end_word(self) -> str:
        """Close the word at hand and return it, empty when there was none."""
        if not self.in_word:
            return ""
        word = "".join(self.word)
        self.word.clear()
        self.in_word = False
        if not self.words:
            if word == "case":
                self.cases += 1
            elif word == "esac":
                self.cases = max(0, self.cases - 1)
            if word in _COMMAND_FOLLOWS or _ASSIGNMENT.match(word):
                return word
        self.words.append(word)
        return word

    def end(self) -> None:
        self.end_word()
        self.words.clear()

    @property
    def at_start(self) -> bool:
        return not self.words and not self.in_word

    @property
    def runs_words(self) -> bool:
        """Whether the shell reads the words of this command as code or arithmetic."""
        words = self.words
        if not words:
            return bool(self.word) and _SUBSCRIPT.fullmatch("".join(self.word)) is not None
        if words[0] in _RUN_THEIR_WORDS:
            return True
        if words[0] in _DECLARE and any(w[:1] == "-" and "i" in w for w in words):
            return True
        if words[0] in {"[", "test", "printf"} and "-v" in words:
            return True
        shell = False
        for word in words:
            if shell and word[:1] == "-" and word[:2] != "--" and word[-1:] == "c":
                return True
            shell = shell or word.rsplit("/", 1)[-1] in _SHELLS
        return False


class _Reader:
    """Reads one text of shell code; text inside backquotes gets a reader of its own."""

    def __init__(self, items: Items, depth: int, evaluated: set[int]) -> None:
        if depth > NESTING_MAX:
            raise Invalid(
                f"the command nests quotes and substitutions deeper than {NESTING_MAX}; "
                "put it into a script",
                code="binding_invalid",
            )
        self.items = items
        self.at = 0
        self.depth = depth
        self.out: list[str] = []
        self.evaluated = evaluated
        self.heredocs: list[_Heredoc] = []

    # --- small moves ------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str | Reference:
        """Look at what comes, "" at the end."""
        at = self.at + ahead
        return self.items[at] if at < len(self.items) else ""

    def _ahead(self, text: str) -> bool:
        return all(self._peek(index) == char for index, char in enumerate(text))

    def _copy(self, count: int) -> None:
        for _ in range(count):
            item = self._peek()
            assert isinstance(item, str)
            self.out.append(item)
            self.at += 1

    def _refer(
        self, item: Reference, before: str = "", after: str = "", *, numeric: bool = False
    ) -> None:
        text = "${" + item.variable + "}"
        if numeric:
            self.evaluated.add(item.tag)
            text = f'$(printf %d "{text}")'
        self.out.append(before + text + after)
        self.at += 1

    def _nested(self, read: Callable[[], None]) -> None:
        if self.depth >= NESTING_MAX:
            _Reader((), NESTING_MAX + 1, self.evaluated)
        self.depth += 1
        read()
        self.depth -= 1

    # --- code -------------------------------------------------------------------------------

    def code(self, closer: str) -> None:
        """Read unquoted code up to `closer`, which is copied too."""
        command = _Command()
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._bare(item, command)
            elif item == ")" and self._closes(command, closer):
                self._copy(1)
                return
            elif item in " \t\n;&|()<>":
                self._between_words(item, command)
            elif item == "#" and not command.in_word:
                self._comment()
            else:
                self._in_word(item, command)

    def _bare(self, item: Reference, command: _Command) -> None:
        if command.runs_words:
            subscript = not command.words
            self.evaluated.add(item.tag)
            self._refer(item, '"', '"', numeric=subscript)
        else:
            if command.test is not None:
                command.test.append((len(self.out), item))
            self._refer(item, '"', '"')
        command.add("\0")

    def _closes(self, command: _Command, closer: str) -> bool:
        """Take a `)`: tell whether it ends this code, not a pattern or a subshell in it."""
        command.end()
        if command.cases:
            return False
        if command.outer_cases:
            command.cases = command.outer_cases.pop()
            return False
        return closer == ")"

    def _between_words(self, item: str, command: _Command) -> None:
        if item in "<>" and self._peek(1) == "(":
            command.add(item)
            self._copy(2)
            self._nested(lambda: self.code(")"))
            return
        word = command.end_word()
        self._watch_tests(word, command)
        if item == "\n":
            self._copy(1)
            command.words.clear()
            self._bodies()
        elif self._ahead("<<<"):
            self._copy(3)
        elif self._ahead("<<"):
            self._heredoc()
        elif (
            item == "(" and self._peek(1) == "(" and (command.at_start or command.words == ["for"])
        ):
            self._copy(2)
            self._nested(lambda: self._arithmetic("))"))
        else:
            self._copy(1)
            if item == "(":
                command.outer_cases.append(command.cases)
                command.cases = 0
            if item in ";&|()" and command.test is None:
                command.words.clear()

    def _watch_tests(self, word: str, command: _Command) -> None:
        """Give `[[ a -eq b ]]` whole numbers: it calculates with what stands there."""
        if word == "[[" and command.words == ["[["]:
            command.test = []
        elif word == "]]" and command.test is not None:
            if _ARITHMETIC_TESTS.intersection(command.words):
                for slot, item in command.test:
                    self.evaluated.add(item.tag)
                    self.out[slot] = f'"$(printf %d "${{{item.variable}}}")"'
            command.test = None

    def _in_word(self, item: str, command: _Command) -> None:
        if item == "\\":
            self._escape(command)
        elif item in "'\"`$":
            command.in_word = True
            evaluated = command.runs_words
            before = len(self.out), self.at
            self._quote_or_expansion(item)
            if evaluated:
                self._suspect(before[1], self.at)
            elif command.test is not None:
                self._note_quoted(command.test, before[1])
            command.word.append("\0" if item != "$" or self.at - before[1] > 1 else "$")
        else:
            command.add(item)
            self._copy(1)

    def _suspect(self, start: int, stop: int) -> None:
        for item in self.items[start:stop]:
            if isinstance(item, Reference):
                self.evaluated.add(item.tag)

    def _note_quoted(self, test: list[tuple[int, Reference]], start: int) -> None:
        """A quoted word in a test: its references are known, though not written anew."""
        test.extend(
            (len(self.out), item)
            for item in self.items[start : self.at]
            if isinstance(item, Reference)
        )

    def _escape(self, command: _Command) -> None:
        following = self._peek(1)
        if isinstance(following, Reference):
            self.at += 1  # it would keep the first character from being special: none is
        elif following == "\n":
            self._copy(2)
        elif following:
            command.add(following)
            self._copy(2)
        else:
            self._copy(1)

    def _comment(self) -> None:
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._refer(item)
            elif item == "\n":
                return
            else:
                self._copy(1)

    # --- quotes and expansions --------------------------------------------------------------

    def _quote_or_expansion(self, item: str) -> None:
        """Read what begins with a quote or a dollar outside of double quotes."""
        if item == "'":
            self._copy(1)
            self._single()
        elif item == '"':
            self._copy(1)
            self._nested(lambda: self._double(numeric=False))
        elif item == "`":
            self._backquoted(in_double=False)
        elif self._peek(1) == "'":
            self._copy(2)
            self._ansi()
        else:
            self._dollar(in_double=False)

    def _single(self, *, numeric: bool = False) -> None:
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._refer(item, "'\"", "\"'", numeric=numeric)
                continue
            self._copy(1)
            if item == "'":
                return

    def _ansi(self) -> None:
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._refer(item, "'\"", "\"$'")
            elif item == "\\":
                self._backslash()
            else:
                self._copy(1)
                if item == "'":
                    return

    def _backslash(self) -> None:
        """A backslash that stays where no character follows that it could act on."""
        if isinstance(self._peek(1), Reference):
            self.out.append("\\\\")
            self.at += 1
        else:
            self._copy(2 if self._peek(1) else 1)

    def _double(self, *, numeric: bool) -> None:
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._refer(item, numeric=numeric)
            elif item == '"':
                self._copy(1)
                return
            else:
                self._expandable(item)

    def _expandable(self, item: str) -> None:
        """Read one thing of a text in which only backslash, backquote and dollar are special."""
        if item == "\\":
            self._backslash()
        elif item == "`":
            self._backquoted(in_double=True)
        elif item == "$":
            self._dollar(in_double=True)
        else:
            self._copy(1)

    def _dollar(self, *, in_double: bool) -> None:
        following = self._peek(1)
        if isinstance(following, Reference):
            self.out.append("\\$")
            self.at += 1
        elif self._ahead("$(("):
            self._copy(3)
            self._nested(lambda: self._arithmetic("))"))
        elif following == "(":
            self._copy(2)
            self._nested(lambda: self.code(")"))
        elif following == "[":
            self._copy(2)
            self._nested(lambda: self._arithmetic("]"))
        elif following == "{":
            self._copy(2)
            self._nested(lambda: self._parameter(in_double=in_double))
        else:
            self._copy(1)

    def _arithmetic(self, closer: str) -> None:
        opener, depth = ("[" if closer == "]" else "("), 0
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._refer(item, numeric=True)
            elif not depth and self._ahead(closer):
                self._copy(len(closer))
                return
            elif item == "'":
                self._copy(1)
                self._single(numeric=True)
            elif item == '"':
                self._copy(1)
                self._double(numeric=True)
            else:
                depth += (item == opener) - (item == closer[0] and depth > 0)
                self._expandable(item)

    def _parameter(self, *, in_double: bool) -> None:
        """Read `${name…}` from behind its brace."""
        text = "".join(
            i if isinstance(i, str) else "\0" for i in self.items[self.at : self.at + 300]
        )
        name = _PARAMETER.match(text)
        self._copy(name.end() if name else 0)
        if self._peek() == "[":
            self._copy(1)
            self._arithmetic("]")
        operator = self._peek()
        following = self._peek(1)
        numeric = operator == ":" and (isinstance(following, Reference) or following not in "-=+?")
        is_word = operator in {"-", "=", "+", "?"} or (operator == ":" and not numeric)
        bare = in_double and is_word
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                quote = "" if bare or numeric else '"'
                self._refer(item, quote, quote, numeric=numeric)
            elif item == "}":
                self._copy(1)
                return
            elif item == "'" and not bare:
                self._copy(1)
                self._single(numeric=numeric)
            elif item == '"':
                self._copy(1)
                self._double(numeric=numeric)
            elif item == "\\" and not bare and isinstance(self._peek(1), Reference):
                self.at += 1
            else:
                self._expandable(item)

    def _backquoted(self, *, in_double: bool) -> None:
        """Write a substitution with values in it as `$( )`: there, quotes are its own."""
        special = '`\\$"' if in_double else "`\\$"
        inner: list[str | Reference] = []
        at = self.at + 1
        while at < len(self.items) and self.items[at] != "`":
            item = self.items[at]
            if item == "\\" and at + 1 < len(self.items):
                following = self.items[at + 1]
                if isinstance(following, str) and following in special:
                    item = following
                    at += 1
            inner.append(item)
            at += 1
        if at == len(self.items) or not any(isinstance(item, Reference) for item in inner):
            self._raw(min(at + 1, len(self.items)))
            return
        reader = _Reader(inner, self.depth + 1, self.evaluated)
        reader.code("")
        self.out.extend(["$( ", *reader.out, "\n)"])
        self.at = at + 1

    def _raw(self, stop: int) -> None:
        while self.at < stop:
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._refer(item)
            else:
                self._copy(1)

    # --- here-documents ---------------------------------------------------------------------

    def _heredoc(self) -> None:
        """Read `<<` and the delimiter behind it; the body begins at the next line."""
        self._copy(2)
        strip_tabs = self._peek() == "-"
        self._copy(1 if strip_tabs else 0)
        while self._peek() in {" ", "\t"}:
            self._copy(1)
        delimiter, literal, raw = "", False, ""
        quote = ""
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                raise Invalid("a placeholder cannot end a here-document; give it a fixed word",
                              code="binding_invalid")  # fmt: skip
            if not quote and item in " \t\n;&|()<>":
                break
            raw += item
            self.at += 1
            if item == quote:
                quote = ""
            elif not quote and item in "'\"":
                quote, literal = item, True
            elif item == "\\" and quote != "'" and isinstance(self._peek(), str) and self._peek():
                literal = True
                raw += str(self._peek())
                delimiter += str(self._peek())
                self.at += 1
            else:
                delimiter += item
        self.heredocs.append(_Heredoc(delimiter, literal, strip_tabs, len(self.out)))
        self.out.append(raw)

    def _bodies(self) -> None:
        pending, self.heredocs = self.heredocs, []
        for heredoc in pending:
            start = self.at
            stop = end = len(self.items)
            while start < len(self.items):
                end = self._line_end(start)
                line = self.items[start:end]
                if all(isinstance(item, str) for item in line):
                    text = "".join(str(item) for item in line)
                    if (text.lstrip("\t") if heredoc.strip_tabs else text) == heredoc.delimiter:
                        stop = start
                        break
                start = end + 1
            self._body(heredoc, self.items[self.at : stop])
            self.at = stop
            if stop < len(self.items):
                self._raw(min(end + 1, len(self.items)))

    def _line_end(self, start: int) -> int:
        end = start
        while end < len(self.items) and self.items[end] != "\n":
            end += 1
        return end

    def _body(self, heredoc: _Heredoc, items: Items) -> None:
        if not heredoc.literal:
            reader = _Reader(items, self.depth + 1, self.evaluated)
            while reader.at < len(reader.items):
                item = reader.items[reader.at]
                if isinstance(item, Reference):
                    reader._refer(item)
                else:
                    reader._expandable(item)
            self.out.extend(reader.out)
            return
        if not any(isinstance(item, Reference) for item in items):
            self.out.extend(str(item) for item in items)
            return
        # Nothing expands in it but our references: everything else is made literal one by one.
        if _PLAIN_DELIMITER.fullmatch(heredoc.delimiter) is None:
            raise Invalid("a here-document with placeholders needs a plain word (EOF) as its end",
                          code="binding_invalid")  # fmt: skip
        self.out[heredoc.slot] = heredoc.delimiter
        for item in items:
            if isinstance(item, Reference):
                self.out.append("${" + item.variable + "}")
            else:
                self.out.append("\\" + item if item in "\\$`" else item)
