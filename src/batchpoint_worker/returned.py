"""What `run()` returned, as a table: lists, arrays, data frames, Arrow tables, generators."""

from __future__ import annotations

import sys
import types
from collections import abc
from typing import Any, Iterator, List, Sequence, Tuple, cast

from batchpoint_worker import arrow_text
from batchpoint_worker.cells import Cell, Json, cell_of, json_text, single_cells
from batchpoint_worker.failures import plain_error
from batchpoint_worker.rows import RESERVED, Column, Table, encoded, unique_names
from batchpoint_worker.scorer import TaskFailed

LIST_COLUMN = "prediction"

# Names that pandas gives to types of less than double precision.
SINGLE_TYPES = ("float16", "float32", "halffloat[pyarrow]", "float[pyarrow]")

ALLOWED = (
    "a list, a tuple, a numpy array, a pandas or polars DataFrame or Series, a pyarrow Table or "
    "RecordBatch, or a generator of rows"
)


def is_a(value: Any, module: str, *names: str) -> bool:
    """Tell whether a value is of a library's class, without importing the library."""
    library = sys.modules.get(module)
    if library is None:
        return False
    kinds = tuple(getattr(library, name, ()) for name in names)
    return isinstance(value, kinds)


def settled(value: Any) -> Any:
    """Return what came back as something with a length; generators are run to their end here.

    Raises:
        TaskFailed: it is nothing that can be rows.
    """
    if isinstance(value, (list, tuple)):
        return cast("Any", value)
    if is_a(value, "numpy", "ndarray"):
        if value.ndim == 0:
            raise TaskFailed(_refusal("a numpy array without dimensions"))
        return value
    if (
        is_a(value, "pandas", "DataFrame", "Series", "Index")
        or is_a(value, "polars", "DataFrame", "Series")
        or is_a(value, "pyarrow", "Table", "RecordBatch", "Array", "ChunkedArray")
    ):
        return value
    if isinstance(value, (types.GeneratorType, abc.Iterator)):
        return list(cast("Iterator[Any]", value))
    raise TaskFailed(_refusal(_described(value)))


def table_of(value: Any) -> Table:
    """Return the table that a settled value stands for; its columns are the user's.

    Raises:
        TaskFailed: a column has one of our names.
    """
    if isinstance(value, (list, tuple)):
        cells = list(map(cell_of, cast("List[Any]", value)))
        return Table([Column(LIST_COLUMN, cells)], len(cells))
    if is_a(value, "pandas", "DataFrame"):
        table = _pandas_table(value)
    elif is_a(value, "pandas", "Series", "Index"):
        table = Table([_pandas_column(LIST_COLUMN, value)], len(value))
    elif is_a(value, "polars", "DataFrame"):
        columns = [_polars_column(series.name, series) for series in value.get_columns()]
        table = Table(columns, value.height)
    elif is_a(value, "polars", "Series"):
        table = Table([_polars_column(LIST_COLUMN, value)], len(value))
    elif is_a(value, "pyarrow", "Table", "RecordBatch"):
        names = unique_names([str(name) for name in value.schema.names])
        columns = [_arrow_column(name, array) for name, array in zip(names, value.columns)]
        table = Table(columns, value.num_rows)
    elif is_a(value, "pyarrow", "Array", "ChunkedArray"):
        table = Table([_arrow_column(LIST_COLUMN, value)], len(value))
    else:
        table = _array_table(value)
    _check_names(table)
    return table


def _check_names(table: Table) -> None:
    for column in table.columns:
        if column.name in RESERVED:
            raise TaskFailed(
                plain_error(
                    "output_columns_reserved",
                    "run() returned a column named %r, which is the name of a column that "
                    "batchpoint adds itself; rename yours (reserved: %s)"
                    % (column.name, ", ".join(RESERVED)),
                )
            )


def _described(value: object) -> str:
    kind = type(value)
    if value is None:
        return "None (is a `return` missing?)"
    name = kind.__name__ if kind.__module__ == "builtins" else kind.__module__ + "." + kind.__name__
    if isinstance(value, str):
        return "a str (wrap it in a list)"
    hint = " (call .tolist() or .numpy() on it)" if hasattr(value, "tolist") else ""
    return "%s %s%s" % ("an" if name[0] in "aeiou" else "a", name, hint)


def _refusal(came: str) -> Any:
    return plain_error(
        "unsupported_return",
        "run() returned %s; it must return %s, with one row per file where possible"
        % (came, ALLOWED),
    )


def _array_table(array: Any) -> Table:
    count = len(array)
    if array.dtype.names:
        names = unique_names(array.dtype.names)
        columns = [_array_column(n, array[field]) for n, field in zip(names, array.dtype.names)]
        return Table(columns, count)
    if array.ndim == 2 and array.shape[1] != 1:
        width = array.shape[1]
        return Table(
            [_array_column("%s_%d" % (LIST_COLUMN, i), array[:, i]) for i in range(width)], count
        )
    if array.ndim == 2:
        array = array[:, 0]
    return Table([_array_column(LIST_COLUMN, array)], count)


def _array_column(name: str, array: Any) -> Column:
    return Column(name, load=lambda: array_cells(array), arrow=arrow_text.from_numpy(array))


def array_cells(array: Any) -> List[Cell]:
    """Return the cells of a numpy array; what lies below its first dimension becomes JSON."""
    if array.ndim > 1:
        return [Json(json_text(row)) for row in array]
    kind = array.dtype.kind
    if kind in "iub":
        return array.tolist()
    if kind == "f":
        values = array.tolist()
        return single_cells(values) if array.dtype.itemsize < 8 else list(map(cell_of, values))
    if kind == "O":
        return list(map(cell_of, array.tolist()))
    return list(map(cell_of, array))


def _pandas_table(frame: Any) -> Table:
    names = unique_names(_column_names(frame.columns))
    columns = [_pandas_column(name, frame.iloc[:, i]) for i, name in enumerate(names)]
    return Table(columns, len(frame))


def _column_names(labels: Sequence[Any]) -> List[str]:
    return [_column_name(label) for label in labels]


def _column_name(label: Any) -> str:
    if isinstance(label, tuple):  # columns in levels
        return "_".join(map(str, cast("Tuple[Any, ...]", label)))
    return str(label)


def _pandas_column(name: str, series: Any) -> Column:
    return Column(name, load=lambda: _pandas_cells(series), arrow=arrow_text.from_pandas(series))


def _pandas_cells(series: Any) -> List[Cell]:
    dtype = series.dtype
    if is_a(dtype, "numpy", "dtype") and dtype.kind in "iubf":
        return array_cells(series.to_numpy())
    if str(dtype).lower() in SINGLE_TYPES:
        return single_cells(series.tolist())
    return list(map(cell_of, series.tolist()))


def _polars_column(name: str, series: Any) -> Column:
    single = str(series.dtype) == "Float32"
    arrow = arrow_text.from_polars(series)
    if arrow is not None and str(series.dtype).startswith("Datetime"):
        # Python's own moments have no nanoseconds.
        return _arrow_column(name, arrow)

    def load() -> List[Cell]:
        return single_cells(series.to_list()) if single else list(map(cell_of, series.to_list()))

    return Column(name, load=load, arrow=arrow)


def _arrow_column(name: str, array: Any) -> Column:
    return Column(name, load=lambda: arrow_text.cells_of(array), arrow=array)


def azure_text(value: Any) -> bytes:
    """Return what Azure writes for a settled value.

    A list, tuple or array is one `str(element)` a line, unquoted; a data frame is written by
    `to_csv` with spaces, without header and index.
    """
    frame = value
    if is_a(value, "polars", "DataFrame") or is_a(value, "pyarrow", "Table", "RecordBatch"):
        frame = value.to_pandas()
    if is_a(frame, "pandas", "DataFrame"):
        text = frame.to_csv(header=None, index=None, sep=" ")
    else:
        text = "".join(["%s\n" % (element,) for element in value])
    return encoded(text)
