"""Rows that are Arrow arrays: the same text as the pure path, made by pyarrow's kernels.

Nothing here imports pyarrow by itself: where user code (or pandas) has not loaded it, no column has
an Arrow array and the pure path is taken. Both give the same bytes; a test holds them together.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, List, Optional, Sequence

from batchpoint_worker.cells import Cell, Single, cell_of, plain_text, single_cells

# Below so many cells the kernels' fixed costs are more than they save.
CELLS_MIN = 2_000
# A string array of pyarrow holds less than 2 GiB.
TEXT_BYTES_MAX = 1 << 30

_QUOTED = '[,"\\r\\n]'


def _pyarrow() -> Any:
    return importlib.import_module("pyarrow")


def _compute() -> Any:
    return importlib.import_module("pyarrow.compute")


def type_of(array: Any) -> str:
    """Return the column type (see protocol.py) of an Arrow array."""
    pa = _pyarrow()

    kinds = pa.types
    kind = array.type
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if array.null_count == len(array):
        return "null"
    if kinds.is_boolean(kind):
        return "bool"
    if kinds.is_integer(kind):
        return "int"
    if kinds.is_floating(kind):
        return "null" if _all_nan(array) else "float"
    if kinds.is_nested(kind):
        return "json"
    return "string"


def _all_nan(array: Any) -> bool:
    compute, types = _compute(), _pyarrow().types

    if types.is_dictionary(array.type) or types.is_float16(array.type):
        return not any(cell is not None for cell in cells_of(array))
    return bool(compute.all(compute.is_nan(array)).as_py())


def from_numpy(array: Any) -> Any:
    """Return the Arrow array of a one-dimensional numpy array of numbers, or None."""
    pa: Any = sys.modules.get("pyarrow")
    if pa is None or array.ndim != 1 or array.dtype.kind not in "iufb":
        return None
    if array.dtype.itemsize > 8 or not array.dtype.isnative:
        return None
    return pa.array(array, from_pandas=True)


def from_pandas(series: Any) -> Any:
    """Return the Arrow array of a pandas Series of numbers, strings or times, or None."""
    pa: Any = sys.modules.get("pyarrow")
    if pa is None:
        return None
    dtype = series.dtype
    kind = getattr(dtype, "kind", "O")
    name = str(dtype)
    if kind not in "iufbM" and name not in ("str", "string") and not name.endswith("[pyarrow]"):
        return None
    try:
        return pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return None


def from_polars(series: Any) -> Any:
    """Return the Arrow array of a polars Series, or None."""
    pa: Any = sys.modules.get("pyarrow")
    if pa is None:
        return None
    try:
        return series.to_arrow()
    except (pa.ArrowException, TypeError, ValueError):
        return None


def cells_of(array: Any) -> List[Cell]:
    """Return the cells of an Arrow array."""
    types = _pyarrow().types

    kind = array.type
    if types.is_dictionary(kind):
        kind = kind.value_type
        array = _whole(array).dictionary_decode()
    if types.is_timestamp(kind) and kind.unit == "ns":
        return [_stamp(text) for text in array.cast("string").to_pylist()]
    if types.is_float32(kind) or types.is_float16(kind):
        return single_cells(array.to_pylist())
    return list(map(cell_of, array.to_pylist()))


def _stamp(text: Optional[str]) -> Optional[str]:
    """Return Arrow's text of a nanosecond timestamp as ISO 8601, the way pandas writes it."""
    if text is None:
        return None
    zone = ""
    if text.endswith("Z"):
        text, zone = text[:-1], "+00:00"
    moment, _, fraction = text.replace(" ", "T").partition(".")
    for digits in (0, 6):
        if not fraction[digits:].strip("0"):
            fraction = fraction[:digits]
            break
    return moment + ("." + fraction if fraction else "") + zone


def _whole(array: Any) -> Any:
    """Return one array of what may come in chunks."""
    return array.combine_chunks() if hasattr(array, "combine_chunks") else array


def array_of(column: Any) -> Any:
    """Return the Arrow array of a `rows.Column`, of its exact type where it came as one."""
    pa = _pyarrow()

    if column.arrow is not None:
        return _whole(column.arrow)
    cells: List[Cell] = column.cells
    kind = _EXACT.get(column.type)
    if column.type == "float" and {type(cell) for cell in cells} <= {Single, type(None)}:
        kind = "float"
    if kind is not None:
        try:
            return pa.array(cells, pa.type_for_alias(kind))
        except (OverflowError, pa.ArrowInvalid):  # whole numbers beyond 64 bits stay exact as text
            pass
    texts = [None if cell is None else _valid(plain_text(cell)) for cell in cells]
    return pa.array(texts, pa.string())


# Column types (see protocol.py) and Arrow's names of the types that hold them.
_EXACT = {"int": "int64", "float": "double", "bool": "bool", "null": "null"}


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def csv_of(columns: Sequence[Any]) -> Optional[bytes]:
    """Return the CSV text of `rows.Column`s, or None where the pure path must make it."""
    if len(columns) < 2 or not any(column.arrow is not None for column in columns):
        return None
    if len(columns) * len(columns[0].arrow or columns[0].cells) < CELLS_MIN:
        return None
    pa = _pyarrow()
    compute = _compute()

    parts: List[Any] = []
    for column in columns:
        try:
            texts = _texts(column)
        except (UnicodeEncodeError, pa.ArrowInvalid):  # odd names, more than an array holds
            return None
        parts.append(texts)
    if sum(part.nbytes for part in parts) > TEXT_BYTES_MAX:
        return None
    lines = compute.binary_join_element_wise(*parts, pa.scalar(",", pa.string()))
    ends = pa.array([0, len(lines)], pa.int32())
    text = compute.binary_join(pa.ListArray.from_arrays(ends, lines), "\n")
    return text[0].as_buffer().to_pybytes() + b"\n"


def _texts(column: Any) -> Any:
    """Return an Arrow array of the quoted texts of a column, without nulls."""
    pa = _pyarrow()
    compute, types = _compute(), _pyarrow().types

    array = column.arrow
    if array is not None:
        array = _whole(array)
        kind = array.type
        if types.is_integer(kind) or types.is_boolean(kind):
            return compute.fill_null(array.cast(pa.string()), "")
        if types.is_float32(kind) or types.is_float64(kind):
            return _float_texts(array)
        if types.is_dictionary(kind) and not array.null_count and not array.dictionary.null_count:
            return _quoted(array.dictionary.cast(pa.string())).take(array.indices)
        if types.is_string(kind) or types.is_large_string(kind):
            return _quoted(compute.fill_null(array.cast(pa.string()), ""))
    texts = pa.array(column.texts(), pa.string())
    return _quoted(texts) if column.type in ("string", "json") else texts


def _quoted(texts: Any) -> Any:
    compute = _compute()

    needy = compute.match_substring_regex(texts, _QUOTED)
    if not compute.any(needy).as_py():
        return texts
    doubled = compute.replace_substring(texts, '"', '""')
    return compute.if_else(needy, compute.binary_join_element_wise('"', doubled, '"', ""), texts)


def _float_texts(array: Any) -> Any:
    """Return the texts of floats as Python writes them.

    Arrow's own text has the same digits; it differs in form for whole numbers ("1") and outside of
    1e-4 to 1e10, where the few values concerned are written one by one.
    """
    pa = _pyarrow()
    compute = _compute()

    texts = array.cast(pa.string())
    whole = compute.equal(compute.round(array), array)
    if compute.any(whole).as_py():
        pointed = compute.binary_join_element_wise(texts, ".0", "")
        texts = compute.if_else(compute.fill_null(whole, fill_value=False), pointed, texts)
    size = compute.abs(array)
    plain = compute.and_(compute.greater_equal(size, 1e-4), compute.less(size, 1e6))
    plain = compute.or_(plain, compute.equal(size, 0.0))
    # A null is neither; NaN compares as false.
    odd = compute.invert(compute.fill_null(plain, fill_value=True))
    if compute.any(odd).as_py():
        rest = [plain_text(cell) for cell in cells_of(array.filter(odd))]
        texts = compute.replace_with_mask(texts, odd, pa.array(rest, pa.string()))
    return compute.fill_null(texts, "")
