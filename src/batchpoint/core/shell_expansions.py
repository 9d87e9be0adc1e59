"""Quotes and expansions of a shell, read character by character, with references in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from batchpoint.domain.errors import Invalid

NESTING_MAX = 50
_PARAMETER = re.compile(r"[#!]?(?:[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[-@*#?$!])")


class Reference(NamedTuple):
    """A placeholder in a command: the variable that holds its value. `tag` is the caller's."""

    variable: str
    tag: int = 0


Items = Sequence[str | Reference]
"""A command: single characters, and references in the places of values."""


class ShellReader:
    """Copies shell code from `items` to `out`, references written as their places ask.

    `calculating` is positive while the shell calculates with what it reads: references then become
    whole numbers, because bash would run commands in the subscripts of a text. `evaluated` collects
    their tags. What substitutions print is another command's affair, so they begin anew.
    """

    def __init__(self, items: Items, depth: int, evaluated: set[int]) -> None:
        self.items = items
        self.text = "".join(item if isinstance(item, str) else "\0" for item in items)
        self.at = 0
        self.depth = depth
        self.out: list[str] = []
        self.evaluated = evaluated
        self.calculating = 0
        self.tests: list[tuple[int, int]] = []
        """Parts of the text between `[[` and `]]` in which numbers are compared."""

    def code(self, closer: str) -> None:
        """Read unquoted code up to `closer`, which is copied too."""
        raise NotImplementedError

    # --- moves ------------------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> str | Reference:
        """Look at what comes, "" at the end."""
        at = self.at + ahead
        return self.items[at] if at < len(self.items) else ""

    def ahead(self, text: str) -> bool:
        """Tell whether this text comes next."""
        return self.text.startswith(text, self.at)

    def copy(self, count: int) -> None:
        """Copy as many plain characters, or what is left."""
        self.out.append(self.text[self.at : self.at + count])
        self.at = min(self.at + count, len(self.items))

    def refer(self, item: Reference, before: str = "", after: str = "") -> None:
        """Write the reference that comes next, in the quotes that its place asks for."""
        text = "${" + item.variable + "}"
        if self.calculating or any(start <= self.at < stop for start, stop in self.tests):
            self.evaluated.add(item.tag)
            text = f'$(printf %d "{text}")'
        self.out.append(before + text + after)
        self.at += 1

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > NESTING_MAX:
            raise Invalid(
                f"the command nests quotes and substitutions deeper than {NESTING_MAX}; "
                "put it into a script",
                code="binding_invalid",
            )

    def substitution(self) -> None:
        """Read `(…)` of `$(…)`, `<(…)` or `>(…)` from behind its bracket."""
        outer = self.calculating, self.tests
        self.calculating, self.tests = 0, []
        self._deeper()
        self.code(")")
        self.depth -= 1
        self.calculating, self.tests = outer

    # --- quotes -----------------------------------------------------------------------------

    def quote_or_expansion(self, item: str) -> None:
        """Read what begins with a quote or a dollar outside of double quotes."""
        if item == "'":
            self.copy(1)
            self._single()
        elif item == '"':
            self.copy(1)
            self._double()
        elif item == "`":
            self._backquoted(in_double=False)
        elif self.ahead("$'"):
            self.copy(2)
            self._ansi()
        else:
            self._dollar(in_double=False)

    def _single(self) -> None:
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self.refer(item, "'\"", "\"'")
                continue
            self.copy(1)
            if item == "'":
                return

    def _ansi(self) -> None:
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                self.refer(item, "'\"", "\"$'")
            elif item == "\\":
                self._backslash()
            else:
                self.copy(1)
                if item == "'":
                    return

    def _double(self) -> None:
        self._deeper()
        while self.at < len(self.items):
            item = self.items[self.at]
            if item == '"':
                self.copy(1)
                break
            self.expandable(item)
        self.depth -= 1

    def expandable(self, item: str | Reference) -> None:
        """Read one thing of a text in which only backslash, backquote and dollar are special."""
        if isinstance(item, Reference):
            self.refer(item)
        elif item == "\\":
            self._backslash()
        elif item == "`":
            self._backquoted(in_double=True)
        elif item == "$":
            self._dollar(in_double=True)
        else:
            self.copy(1)

    def _backslash(self) -> None:
        """A backslash stands for itself before a value: no character follows that it acts on."""
        if isinstance(self.peek(1), Reference):
            self.out.append("\\\\")
            self.at += 1
        else:
            self.copy(2)

    # --- expansions -------------------------------------------------------------------------

    def _dollar(self, *, in_double: bool) -> None:
        following = self.peek(1)
        if isinstance(following, Reference):
            self.out.append("\\$")
            self.at += 1
        elif self.ahead("$(("):
            self.copy(3)
            self.arithmetic("))")
        elif following == "(":
            self.copy(2)
            self.substitution()
        elif following == "[":
            self.copy(2)
            self.arithmetic("]")
        elif following == "{":
            self.copy(2)
            self._parameter(in_double=in_double)
        else:
            self.copy(1)

    def arithmetic(self, closer: str) -> None:
        """Read what the shell calculates, up to `closer`."""
        opener, open_brackets = ("[" if closer == "]" else "("), 0
        self._deeper()
        self.calculating += 1
        while self.at < len(self.items):
            item = self.items[self.at]
            if not open_brackets and self.ahead(closer):
                self.copy(len(closer))
                break
            if item == "'":
                self.copy(1)
                self._single()
            elif item == '"':
                self.copy(1)
                self._double()
            else:
                open_brackets += (item == opener) - (item == closer[0] and open_brackets > 0)
                self.expandable(item)
        self.calculating -= 1
        self.depth -= 1

    def _parameter(self, *, in_double: bool) -> None:
        """Read `${name…}` from behind its brace."""
        name = _PARAMETER.match(self.text, self.at)
        self.copy(len(name[0]) if name else 0)
        if self.peek() == "[":
            self.copy(1)
            self.arithmetic("]")
        operator, following = self.peek(), self.text[self.at + 1 : self.at + 2]
        offset = operator == ":" and following not in set("-=+?")
        is_word = not offset and operator in {"-", "=", "+", "?", ":"}
        self._deeper()
        self.calculating += offset
        self._parameter_word(bare=in_double and is_word)
        self.calculating -= offset
        self.depth -= 1

    def _parameter_word(self, *, bare: bool) -> None:
        """Read up to the brace that closes a parameter; `bare`: quotes around it hold in here."""
        while self.at < len(self.items):
            item = self.items[self.at]
            if isinstance(item, Reference):
                quote = "" if bare else '"'
                self.refer(item, quote, quote)
            elif item == "}":
                self.copy(1)
                return
            elif item == "'" and not bare:
                self.copy(1)
                self._single()
            elif item == '"':
                self.copy(1)
                self._double()
            elif item == "\\" and not bare and isinstance(self.peek(1), Reference):
                self.at += 1
            else:
                self.expandable(item)

    def _backquoted(self, *, in_double: bool) -> None:
        """Write a substitution with values in it as `$( )`: in there, quotes are its own."""
        special = '`\\$"' if in_double else "`\\$"
        inner: list[str | Reference] = []
        at = self.at + 1
        while at < len(self.items) and self.items[at] != "`":
            item = self.items[at]
            if item == "\\" and self.text[at + 1 : at + 2] in set(special):
                at += 1
                item = self.items[at]
            inner.append(item)
            at += 1
        stop = min(at + 1, len(self.items))
        if at < len(self.items) and any(isinstance(item, Reference) for item in inner):
            self._deeper()
            reader = type(self)(inner, self.depth, self.evaluated)
            reader.code("")
            self.depth -= 1
            self.out.extend(["$( ", *reader.out, "\n)"])
            self.at = stop
        else:
            self.raw(stop)

    def raw(self, stop: int) -> None:
        """Copy what nothing is to be read into."""
        while self.at < stop:
            item = self.items[self.at]
            if isinstance(item, Reference):
                self.refer(item)
            else:
                self.copy(1)
