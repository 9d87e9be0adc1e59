"""Globs over the paths of items below a folder, and URIs that hold one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid

_ACROSS = "**"
_STAR = "*"


def compile_pattern(pattern: str, where: str | None = None) -> Callable[[str], bool]:
    """Return what tells whether a path below the folder matches as a whole, case-sensitively.

    `*` stands for any characters of one name, `?` for one of them, `[abc]`, `[a-z]` and `[!abc]`
    for one of (not of) a set, and `**` between slashes for any number of folders, none included
    (at the end: for everything below). Names that begin with a dot are like any other.

    Raises:
        Invalid: it is no pattern (`field_invalid`).
    """
    if not pattern or len(pattern) > limits.PATTERN_CHARS_MAX or "\0" in pattern:
        raise _refused(pattern, f"has to have 1 to {limits.PATTERN_CHARS_MAX} characters", where)
    names = pattern.split("/")
    if not all(names):
        raise _refused(pattern, "holds an empty name: remove the '/' that is too many", where)
    if names.count(_ACROSS) > limits.PATTERN_ACROSS_MAX:
        raise _refused(pattern, f"holds more than {limits.PATTERN_ACROSS_MAX} times '**'", where)
    parts: list[str] = []
    for place, name in enumerate(names):
        last = place == len(names) - 1
        if name == _ACROSS:
            parts.append(".+" if last else "(?:.*/)?")
        elif _ACROSS in name:
            raise _refused(pattern, "'**' has to stand alone between slashes", where)
        else:
            parts.append(_of_name(name, pattern, where) + ("" if last else "/"))
    matching = re.compile("".join(parts), re.DOTALL).fullmatch
    return lambda path: matching(path) is not None


def split_pattern(path: str, *, question_mark: bool = True) -> tuple[str, str] | None:
    """Split a path with wildcards into the folder before the first of them, and the pattern.

    None: there is no wildcard in it. `question_mark`: whether `?` is one (not so in URLs).
    """
    marks = "*?" if question_mark else "*"
    found = min((at for mark in marks if (at := path.find(mark)) >= 0), default=-1)
    if found < 0:
        return None
    slash = path.rfind("/", 0, found)
    return path[: slash + 1], path[slash + 1 :]


def _refused(pattern: str, why: str, where: str | None) -> Invalid:
    return Invalid(f"the pattern {pattern[:200]!r}: {why}", code="field_invalid", where=where)


def _of_name(name: str, pattern: str, where: str | None) -> str:
    """Turn the pattern of one name into a regular expression that never backtracks far.

    What follows a star is looked for once, at the first place where it fits; only the last star of
    a name may have to try again.
    """
    pieces: list[str] = [""]
    for token in _tokens(name, pattern, where):
        if token == _STAR:
            pieces.append("")
        else:
            pieces[-1] += token
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    found = "".join(f"(?>[^/]*?{piece})" for piece in middle if piece)
    return f"{first}{found}[^/]*{last}"


def _tokens(name: str, pattern: str, where: str | None) -> Iterator[str]:
    at = 0
    while at < len(name):
        letter = name[at]
        at += 1
        if letter == "*":
            yield _STAR
        elif letter == "?":
            yield "[^/]"
        elif letter == "[":
            # The first character of a set may be `]` itself, after a `!` as well.
            begin = at + 1 if name[at : at + 1] in ("!", "^") else at
            end = name.find("]", begin + 1)
            if end < 0:
                raise _refused(pattern, "a '[' has no ']'; write [[] for the bracket itself", where)
            yield _set_of(name[begin:end], pattern, where, outside=begin > at)
            at = end + 1
        else:
            yield re.escape(letter)


def _set_of(members: str, pattern: str, where: str | None, *, outside: bool) -> str:
    text = ""
    at = 0
    while at < len(members):
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            low, high = members[at], members[at + 2]
            if low > high:
                raise _refused(pattern, f"the range {low}-{high} is empty", where)
            text += f"{re.escape(low)}-{re.escape(high)}"
            at += 3
        else:
            text += re.escape(members[at])
            at += 1
    return f"(?!/)[{'^' if outside else ''}{text}]"
