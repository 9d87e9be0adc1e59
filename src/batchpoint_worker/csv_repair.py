"""A CSV text that does not fit the signature: its good rows, and what is wrong with the others.

Slow and careful: it runs only on a file that pandas has already refused. What converts is decided
by pandas itself, on the distinct values of each column.
"""

from __future__ import annotations

import codecs
import csv
import importlib
import io
import re
import sys
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    cast,
)

from batchpoint_worker.failures import bounded
from batchpoint_worker.sources import Bad, Batch, Text, batch_of, invalid_row, unreadable

Parse = Callable[[bytes, Any], Any]

Record = Tuple[int, List[str]]
"""Line number of its end, and fields."""

Faults = Dict[int, List[str]]
"""What is wrong with rows, by their index in the text: a sentence for each wrong column."""

# Values that do not look like a number or a truth value are tried one by one, up to so many for a
# column; from there on their looks decide.
TRIED_VALUES_MAX = 200
SHOWN_CHARS_MAX = 60
SHOWN_COLUMNS_MAX = 3

_LOOKS = {
    "int32": re.compile(r"[+-]?[0-9]{1,9}"),
    "int64": re.compile(r"[+-]?[0-9]{1,18}"),
    "float32": re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
    "float64": re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)"),
}
_USUAL = {"int32": "1", "int64": "1", "float32": "0.5", "float64": "0.5", "bool": "true"}
_WANTED = {
    "int32": "a whole number of 32 bits",
    "int64": "a whole number",
    "float32": "a number",
    "float64": "a number",
    "bool": "true or false",
}


class Repaired(NamedTuple):
    """The good rows (None when there are none), the failures, and how many rows there were."""

    batch: Optional[Batch]
    bad: List[Bad]
    rows: int


def repair(text: Text, dtype: Any, problem: Exception, parse: Parse) -> Repaired:
    """Return what can be had of a text that `parse` refused with `problem`."""
    sentence, whole = _decoded(text)
    records: List[Record] = []
    if not sentence:
        try:
            records = list(_records(whole))
        except csv.Error as broken:
            sentence = "cannot be read as CSV: %s" % broken
        if "EOF inside string" in str(problem):
            sentence = "has a quoted field that never ends; pandas says: %s" % _first_line(problem)
    if not sentence and not records:
        sentence = "is empty: not even a header"
    if sentence:
        return _whole(text, sentence)
    (_, header), rows = records[0], records[1:]
    alike: Dict[str, str] = dict.fromkeys(header, dtype or "")
    types = cast("Dict[str, str]", dtype) if isinstance(dtype, dict) else alike
    faults = _too_long(header, rows)
    if rows and len(faults) == len(rows):
        return _whole(text, _first_fault(faults) + ", as have all others", len(rows))
    fitting = [index for index in range(len(rows)) if index not in faults]
    for place, name in enumerate(header):
        type_name = types.get(name) or ""
        if type_name in _LOOKS:
            values = [(index, _field(rows[index][1], place)) for index in fitting]
            _check_column(name, type_name, values, faults, parse)
    return _good_rows(text, header, rows, faults, dtype, problem, parse)


def _decoded(text: Text) -> Tuple[str, str]:
    """Return (what is wrong with the encoding, "" for nothing; the text)."""
    if text.header[:2] == b"\x1f\x8b":
        return "is gzip-compressed; a name that ends in .csv.gz would say so", ""
    try:
        return "", (text.header + text.body).decode("utf-8")
    except UnicodeDecodeError as undecodable:
        return _wrong_encoding(text, undecodable.start), ""


def _whole(text: Text, sentence: str, count: int = 0) -> Repaired:
    return Repaired(None, [unreadable(text.place, "%s %s" % (text.name, sentence))], count)


def _wrong_encoding(text: Text, offset: int) -> str:
    data = text.header + text.body
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "is UTF-16 text; save it as UTF-8"
    row = max(0, data.count(b"\n", 0, offset) - 1) + text.row
    return "is not UTF-8 text: byte 0x%02x near row %d; save it as UTF-8" % (data[offset], row)


def _records(whole: str) -> Iterator[Record]:
    """Yield (line number, fields) of each record, the header included, blank lines left out."""
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(whole, newline=""))
    for fields in reader:
        if fields and not (len(fields) == 1 and fields[0] and not fields[0].strip(" \t")):
            yield reader.line_num, fields


def _first_line(problem: Exception) -> str:
    return bounded((str(problem).strip() or type(problem).__name__).split("\n")[0], 500)


def _first_fault(faults: Faults) -> str:
    first = min(faults)
    return "row %d %s" % (first, faults[first][0])


def _too_long(header: List[str], rows: Sequence[Record]) -> Faults:
    width = allowed = len(header)
    longest = len(rows[0][1]) if rows else 0
    # pandas overlooks a delimiter at the end of the lines, if the first one has it as well.
    if longest > width and not any(any(f[width:]) for _, f in rows if len(f) <= longest):
        allowed = longest
    return {
        index: ["has %d fields where the header has %d" % (len(fields), width)]
        for index, (_, fields) in enumerate(rows)
        if len(fields) > allowed
    }


def _field(fields: List[str], place: int) -> str:
    return fields[place] if place < len(fields) else ""


def _check_column(
    name: str, type_name: str, values: Sequence[Tuple[int, str]], faults: Faults, parse: Parse
) -> None:
    """Add to `faults` the rows of (row, value) in one column that do not convert."""
    refused = _refused(sorted({value for _, value in values}), type_name, parse)
    if not refused:
        return
    for index, value in values:
        if value in refused:
            has = "has %r" % bounded(value, SHOWN_CHARS_MAX) if value.strip() else "has no value"
            fault = "column %r must be %s and %s" % (name, _WANTED[type_name], has)
            faults.setdefault(index, []).append(fault)


def _refused(values: Sequence[str], type_name: str, parse: Parse) -> FrozenSet[str]:
    """Return the set of those values that pandas does not read as the type."""
    if _converts(values, type_name, parse):
        return frozenset()
    looks = _LOOKS[type_name].fullmatch
    odd = [value for value in values if not looks(value)]
    refused = {
        value for value in odd[:TRIED_VALUES_MAX] if not _converts([value], type_name, parse)
    }
    refused.update(odd[TRIED_VALUES_MAX:])
    if _converts([value for value in values if value not in refused], type_name, parse):
        return frozenset(refused)
    # Some pass alone but not in company: "true" is 1 where no number stands beside it.
    usual = _USUAL[type_name]
    refused.update(v for v in odd[:TRIED_VALUES_MAX] if not _converts([usual, v], type_name, parse))
    return frozenset(refused)


def _converts(values: Sequence[str], type_name: str, parse: Parse) -> bool:
    # The second column keeps an empty value from being a blank line, which would be skipped.
    try:
        parse(_csv_bytes([["x", "y"], *([value, "0"] for value in values)]), {"x": type_name})
    except (ValueError, OverflowError, TypeError):
        return False
    return True


def _csv_bytes(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8")


def _good_rows(
    text: Text,
    header: List[str],
    rows: Sequence[Record],
    faults: Faults,
    dtype: Any,
    problem: Exception,
    parse: Parse,
) -> Repaired:
    np: Any = importlib.import_module("numpy")
    count, width = len(rows), len(header)
    kept = [index for index in range(count) if index not in faults]
    good = [rows[index][1] for index in kept]
    lines = [header, *(fields[:width] + [""] * (width - len(fields)) for fields in good)]
    try:
        frame = parse(_csv_bytes(lines), dtype)
    except (ValueError, OverflowError, TypeError) as still:
        return _whole(text, "does not fit the signature: %s" % _first_line(still), count)
    if len(frame) != len(kept) or not faults:
        return _whole(text, "does not fit the signature: %s" % _first_line(problem), count)
    bad: List[Bad] = []
    for index in sorted(faults):
        said = faults[index][:SHOWN_COLUMNS_MAX]
        more = len(faults[index]) - len(said)
        sentence = "; ".join(said) + ("; and %d more columns" % more if more else "")
        where = "%s, row %d (line %d)" % (text.name, text.row + index, rows[index][0])
        bad.append(invalid_row(text.place, text.row + index, "%s: %s" % (where, sentence)))
    if not kept:
        return Repaired(None, bad, count)
    batch = batch_of(frame, [text], [len(frame)])
    batch.row = np.asarray(kept, dtype=np.int64) + text.row
    return Repaired(batch, bad, count)
