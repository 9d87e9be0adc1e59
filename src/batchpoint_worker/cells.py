"""Cells: what single values returned by user code mean, and their text.

A cell is None, a bool, an int, a float, a str, or JSON-able data in a `Json`. Every other value is
brought to one of these by `cell_of`, the same way whichever library it came from.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import struct
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence, Type, Union, cast

JSON_DEPTH_MAX = 50

_SINGLE = struct.Struct("<f")
_SINGLE_NORMAL_MIN = 1.1754943508222875e-38


class Json(NamedTuple):
    """A nested value, already as JSON text."""

    text: str


class Single(float):
    """A number of single precision: its text has the digits that tell it from its neighbours."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the shortest text that reads back as the same float32, in the form of `repr`."""
        return single_text(self)


# `type` itself; under this name the checker takes the type of anything for known.
_kind_of: Callable[[object], Type[Any]] = type

Cell = Union[None, bool, int, float, str, Json]


def single_text(value: float) -> str:
    """Return the shortest decimal text of a float32, written the way Python writes a float."""
    if not math.isfinite(value):
        return float.__repr__(value)
    packed = _SINGLE.pack(value)
    # Six digits always survive in a normal float32, so fewer need not be tried.
    for digits in range(6 if abs(value) >= _SINGLE_NORMAL_MIN else 1, 9):
        near = float("%.*g" % (digits, value))
        try:
            if _SINGLE.pack(near) == packed:
                return float.__repr__(near)
        except OverflowError:
            continue
    return float.__repr__(float("%.9g" % value))


def cell_of(value: Any) -> Cell:
    """Return the cell that a value of user code stands for.

    NaN, NaT and NA are None; dates are ISO 8601 text; bytes are read as UTF-8; containers become
    JSON; whatever else there is becomes `str(value)`.
    """
    kind = _kind_of(value)
    if value is None or kind is str or kind is int or kind is bool or kind is Json:
        return value
    if kind is float or kind is Single:
        return None if math.isnan(value) else value
    maker = _MAKERS.get(kind)
    if maker is None:
        maker = _MAKERS[kind] = _maker_for(kind)
    return maker(value)


def single_cells(values: Iterable[Any]) -> List[Cell]:
    """Return the cells of numbers of single precision (or None, NaN, NA)."""
    cells: List[Cell] = []
    for value in values:
        cell = cell_of(value)
        cells.append(Single(cell) if isinstance(cell, float) else cell)
    return cells


def _float_cell(value: Any) -> Cell:
    number = float(value)
    return None if math.isnan(number) else number


def _single_cell(value: Any) -> Cell:
    number = Single(value)
    return None if math.isnan(number) else number


def _moment_cell(value: Any) -> Cell:
    return value.isoformat()


def _bytes_cell(value: Any) -> Cell:
    return bytes(value).decode("utf-8", "backslashreplace")


def _json_cell(value: Any) -> Cell:
    return Json(json_text(value))


def _none_cell(value: Any) -> Cell:  # noqa: ARG001 - one signature for all makers
    return None


def _numpy_time_cell(value: Any) -> Cell:
    text = str(value)
    return None if text == "NaT" else text


def _scalar_cell(value: Any) -> Cell:
    plain = value.item()
    return str(plain) if type(plain) is type(value) else cell_of(plain)


def _array_cell(value: Any) -> Cell:
    return cell_of(value.item()) if value.ndim == 0 else Json(json_text(value))


def _text_cell(value: Any) -> Cell:
    return str.__str__(value) if isinstance(value, str) else str(value)


# By exact type: looked up once per cell, so that a column of a million cells costs little.
_MAKERS: Dict[type, Any] = {
    list: _json_cell,
    tuple: _json_cell,
    dict: _json_cell,
    set: _json_cell,
    frozenset: _json_cell,
    bytes: _bytes_cell,
    bytearray: _bytes_cell,
    memoryview: _bytes_cell,
    dt.date: _moment_cell,
    dt.time: _moment_cell,
    dt.datetime: _moment_cell,
}

_NUMPY: Dict[str, Any] = {
    "float16": _single_cell,
    "float32": _single_cell,
    "float64": _float_cell,
    "longdouble": _float_cell,
    "float128": _float_cell,
    "datetime64": _numpy_time_cell,
    "timedelta64": _numpy_time_cell,
    "ndarray": _array_cell,
    "bytes_": _bytes_cell,
    "str_": _text_cell,
}

_MISSING = {"NAType", "NaTType"}


def _maker_for(kind: type) -> Any:
    """Choose how values of a type become cells."""
    home = kind.__module__.split(".")[0]
    if home == "pandas" and kind.__name__ in _MISSING:
        return _none_cell
    if home == "numpy":
        return _NUMPY.get(kind.__name__, _scalar_cell)
    if issubclass(kind, bool):
        return bool
    for parent, maker in (
        (str, _text_cell),
        (int, int.__int__),
        (float, _float_cell),
        ((bytes, bytearray), _bytes_cell),
        ((dt.date, dt.time), _moment_cell),
        ((list, tuple, dict, set, frozenset), _json_cell),
    ):
        if issubclass(kind, parent):
            return maker
    return _text_cell


def json_text(value: Any) -> str:
    """Return nested data as compact JSON text; NaN and infinities are null, sets are sorted."""
    return json.dumps(_jsonable(value, 0), separators=(",", ":"), ensure_ascii=False)


def _jsonable(value: Any, depth: int) -> Any:
    if depth > JSON_DEPTH_MAX:
        raise ValueError(
            "a returned value is nested more than %d levels deep; return flatter rows"
            % JSON_DEPTH_MAX
        )
    if isinstance(value, dict):
        pairs = cast("Dict[Any, Any]", value).items()
        return {_key_text(key): _jsonable(item, depth + 1) for key, item in pairs}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_jsonable(item, depth + 1) for item in cast("List[Any]", value)]
        return sorted(items, key=_order) if isinstance(value, (set, frozenset)) else items
    if type(value).__module__ == "numpy" and type(value).__name__ == "ndarray":
        return _jsonable(value.tolist() if value.dtype.kind != "f" else list(value), depth)
    return _plain_json(cell_of(value))


def _plain_json(cell: Cell) -> Any:
    if isinstance(cell, Json):
        return json.loads(cell.text)
    if isinstance(cell, float):
        return float(repr(cell)) if math.isfinite(cell) else None
    return cell


def _key_text(key: Any) -> str:
    cell = cell_of(key)
    if isinstance(cell, Json):
        return cell.text
    return "" if cell is None else cell if isinstance(cell, str) else str(cell)


def _order(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


_TYPES: Dict[type, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    Single: "float",
    str: "string",
    Json: "json",
}


def type_of(cells: Sequence[Cell]) -> str:
    """Return the one column type that holds all cells, or "null" when there is none."""
    kinds = {_TYPES[kind] for kind in set(map(type, cells)) if kind is not type(None)}
    if not kinds:
        return "null"
    if len(kinds) == 1:
        return kinds.pop()
    return "float" if kinds == {"int", "float"} else "string"


def fitted(cells: List[Cell], type_name: str) -> List[Cell]:
    """Return cells as values of a column type that `type_of` gave."""
    if type_name == "float" and int in set(map(type, cells)):
        return [_widened(cell) for cell in cells]
    if type_name == "string" and set(map(type, cells)) - {str, type(None)}:
        return [None if cell is None else plain_text(cell) for cell in cells]
    return cells


def _widened(cell: Any) -> Cell:
    if type(cell) is not int:
        return cell
    try:
        return float(cell)
    except OverflowError:
        return math.inf if cell > 0 else -math.inf


def plain_text(cell: Cell) -> str:
    """Return the text of one cell, before any quoting; None is empty."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Json):
        return cell.text
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return repr(cell)


def texts(cells: Sequence[Cell], type_name: str) -> List[str]:
    """Return the texts of a column's cells, before any quoting."""
    if type_name in ("int", "float", "string") and None not in cells:
        return list(map(repr, cells)) if type_name != "string" else list(cells)  # type: ignore[arg-type]
    return [plain_text(cell) for cell in cells]


def json_cell(cell: Cell) -> str:
    """Return the JSON text of one cell."""
    if cell is None:
        return "null"
    if isinstance(cell, str):
        return json.dumps(cell, ensure_ascii=False)
    if isinstance(cell, float) and not math.isfinite(cell):
        return "null"
    return plain_text(cell)
