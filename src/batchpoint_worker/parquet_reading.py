"""Parquet items: whole files or row groups, and where a file can be cut."""

from __future__ import annotations

import importlib
import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from batchpoint_worker.mlmodel import InputColumn
from batchpoint_worker.sources import Bad, Reading, Text, batch_of, invalid_row, unreadable

_WHOLE_NUMBERS = ("integer", "long")


class Groups(NamedTuple):
    """Row groups `start` to `stop` of the Parquet file at `path`; stop 0 means all of them."""

    place: int
    name: str
    row: int
    path: str
    start: int
    stop: int


def row_groups(path: str) -> List[Tuple[int, int, int, int]]:
    """Return (rows, bytes uncompressed, start, stop) of each row group of a Parquet file.

    Only the footer is read. `start` and `stop` bound the bytes of the file that hold the group.

    Raises:
        ImportError: the environment has no pyarrow.
        OSError, ValueError: the file cannot be read, or is no Parquet file.
    """
    parquet: Any = importlib.import_module("pyarrow.parquet")
    metadata = parquet.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [(group.num_rows, group.total_byte_size, *_bounds(group)) for group in groups]


def _bounds(group: Any) -> Tuple[int, int]:
    """Return where the pages of a row group begin and end."""
    starts: List[int] = []
    stops: List[int] = []
    for number in range(group.num_columns):
        column = group.column(number)
        # Where there is no dictionary some writers say 0, and some name it after the data.
        start = min(
            column.dictionary_page_offset or column.data_page_offset, column.data_page_offset
        )
        starts.append(start)
        stops.append(start + column.total_compressed_size)
    return min(starts, default=0), max(stops, default=0)


def read(items: Sequence[Groups], columns: Optional[Sequence[InputColumn]]) -> Reading:
    """Read items; tables with the same columns become one batch.

    Args:
        items: what to read.
        columns: the signature's columns, of which only those that are there are read; None without
            a signature: all are.
    """
    reading = Reading([], [], {})
    try:
        pa: Any = importlib.import_module("pyarrow")
    except ImportError:
        for item in items:
            sentence = "%s needs pyarrow to be read; add it to the model's requirements" % item.name
            reading.bad.append(unreadable(item.place, sentence))
        return reading
    tables: List[Any] = []
    pending: List[Groups] = []
    for item in items:
        try:
            table = _table(item, columns)
        except (OSError, ValueError, pa.ArrowException) as problem:
            said = str(problem).split("\n")[0]
            sentence = "%s cannot be read as Parquet: %s" % (item.name, said)
            reading.bad.append(unreadable(item.place, sentence))
            continue
        reading.counts[item.place] = table.num_rows
        missing = _rows_without_number(pa, table, columns or (), item, reading.bad)
        if missing is not None or _needs_pandas_metadata(table):
            _add_alone(pa, table, item, missing, reading)
            continue
        table = table.replace_schema_metadata(None)
        if tables and tables[-1].schema != table.schema:
            _add(pa, tables, pending, reading)
            tables, pending = [], []
        tables.append(table)
        pending.append(item)
    _add(pa, tables, pending, reading)
    return reading


def _table(item: Groups, columns: Optional[Sequence[InputColumn]]) -> Any:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    with parquet.ParquetFile(item.path) as file:
        names: Optional[List[str]] = None
        if columns is not None:
            there = set(file.schema_arrow.names)
            names = [column.name for column in columns if column.name in there]
        stop = item.stop or file.num_row_groups
        return file.read_row_groups(range(item.start, stop), columns=names, use_threads=False)


def _rows_without_number(
    pa: Any, table: Any, columns: Sequence[InputColumn], item: Groups, bad: List[Bad]
) -> Any:
    """Return a mask of rows that lack a whole number the signature asks for; None if there is none.

    pandas makes floats of whole numbers as soon as one is missing; mlflow then refuses them all.
    """
    np: Any = importlib.import_module("numpy")
    mask: Any = None
    for column in columns:
        if column.type not in _WHOLE_NUMBERS or column.name not in table.column_names:
            continue
        values = table.column(column.name)
        if not values.null_count or not pa.types.is_integer(values.type):
            continue
        nulls = values.is_null().to_numpy()
        for row in np.nonzero(nulls & ~mask if mask is not None else nulls)[0].tolist():
            sentence = "%s, row %d: column %r must be a whole number and has no value"
            number = item.row + row
            bad.append(invalid_row(item.place, number, sentence % (item.name, number, column.name)))
        mask = nulls if mask is None else mask | nulls
    return mask


def _needs_pandas_metadata(table: Any) -> bool:
    """Tell whether pandas wrote columns of its own types, which only its metadata brings back."""
    metadata: Dict[bytes, bytes] = table.schema.metadata or {}
    stored = metadata.get(b"pandas")
    if not stored:
        return False
    try:
        kinds = [str(c.get("numpy_type", "")) for c in json.loads(stored).get("columns", ())]
    except (ValueError, AttributeError):
        return False
    return any(kind[:1].isupper() or kind in ("string", "boolean") for kind in kinds)


def _add_alone(pa: Any, table: Any, item: Groups, missing: Any, reading: Reading) -> None:
    np: Any = importlib.import_module("numpy")
    rows = np.arange(table.num_rows, dtype=np.int64)
    if missing is not None:
        rows = rows[~missing]
        table = table.filter(pa.array(~missing))
    if not _needs_pandas_metadata(table):
        table = table.replace_schema_metadata(None)
    if len(rows) or missing is None:
        frame = table.to_pandas(use_threads=False).reset_index(drop=True)
        batch = batch_of(frame, [_text(item)], [len(frame)])
        batch.row = rows + item.row
        reading.batches.append(batch)


def _add(pa: Any, tables: List[Any], items: List[Groups], reading: Reading) -> None:
    if not tables:
        return
    frame = pa.concat_tables(tables).to_pandas(use_threads=False)
    counts = [table.num_rows for table in tables]
    reading.batches.append(batch_of(frame, [_text(item) for item in items], counts))


def _text(item: Groups) -> Text:
    return Text(item.place, item.name, item.row, b"", b"")
