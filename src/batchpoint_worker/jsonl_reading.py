"""JSON Lines items: one object a line, converted by the signature as MLflow's server does it."""

from __future__ import annotations

import base64
import importlib
import json
import math
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

from batchpoint_worker.failures import bounded
from batchpoint_worker.mlmodel import NUMPY_NAMES, InputColumn
from batchpoint_worker.sources import (
    Bad,
    Reading,
    Text,
    batch_of,
    invalid_row,
    unreadable,
)

SHOWN_CHARS_MAX = 60

_FLOAT_MAX = int(sys.float_info.max)
_RANGES = {"integer": 1 << 31, "long": 1 << 63}
_WANTED = {
    "boolean": "true or false",
    "integer": "a whole number of 32 bits",
    "long": "a whole number",
    "float": "a number",
    "double": "a number",
    "datetime": "a date and time",
    "binary": "base64 text",
}


def read(texts: Sequence[Text], columns: Optional[Sequence[InputColumn]]) -> Reading:
    """Read texts, each to a batch of its own.

    Args:
        texts: what to read; headers are empty.
        columns: the signature's columns, None without one: types are then what pandas infers.
    """
    reading = Reading([], [], {})
    pd: Any = importlib.import_module("pandas")
    for text in texts:
        try:
            lines = text.body.decode("utf-8-sig" if text.row == 0 else "utf-8").split("\n")
        except UnicodeDecodeError as problem:
            row = text.body.count(b"\n", 0, problem.start) + text.row
            sentence = "%s is not UTF-8 text near row %d; save it as UTF-8" % (text.name, row)
            reading.bad.append(unreadable(text.place, sentence))
            continue
        records, rows, bad = _records(text, [line for line in lines if line.strip(" \t\r")])
        reading.counts[text.place] = len(records) + len(bad)
        if columns is None:
            frame = pd.DataFrame(records)
        else:
            frame, records, rows = _typed(pd, text, records, rows, columns, bad)
        reading.bad.extend(bad)
        if rows or not bad:
            batch = batch_of(frame, [text], [len(frame)])
            if len(rows) < reading.counts[text.place]:
                np: Any = importlib.import_module("numpy")
                batch.row = np.asarray(rows, dtype=np.int64) + text.row
            reading.batches.append(batch)
    return reading


def _records(text: Text, lines: List[str]) -> Tuple[List[Dict[str, Any]], List[int], List[Bad]]:
    records: List[Dict[str, Any]] = []
    rows: List[int] = []
    bad: List[Bad] = []
    for row, line in enumerate(lines):
        try:
            record: Any = json.loads(line)
            said = "" if isinstance(record, dict) else "is no JSON object"
        except (ValueError, RecursionError) as problem:
            record, said = None, "is not JSON: %s" % problem
        if said:
            where = "%s, row %d" % (text.name, text.row + row)
            shown = bounded(line, SHOWN_CHARS_MAX)
            sentence = "%s %s; it begins with %s" % (where, said, shown)
            bad.append(invalid_row(text.place, text.row + row, sentence))
        else:
            records.append(cast("Dict[str, Any]", record))
            rows.append(row)
    return records, rows, bad


def _typed(
    pd: Any,
    text: Text,
    records: List[Dict[str, Any]],
    rows: List[int],
    columns: Sequence[InputColumn],
    bad: List[Bad],
) -> Tuple[Any, List[Dict[str, Any]], List[int]]:
    """Return the frame of the good records, those records and their rows; adds to `bad`."""
    present = [c for c in columns if not records or any(c.name in record for record in records)]
    faults: Dict[int, str] = {}
    arrays: Dict[str, Any] = {}
    for column in present:
        values = [record.get(column.name) for record in records]
        arrays[column.name], wrong = convert(values, column.type)
        for index in wrong:
            has = "has no value" if values[index] is None else "has %s" % _shown(values[index])
            fault = "column %r must be %s and %s" % (column.name, _WANTED[column.type], has)
            faults[index] = "%s; %s" % (faults[index], fault) if index in faults else fault
    if not faults:
        return pd.DataFrame(arrays, index=range(len(records))), records, rows
    for index in sorted(faults):
        row = text.row + rows[index]
        bad.append(invalid_row(text.place, row, "%s, row %d: %s" % (text.name, row, faults[index])))
    kept = [index for index in range(len(records)) if index not in faults]
    good = [records[index] for index in kept]
    return _typed(pd, text, good, [rows[index] for index in kept], columns, bad)


def _shown(value: Any) -> str:
    return bounded(json.dumps(value, ensure_ascii=False), SHOWN_CHARS_MAX)


def convert(values: List[Any], type_name: str) -> Tuple[Any, List[int]]:
    """Return a column's numpy array, and the indices of values that do not convert.

    The array is of use only when there are none. Numbers are never rounded nor read from text: a
    whole number may be written as 3.0, and a missing one is null only where floats are asked for.
    """
    np: Any = importlib.import_module("numpy")
    if type_name in ("datetime", "binary"):
        return _each(values, _moment if type_name == "datetime" else _bytes, type_name)
    fits = _FITS.get(type_name)
    if fits is not None and not _all_usual(values, type_name):
        wrong = [index for index, value in enumerate(values) if not fits(value)]
        if wrong:
            return None, wrong
        if type_name in _RANGES:
            values = list(map(int, values))
        elif type_name != "boolean":
            values = [math.nan if value is None else value for value in values]
    if fits is not None:
        return np.asarray(values, dtype=NUMPY_NAMES[type_name]), []
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    return array, []


def _is_whole(value: Any, limit: int) -> bool:
    if type(value) is float:
        return value.is_integer() and -limit <= value < limit
    return type(value) is int and -limit <= value < limit


def _is_number(value: Any) -> bool:
    if type(value) is int:  # it may be too large for any float
        return abs(value) <= _FLOAT_MAX
    return value is None or type(value) is float


_FITS: Dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: type(value) is bool,
    "integer": lambda value: _is_whole(value, _RANGES["integer"]),
    "long": lambda value: _is_whole(value, _RANGES["long"]),
    "float": _is_number,
    "double": _is_number,
}


def _all_usual(values: List[Any], type_name: str) -> bool:
    """Tell, sooner than by a look at each value, that all fit: they are of the one usual type."""
    kinds = set(map(type, values))
    if type_name in _RANGES:
        limit = _RANGES[type_name]
        return kinds == {int} and -limit <= min(values) and max(values) < limit
    return kinds == {bool if type_name == "boolean" else float}


def _each(values: List[Any], read_one: Any, type_name: str) -> Tuple[Any, List[int]]:
    np: Any = importlib.import_module("numpy")
    array = np.empty(len(values), dtype="datetime64[ns]" if type_name == "datetime" else object)
    wrong: List[int] = []
    for index, value in enumerate(values):
        try:
            array[index] = read_one(value)
        except (ValueError, TypeError, OverflowError):
            wrong.append(index)
    return array, wrong


def _moment(value: Any) -> Any:
    pd: Any = importlib.import_module("pandas")
    moment = pd.to_datetime(value)
    if moment is None or pd.isna(moment):
        return pd.NaT.to_datetime64()
    if moment.tzinfo is not None:
        raise ValueError("a date with a time zone")
    return moment.to_datetime64()


def _bytes(value: Any) -> bytes:
    return base64.decodebytes(value.encode("utf-8")) if isinstance(value, str) else _refuse()


def _refuse() -> bytes:
    raise TypeError("no text")
