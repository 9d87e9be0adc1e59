"""Cutting one big text file into byte ranges that end where records end.

Rows are counted as pandas counts them: blank lines are none, and a line end within quotes ends no
record. Files are read once, as a stream, with no more than about one range in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

# A record longer than this is taken for a quote that never ends.
RECORD_BYTES_MAX = 64 * 1024 * 1024
HEADER_BYTES_MAX = 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_BLANK_AHEAD = re.compile(rb"\n[ \t\r\n]")
_FILLED_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
# One record with its line end; group 1 is a blank line. A field is quoted only when it begins with
# a quote; what follows its closing quote belongs to it, and quotes elsewhere mean themselves.
_FIELD = rb'(?:"(?:[^"]|"")*+"[^,\r\n]*+|[^",\r\n][^,\r\n]*+|)'
_RECORD = re.compile(rb'([ \t]*+\r?\n)|(?:[^"\r\n]*+|' + _FIELD + rb"(?:," + _FIELD + rb")*+)\r?\n")


class Cut(NamedTuple):
    """Bytes `start` to `stop` of a file, which hold `rows` whole records, the first of them `row`.

    `rows` is -1 where it was not counted: in a rest of the file that cannot be cut.
    """

    start: int
    stop: int
    row: int
    rows: int


class _Scan(NamedTuple):
    """The end of the last whole record in a piece of text, and how many records end by then."""

    end: int
    rows: int


class _Uncuttable(Exception):
    """The text has line ends or quotes of which only a CSV parser knows what they mean."""


def cut_csv(path: Path, target_bytes: int) -> Iterator[Cut]:
    """Cut a CSV file, its header excluded, into ranges of about `target_bytes`.

    A file that cannot be cut safely (lone carriage returns as line ends, a header over several
    lines, a quote that never ends) gives one last range for the rest of it, so that a file that
    cannot be cut at all gives exactly one. One with no rows gives none.

    Args:
        path: an uncompressed CSV file.
        target_bytes: the size of a range, at least 1; a longer record makes a longer range.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        yield from cut_csv_stream(file, os.fstat(file.fileno()).st_size, target_bytes)


def cut_jsonl(path: Path, target_bytes: int) -> Iterator[Cut]:
    """Cut a file of JSON Lines into ranges of about `target_bytes`; see `cut_csv`."""
    with path.open("rb") as file:
        yield from cut_jsonl_stream(file, os.fstat(file.fileno()).st_size, target_bytes)


class ByteStream(Protocol):
    """Bytes that are read once, from the first to the last."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none only at the end."""
        ...

    def readline(self, size: int, /) -> bytes:
        """Return the bytes up to a line end, at most `size`."""
        ...


def cut_csv_stream(file: ByteStream, size: int, target_bytes: int) -> Iterator[Cut]:
    """Cut a CSV file of `size` bytes as it is read; see `cut_csv`."""
    header = file.readline(HEADER_BYTES_MAX)
    if _is_simple(header):
        yield from _cuts(file, size, len(header), target_bytes, _scan_csv)
    elif size > len(header):
        yield Cut(len(header), size, 0, -1)


def cut_jsonl_stream(file: ByteStream, size: int, target_bytes: int) -> Iterator[Cut]:
    """Cut a file of JSON Lines of `size` bytes as it is read; see `cut_csv`."""
    yield from _cuts(file, size, 0, target_bytes, _scan_lines)


def _is_simple(header: bytes) -> bool:
    """Tell whether the first line is the whole header, and only that."""
    line = header.removeprefix(_BOM).removesuffix(b"\n").removesuffix(b"\r")
    whole = header.endswith(b"\n") and b"\r" not in line
    return whole and bool(line.strip(b" \t")) and line.count(b'"') % 2 == 0


def _cuts(
    file: ByteStream,
    size: int,
    begin: int,
    target_bytes: int,
    scan: Callable[[bytes, bool], _Scan],
) -> Iterator[Cut]:
    start, row = begin, 0
    pending = b""
    wanted = target_bytes
    while True:
        more = file.read(max(wanted - len(pending), 1))
        pending += more
        if not pending:
            return
        try:
            end, rows = scan(pending, not more)
        except _Uncuttable:
            end, rows = 0, 0
        else:
            if not end and more and len(pending) <= RECORD_BYTES_MAX:
                # A record longer than a range: doubling keeps it from being scanned ever again.
                wanted = 2 * max(wanted, len(pending))
                continue
        if not end:
            yield Cut(start, size, row, -1)
            return
        if rows:
            yield Cut(start, start + end, row, rows)
        start, row = start + end, row + rows
        pending = pending[end:]
        wanted = target_bytes


def _scan_csv(text: bytes, last: bool) -> _Scan:  # noqa: FBT001
    """Scan text that begins where a record begins; `last`: nothing follows it."""
    if b"\r" in text:
        # A carriage return at the very end may yet get its line feed.
        lone = text.count(b"\r") - text.count(b"\r\n") - (text.endswith(b"\r") and not last)
        if lone:
            raise _Uncuttable
    if b'"' not in text:
        return _scan_lines(text, last)
    end, rows = _scan_quoted(text + b"\n" if last else text)
    return _Scan(min(end, len(text)), rows)


def _scan_lines(text: bytes, last: bool) -> _Scan:  # noqa: FBT001
    end = len(text) if last else text.rfind(b"\n") + 1
    return _Scan(end, _filled_lines(text[:end]))


def _filled_lines(text: bytes) -> int:
    """Return the number of lines that are not blank."""
    if text[:1] in b" \t\r\n" or _BLANK_AHEAD.search(text):
        return sum(1 for _ in _FILLED_LINE.finditer(text))
    return text.count(b"\n") + (not text.endswith(b"\n"))


def _scan_quoted(text: bytes) -> _Scan:
    """Scan text with quotes up to the last record that is whole."""
    end = rows = 0
    for record in _RECORD.finditer(text):
        if record.start() != end:
            break
        end = record.end()
        rows += record.lastindex is None
    return _Scan(end, rows)
