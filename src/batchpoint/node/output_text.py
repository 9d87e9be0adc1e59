"""Rows as text: the header, and frames rendered anew when their columns are not the output's.

The text is the worker's (decision 0001): RFC 4180 with line feeds and quotes only where needed, or
one compact JSON object per row.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from batchpoint.core.assembly import Column

_NEEDS_QUOTES = re.compile('[,"\r\n]')


class Malformed(ValueError):
    """The text of a frame does not have the columns that its part says it has."""


def fits(render: str, columns: Sequence[Column], union: Sequence[Column]) -> bool:
    """Tell whether rows with `columns` can stand as they are under the output's columns.

    Args:
        render: "csv" or "jsonl"; any other text has no columns and always fits.
        columns: (name, type) of what the rows have.
        union: (name, type) of what they shall have.
    """
    if render not in ("csv", "jsonl"):
        return True
    if [name for name, _ in columns] != [name for name, _ in union]:
        return False
    pairs = [(kind, wanted) for (_, kind), (_, wanted) in zip(columns, union, strict=True)]
    if render == "csv":
        return ("int", "float") not in pairs  # the text of all other cells is the same
    return all(kind in (wanted, "null") for kind, wanted in pairs)


def csv_header(columns: Sequence[Column]) -> bytes:
    """Return the header line, or nothing when there are no columns."""
    return _csv_line([name for name, _ in columns]).encode("utf-8", "backslashreplace")


def csv_anew(text: str, columns: Sequence[Column], union: Sequence[Column]) -> bytes:
    """Render rows of CSV with the columns of the output.

    Args:
        text: rows without header.
        columns: what they have.
        union: what they shall have; cells they lack are empty.

    Raises:
        Malformed: a row does not have as many cells as there are columns.
    """
    position = {name: index for index, (name, _) in enumerate(columns)}
    places = [position.get(name, -1) for name, _ in union]
    floats = _widened_to_float(columns, union)
    # The limit is one of the whole process and guards against nothing here.
    csv.field_size_limit(sys.maxsize)
    lines: list[str] = []
    for row in csv.reader(io.StringIO(text, newline=""), strict=True):
        if len(row) != len(columns):
            raise Malformed(f"a row has {len(row)} cells in place of {len(columns)}")
        for index in floats:
            if row[index]:
                row[index] = repr(_float(int(row[index])))
        lines.append(_csv_line([row[place] if place >= 0 else "" for place in places]))
    return "".join(lines).encode("utf-8", "backslashreplace")


def _csv_line(cells: Sequence[str]) -> str:
    if len(cells) == 1 and not cells[0]:
        return '""\n'  # an empty line would be no row to most readers
    return (
        ",".join(
            '"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell
            for cell in cells
        )
        + "\n"
        if cells
        else ""
    )


def _widened_to_float(columns: Sequence[Column], union: Sequence[Column]) -> list[int]:
    types = dict(union)
    return [
        index
        for index, (name, kind) in enumerate(columns)
        if kind == "int" and types[name] == "float"
    ]


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)


def jsonl_anew(text: str, columns: Sequence[Column], union: Sequence[Column]) -> bytes:
    """Render rows of JSON Lines with the columns of the output.

    Args:
        text: one object per line.
        columns: what they have.
        union: what they shall have; cells they lack are null.

    Raises:
        Malformed: a line is not an object.
    """
    kinds = dict(columns)
    cells = [(name, _json_cell(kinds.get(name, kind), kind)) for name, kind in union]
    lines: list[str] = []
    for row in _objects(text):
        anew = {name: cell(row.get(name)) for name, cell in cells}
        lines.append(json.dumps(anew, ensure_ascii=False, separators=(",", ":")) + "\n")
    return "".join(lines).encode("utf-8", "backslashreplace")


def _objects(text: str) -> Iterator[Mapping[str, object]]:
    for line in text.split("\n"):
        if line:
            try:
                row = json.loads(line)
            except ValueError as error:
                raise Malformed(f"a line is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise Malformed("a line is not a JSON object")
            yield row


def _json_cell(kind: str, wanted: str) -> Callable[[object], object]:
    """Choose how cells of one column type become cells of another."""
    if kind == "int" and wanted == "float":
        return _json_float
    if kind != wanted and wanted == "string":
        return _json_text
    return _same


def _same(value: object) -> object:
    return value


def _json_float(value: object) -> object:
    if not isinstance(value, int):
        return value
    number = _float(value)
    return number if math.isfinite(number) else None


def _json_text(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
