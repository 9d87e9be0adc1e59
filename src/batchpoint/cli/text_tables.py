"""Text for terminals: safe to print, fitted to a width, numbers and times as people read them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

_GAP = 2
_CELL_WIDTH_MIN = 6
_HASH = re.compile(r"\b[0-9a-f]{32,}\b")
_HASH_DIGITS = 12
_UNSAFE = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)


def safe(text: str) -> str:
    """Remove what could drive a terminal (escape sequences, control and direction characters)."""
    return _UNSAFE.sub("", text)


def one_line(text: str) -> str:
    """Put text on one line."""
    return " ".join(safe(text.replace("\n", " ").replace("\r", " ")).split())


def short_hash(text: str) -> str:
    """Shorten the hashes in a text, as in the names of anonymous assets."""
    return _HASH.sub(lambda found: found[0][:_HASH_DIGITS] + "…", text)


def width_of(text: str) -> int:
    """Count the columns that text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def cut(text: str, width: int) -> str:
    """Shorten one line to a width, the last column being an ellipsis."""
    if width_of(text) <= width:
        return text
    kept = text[: max(width - 1, 0)]
    while kept and width_of(kept) > width - 1:
        kept = kept[:-1]
    return f"{kept}…" if width > 0 else ""


def wrapped(text: str, width: int) -> list[str]:
    """Break one line into lines of at most `width` columns, between words where possible."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width_of(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        rest = word
        while width_of(rest) > width:
            fits = next(n for n in range(len(rest), 0, -1) if n == 1 or width_of(rest[:n]) <= width)
            lines[-1:] = [rest[:fits], ""]
            rest = rest[fits:]
        lines[-1] = rest
    return lines


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    whole: Collection[str] = (),
    wrap_last: bool = False,
) -> str:
    """Lay out rows below headers; the widest columns give way until all fits `width` columns.

    Columns with headers in `whole` give way last: names that are cut cannot be copied. With
    `wrap_last` the cells of the last column are broken into lines where others are cut.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    sizes = [
        max([width_of(header), *(width_of(row[index]) for row in cells)])
        for index, header in enumerate(headers)
    ]
    room = width - _GAP * (len(headers) - 1)
    _fit(sizes, room, [index for index, header in enumerate(headers) if header not in whole])
    _fit(sizes, room, range(len(headers)))
    numeric = [
        bool(cells) and all(_numeric(row[index]) for row in cells) for index in range(len(headers))
    ]
    lines = [_row(headers, sizes, numeric), _row(["-" * size for size in sizes], sizes, numeric)]
    for row in cells:
        last = wrapped(row[-1], sizes[-1]) if wrap_last and row else row[-1:]
        lines.append(_row([*row[:-1], *last[:1]], sizes, numeric))
        lines += [_row([""] * (len(row) - 1) + [more], sizes, numeric) for more in last[1:]]
    return "\n".join(lines)


def _fit(sizes: list[int], room: int, giving: Sequence[int]) -> None:
    """Make the widest of the columns that give way narrower until all fit."""
    while giving and sum(sizes) > room:
        widest = max(giving, key=lambda index: sizes[index])
        if sizes[widest] <= _CELL_WIDTH_MIN:
            return
        second = max([_CELL_WIDTH_MIN, *(sizes[i] for i in giving if sizes[i] < sizes[widest])])
        sizes[widest] = max(second - (second == sizes[widest]), sizes[widest] - (sum(sizes) - room))


def _numeric(cell: str) -> bool:
    return re.fullmatch(r"-?[\d,]+(\.\d+)?(e[+-]?\d+)?|", cell) is not None


def _row(cells: Sequence[str], sizes: Sequence[int], numeric: Sequence[bool]) -> str:
    parts: list[str] = []
    for cell, size, right in zip(cells, sizes, numeric, strict=True):
        text = cut(cell, size)
        space = " " * (size - width_of(text))
        parts.append(space + text if right else text + space)
    return (" " * _GAP).join(parts).rstrip()


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Write a number with its noun: "1 file", "2,000 files"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def short_number(number: float) -> str:
    """Write a number in at most five characters: 950, 8.2k, 3.1M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.9995:
            scaled = number / limit
            return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"
    return f"{number:.0f}" if number >= 9.95 or number == int(number) else f"{number:.1f}"


def duration(seconds: float) -> str:
    """Write a length of time: 0.4s, 12s, 3m50s, 2h05m, 3d4h."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"


def between(start: datetime | None, end: datetime | None) -> str:
    """Write the time between two moments; nothing when one is unknown."""
    if start is None or end is None:
        return ""
    return duration(max(end - start, timedelta(0)).total_seconds())


def moment(when: datetime | None) -> str:
    """Write a moment in UTC to the second."""
    return "" if when is None else when.strftime("%Y-%m-%d %H:%M:%SZ")
