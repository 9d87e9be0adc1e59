"""Where placeholders stand in a shell command, and how to refer to their values right there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from batchpoint.core.shell_expansions import Items, Reference, ShellReader
from batchpoint.core.simple_command import SimpleCommand
from batchpoint.domain.errors import Invalid

_PLAIN_DELIMITER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REDIRECTION = re.compile(r"<<<|&>>?|[<>][&|]|>>|<>|>|<(?!<)")
_TEST_PART = re.compile(r"&&|\|\|")
_CALCULATES = re.compile(r"\s-(?:eq|ne|lt|le|gt|ge|v)\s")


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
    reader = _CodeReader(items, 0, set())
    reader.code("")
    return Quoted("".join(reader.out), frozenset(reader.evaluated))


@dataclass(frozen=True, slots=True)
class _Heredoc:
    """A here-document whose body is still to come; `slot`: where its delimiter was written."""

    delimiter: str
    literal: bool
    strip_tabs: bool
    slot: int


class _CodeReader(ShellReader):
    """Reads commands: their words, the brackets around them, and here-documents behind them."""

    def __init__(self, items: Items, depth: int, evaluated: set[int]) -> None:
        super().__init__(items, depth, evaluated)
        self._heredocs: list[_Heredoc] = []
        self._test_end = 0  # where the last `]]` was found; -1 when none follows

    def code(self, closer: str) -> None:
        """Read unquoted code up to `closer`, which is copied too."""
        command = SimpleCommand()
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self._bare(item, command)
            elif item == ")":
                inside = command.close_group()
                self.copy(1)
                if not inside and closer:
                    return
            elif item in " \t\n;&|(<>":
                self._between_words(item, command)
            elif item == "#" and not command.in_word:
                self._comment()
            else:
                self._in_word(item, command)

    def _bare(self, item: Reference, command: SimpleCommand) -> None:
        if command.runs_word:
            self.evaluated.add(item.tag)
        in_subscript = command.in_subscript
        self.calculating += in_subscript
        self.refer(item, '"', '"')
        self.calculating -= in_subscript
        command.add("\0")

    def _between_words(self, item: str, command: SimpleCommand) -> None:
        if item in "<>" and self.peek(1) == "(":
            command.add("\0")
            self.copy(2)
            self.substitution()
            return
        command.end_word()
        if item == "\n":
            self.copy(1)
            command.end()
            self._bodies()
        elif (redirection := _REDIRECTION.match(self.text, self.at)) is not None:
            self.copy(len(redirection[0]))
            command.redirects = True
        elif self.ahead("<<"):
            self._heredoc()
        elif self.ahead("((") and (command.at_start or command.is_for):
            self.copy(2)
            self.arithmetic("))")
        else:
            self.copy(1)
            if item == "(":
                command.open_group()
            if item in ";&|(":
                command.end()

    def _in_word(self, item: str, command: SimpleCommand) -> None:
        if item == "[" and not command.in_word and command.at_start and self.ahead("[["):
            self._look_at_test()
        if item == "\\":
            self._escape(command)
        elif item in "'\"`$":
            start = self.at
            in_subscript = command.in_subscript
            self.calculating += in_subscript
            self.quote_or_expansion(item)
            self.calculating -= in_subscript
            if command.runs_word:
                inner = self.items[start : self.at]
                self.evaluated.update(each.tag for each in inner if isinstance(each, Reference))
            command.add("\0")
        else:
            command.add(item)
            self.copy(1)

    def _look_at_test(self) -> None:
        """Find the parts of `[[ … ]]` that compare numbers: all in them is calculated with."""
        if 0 <= self._test_end <= self.at:
            self._test_end = self.text.find("]]", self.at)
        stop = self._test_end
        if stop < 0:
            return
        start = self.at
        for part in _TEST_PART.split(self.text[start:stop]):
            if _CALCULATES.search(part):
                self.tests.append((start, start + len(part)))
            start += len(part) + 2

    def _escape(self, command: SimpleCommand) -> None:
        following = self.peek(1)
        if isinstance(following, Reference):
            self.at += 1  # it would keep the first character from being special: none is
        elif following == "\n":
            self.copy(2)
        else:
            command.add("\0")
            self.copy(2)

    def _comment(self) -> None:
        stop = self._line_end(self.at)
        self.raw(stop)

    # --- here-documents ---------------------------------------------------------------------

    def _heredoc(self) -> None:
        """Read `<<` and the delimiter behind it; the body begins at the next line."""
        self.copy(2)
        strip_tabs = self.peek() == "-"
        self.copy(1 if strip_tabs else 0)
        while self.peek() in {" ", "\t"}:
            self.copy(1)
        start, quote = self.at, ""
        delimiter: list[str] = []
        while self.at < len(self.items):
            item = self.items[self.at]
            escaped = item == "\\" and isinstance(self.peek(1), Reference)
            if isinstance(item, Reference) or escaped:
                raise Invalid("a placeholder cannot end a here-document; give it a fixed word",
                              code="binding_invalid")  # fmt: skip
            if not quote and item in " \t\n;&|()<>":
                break
            self.at += 1
            if item == "\\" and quote != "'":
                delimiter.append(self.text[self.at : self.at + 1])
                self.at += 1
            elif item == quote:
                quote = ""
            elif not quote and item in "'\"":
                quote = item
            else:
                delimiter.append(item)
        raw = self.text[start : self.at]
        literal = any(char in raw for char in "'\"\\")
        self._heredocs.append(_Heredoc("".join(delimiter), literal, strip_tabs, len(self.out)))
        self.out.append(raw)

    def _bodies(self) -> None:
        pending, self._heredocs = self._heredocs, []
        for heredoc in pending:
            start = self.at
            while start < len(self.items):
                stop = self._line_end(start)
                line = self.text[start:stop]
                if (line.lstrip("\t") if heredoc.strip_tabs else line) == heredoc.delimiter:
                    break
                start = stop + 1
            start = min(start, len(self.items))
            self._body(heredoc, self.items[self.at : start])
            self.at = start
            self.raw(min(self._line_end(start) + 1, len(self.items)))

    def _line_end(self, start: int) -> int:
        stop = self.text.find("\n", start)
        return stop if stop >= 0 else len(self.text)

    def _body(self, heredoc: _Heredoc, items: Items) -> None:
        if not heredoc.literal:
            reader = _CodeReader(items, self.depth, self.evaluated)
            while reader.at < len(items):
                reader.expandable(items[reader.at])
            self.out.extend(reader.out)
            return
        if any(isinstance(item, Reference) for item in items):
            # Nothing is to expand in it but references: all else is made literal one by one.
            if _PLAIN_DELIMITER.fullmatch(heredoc.delimiter) is None:
                raise Invalid("a here-document with placeholders needs a plain word (EOF) as its "
                              "end", code="binding_invalid")  # fmt: skip
            self.out[heredoc.slot] = heredoc.delimiter
            special = "\\$`"
        else:
            special = ""
        for item in items:
            if isinstance(item, Reference):
                self.out.append("${" + item.variable + "}")
            else:
                self.out.append("\\" + item if item in special else item)
