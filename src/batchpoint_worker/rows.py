r"""Rows: a table of cells and its rendering to the bytes that a frame carries.

The text of CSV is RFC 4180 with `\n`, no header, quotes only where needed, floats as Python writes
them, `true`/`false`, and nothing for null and NaN. JSONL is one compact object per row.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from batchpoint_worker import arrow_text, cells
from batchpoint_worker.cells import Cell

CSV, JSONL, ARROW, AZURE, NONE = "csv", "jsonl", "arrow", "azure", "none"

FILE_COLUMN = "_file"
ROW_COLUMN = "_row"
RESERVED = (FILE_COLUMN, ROW_COLUMN)

_NEEDS_QUOTES = re.compile('[,"\\r\\n]')


class Column:
    """A named column of cells of one type.

    Made either of cells at once, or of a loader that makes them when they are first asked for, with
    the pyarrow array of the same values, which renders faster and keeps its exact type in Arrow.
    Where `type_name` is given, the values are of that type, and it is the type even of no values.
    """

    __slots__ = ("_cells", "_load", "_type", "arrow", "name")

    def __init__(
        self,
        name: str,
        values: Optional[List[Cell]] = None,
        *,
        load: Optional[Callable[[], List[Cell]]] = None,
        arrow: Any = None,
        type_name: Optional[str] = None,
    ) -> None:
        self.name = name
        self.arrow = arrow
        self._cells = values
        self._load = load
        self._type = type_name
        if values is not None and type_name is None:
            self._settle(values)

    def _settle(self, values: List[Cell]) -> List[Cell]:
        self._type = cells.type_of(values)
        self._cells = cells.fitted(values, self._type)
        return self._cells

    @property
    def cells(self) -> List[Cell]:
        """The cells, all None or of the column's type."""
        if self._cells is None:
            assert self._load is not None
            self._cells = self._load()
            if self._type is None:
                self._settle(self._cells)
        return self._cells

    @property
    def type(self) -> str:
        """The column's type as protocol.py names it."""
        if self._type is None and self.arrow is not None:
            self._type = arrow_text.type_of(self.arrow)
        if self._type is None:
            self._settle(self.cells)
        assert self._type is not None
        return self._type

    def texts(self) -> List[str]:
        """Return the unquoted texts of the cells."""
        return cells.texts(self.cells, self.type)


class Table:
    """Columns of equal length, `count` rows of them (which may be there without columns)."""

    __slots__ = ("columns", "count")

    def __init__(self, columns: List[Column], count: int) -> None:
        self.columns = columns
        self.count = count


class Rendered(NamedTuple):
    """Rendered rows: the bytes, how many rows, (name, type) of the columns, and the encoding."""

    data: bytes
    rows: int
    columns: List[Tuple[str, str]]
    encoding: str


def source_columns(files: Sequence[str], rows: Optional[Sequence[int]] = None) -> List[Column]:
    """Return our columns: `_file`, and `_row` where the rows are known.

    Args:
        files: the item's name for each row, or "" where it is not known.
        rows: number of each row within its original file, from 0.
    """
    ours = [Column(FILE_COLUMN, [name or None for name in files], type_name="string")]
    if rows is not None:
        ours.append(Column(ROW_COLUMN, list(rows), type_name="int"))
    return ours


def render(table: Table, style: str) -> Rendered:
    """Render a table as "csv", "jsonl", "arrow" or "none" (which counts only)."""
    if style == NONE:
        return Rendered(b"", table.count, [], NONE)
    if style == ARROW and "pyarrow" not in sys.modules:
        try:
            importlib.import_module("pyarrow")
        except ImportError:
            style = JSONL
    renderer = {CSV: _csv, JSONL: _jsonl, ARROW: _arrow}[style]
    data = renderer(table) if table.count or style == ARROW else b""
    columns = [(column.name, column.type) for column in table.columns]
    return Rendered(data, table.count, columns, style)


def csv_cells(texts: List[str]) -> List[str]:
    """Return texts with quotes where CSV needs them."""
    if not _NEEDS_QUOTES.search("\0".join(texts)):
        return texts
    return [csv_cell(text) for text in texts]


def csv_cell(text: str) -> str:
    """Return one text as a CSV field."""
    if _NEEDS_QUOTES.search(text):
        return '"%s"' % text.replace('"', '""')
    return text


def encoded(text: str) -> bytes:
    """Encode as UTF-8; what it cannot hold (bytes of odd file names) is written as an escape."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _csv(table: Table) -> bytes:
    fast = arrow_text.csv_of(table.columns)
    if fast is not None:
        return fast
    columns: List[Sequence[str]] = []
    for column in table.columns:
        texts = column.texts()
        columns.append(csv_cells(texts) if column.type in ("string", "json") else texts)
    if len(columns) == 1:  # an empty line would be no row to most readers
        columns = [[text or '""' for text in columns[0]]]
    return encoded("\n".join(map(",".join, zip(*columns))) + "\n")


def _jsonl(table: Table) -> bytes:
    keys = [json.dumps(column.name, ensure_ascii=False) + ":" for column in table.columns]
    columns: List[List[str]] = []
    for key, column in zip(keys, table.columns):
        columns.append([key + cells.json_cell(cell) for cell in column.cells])
    return encoded("".join(["{%s}\n" % ",".join(row) for row in zip(*columns)]))


def _arrow(table: Table) -> bytes:
    pa: Any = importlib.import_module("pyarrow")

    arrays = [arrow_text.array_of(column) for column in table.columns]
    batch = pa.Table.from_arrays(arrays, names=[column.name for column in table.columns])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    return sink.getvalue().to_pybytes()


def joined(tables: Sequence[Table]) -> Table:
    """Return the tables one below the other: columns by name, in the order they first came."""
    names = list(dict.fromkeys(column.name for table in tables for column in table.columns))
    columns: List[Column] = []
    for name in names:
        values: List[Any] = []
        for table in tables:
            found = [column for column in table.columns if column.name == name]
            values.extend(found[0].cells if found else [None] * table.count)
        columns.append(Column(name, values))
    return Table(columns, sum(table.count for table in tables))


def unique_names(names: Sequence[str]) -> List[str]:
    """Return column names of which none occurs twice: a repeated `x` becomes `x.1`, `x.2`."""
    taken: Dict[str, int] = {}
    unique: List[str] = []
    for name in names:
        candidate = name
        while candidate in taken:
            taken[name] += 1
            candidate = "%s.%d" % (name, taken[name])
        taken[candidate] = taken.get(candidate, 0)
        unique.append(candidate)
    return unique
