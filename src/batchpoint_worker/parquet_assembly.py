"""Writes one Parquet file from the Arrow frames of many parts, in the user's interpreter.

    python parquet_assembly.py ORDER.json

The order: {"target": path, "parts": [paths], "columns": [[name, type]..], "schemas": [{"encoding":
"arrow" or "jsonl", "columns": [[name, type]..]}..], "frames": path of a file of little-endian
int64, six per frame in output order: part, offset, length of the rows, length of the failure lines
that follow them, crc32 of both, schema}.

One line of JSON is printed: {"ok": true, "size", "sha256", "rows"} or {"ok": false, "problem":
"no_pyarrow" | "full" | "damaged" | "unwritable", "message"}. The process ends at once when its
standard input is closed: the agent that started it is gone.

Standard library and pyarrow only; nothing else of this package is imported.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import math
import os
import struct
import sys
import threading
import zlib
from array import array
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

ROW_GROUP_ROWS = 256 * 1024
ROW_GROUP_BYTES = 64 * 1024 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SINGLE = struct.Struct("<f")


class Damaged(Exception):
    """A frame is not what was once written."""


class Frame(NamedTuple):
    """Where a frame lies: index of its part, bytes, checksum, index of its schema."""

    part: int
    offset: int
    length: int
    failures_length: int
    crc32: int
    schema: int


def main(arguments: List[str]) -> int:
    """Carry out the order and print the result; returns the exit status."""
    threading.Thread(target=_watch_lifeline, daemon=True).start()
    # The folder of this script would hide user packages named like modules in it.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]
    with open(arguments[0], encoding="utf-8") as file:
        order = json.load(file)
    try:
        result = assemble(order)
    except ImportError as error:
        result = {"ok": False, "problem": "no_pyarrow", "message": str(error)}
    except Damaged as error:
        result = {"ok": False, "problem": "damaged", "message": str(error)}
    except OSError as error:
        problem = "full" if error.errno in _FULL else "unwritable"
        result = {"ok": False, "problem": problem, "message": str(error)}
    sys.stdout.write("\n" + json.dumps(result) + "\n")
    sys.stdout.flush()
    return 0 if result["ok"] else 1


def _library(name: str) -> Any:
    """Import a module of the user's environment, late: it may be missing."""
    return importlib.import_module(name)


def _watch_lifeline() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def assemble(order: Dict[str, Any]) -> Dict[str, Any]:
    """Write the Parquet file and return {"ok", "size", "sha256", "rows"}.

    Raises:
        ImportError: there is no pyarrow.
        Damaged: a frame cannot be read.
        OSError: a file cannot be read or written.
    """
    pa, parquet = _library("pyarrow"), _library("pyarrow.parquet")

    frames = _Frames(order)
    schema = unified_schema(order["columns"], frames.column_types())
    codec = "snappy" if pa.Codec.is_available("snappy") else "none"
    rows = 0
    with open(order["target"], "wb", buffering=0) as raw:
        sink = _HashingSink(raw)
        with parquet.ParquetWriter(sink, schema, compression=codec) as writer:
            for group in _row_groups(frames, schema):
                writer.write_table(group, row_group_size=max(1, group.num_rows))
                rows += group.num_rows
        os.fsync(raw.fileno())
    return {"ok": True, "size": sink.size, "sha256": sink.digest.hexdigest(), "rows": rows}


class _HashingSink:
    """A file for pyarrow to write to, hashed on the way."""

    closed = False

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        self.digest.update(left)
        self.size += len(left)
        count = len(left)
        while left:
            left = left[self._raw.write(left) :]
        return count

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Frames:
    """The frames in output order."""

    def __init__(self, order: Dict[str, Any]) -> None:
        self._parts: List[str] = order["parts"]
        self.schemas: List[Dict[str, Any]] = order["schemas"]
        self._numbers = array("q")
        with open(order["frames"], "rb") as file:
            self._numbers.frombytes(file.read())
        if sys.byteorder == "big":
            self._numbers.byteswap()
        self._open: Dict[int, int] = {}

    def __iter__(self) -> Iterator[Frame]:
        numbers = self._numbers
        width = len(Frame._fields)
        for at in range(0, len(numbers), width):
            yield Frame(*numbers[at : at + width])

    def _read(self, frame: Frame, begin: int, size: int) -> bytes:
        fd = self._open.get(frame.part)
        if fd is None:
            if len(self._open) >= 64:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._open[frame.part] = os.open(self._parts[frame.part], os.O_RDONLY)
        data = b""
        while len(data) < size:
            more = os.pread(fd, size - len(data), frame.offset + begin + len(data))
            if not more:
                raise Damaged("%s is cut off" % self._parts[frame.part])
            data += more
        return data

    def column_types(self) -> List[Dict[str, Any]]:
        """Return the Arrow type of each column, one dict per distinct schema, in order."""
        pa = _library("pyarrow")

        found: Dict[Any, Dict[str, Any]] = {}
        for frame in self:
            given = self.schemas[frame.schema]
            if given["encoding"] != "arrow":
                if frame.schema not in found:
                    found[frame.schema] = _text_types(given["columns"])
                continue
            head = struct.unpack("<Ii", self._read(frame, 0, 8))
            message = self._read(frame, 0, 8 + head[1])
            if message not in found:
                schema = pa.ipc.read_schema(pa.py_buffer(message))
                found[message] = {field.name: _plain(field.type) for field in schema}
        return list(found.values())

    def table(self, frame: Frame) -> Any:
        """Return the rows of a frame as a pyarrow table."""
        pa = _library("pyarrow")

        data = self._read(frame, 0, frame.length + frame.failures_length)
        if zlib.crc32(data) != frame.crc32:
            raise Damaged("the checksum of a frame in %s differs" % self._parts[frame.part])
        rows = memoryview(data)[: frame.length]
        given = self.schemas[frame.schema]
        if given["encoding"] == "arrow":
            with pa.ipc.open_stream(pa.py_buffer(rows)) as reader:
                return reader.read_all()
        return _table_of_text(bytes(rows), given["columns"])


def _text_types(columns: List[Tuple[str, str]]) -> Dict[str, Any]:
    pa = _library("pyarrow")

    types = {
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "null": pa.null(),
    }
    return {name: types.get(kind, pa.string()) for name, kind in columns}


def _table_of_text(data: bytes, columns: List[Tuple[str, str]]) -> Any:
    """Return rows of JSON Lines as a table: what a worker without pyarrow wrote."""
    pa = _library("pyarrow")

    rows = [json.loads(line) for line in data.split(b"\n") if line]
    types = _text_types(columns)
    arrays: List[Any] = []
    for name, kind in columns:
        cells = [row.get(name) for row in rows]
        if kind == "json":
            cells = [None if cell is None else as_text(cell) for cell in cells]
        try:
            arrays.append(pa.array(cells, types[name]))
        except (pa.ArrowInvalid, OverflowError) as error:
            raise Damaged("column %r cannot be written as %s: %s" % (name, kind, error)) from error
    return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])


def _plain(kind: Any) -> Any:
    """Return the type of the values themselves: no dictionaries, no views, no large offsets."""
    pa = _library("pyarrow")
    t = pa.types

    if t.is_dictionary(kind):
        return _plain(kind.value_type)
    if t.is_large_string(kind) or getattr(t, "is_string_view", t.is_string)(kind):
        return pa.string()
    if t.is_large_binary(kind) or getattr(t, "is_binary_view", t.is_binary)(kind):
        return pa.binary()
    return kind


def unified_schema(columns: List[Tuple[str, str]], found: List[Dict[str, Any]]) -> Any:
    """Return the schema of the output.

    Args:
        columns: (name, type) of the output's columns in order; their types only break ties.
        found: Arrow types by name, for each distinct schema of the frames.
    """
    pa = _library("pyarrow")

    fields: List[Any] = []
    for name, _ in columns:
        kinds = [types[name] for types in found if name in types]
        fields.append(pa.field(name, unified(kinds)))
    return pa.schema(fields)


def unified(kinds: List[Any]) -> Any:
    """Return the narrowest Arrow type that holds all: equal, int, float, or else string."""
    pa = _library("pyarrow")
    t = pa.types

    known: List[Any] = []
    for kind in kinds:
        if not t.is_null(kind) and kind not in known:
            known.append(kind)
    if not known:
        return pa.string()
    if len(known) == 1:
        return known[0]
    if all(t.is_integer(kind) for kind in known):
        unsigned = all(t.is_unsigned_integer(kind) for kind in known)
        return pa.uint64() if unsigned else pa.int64()
    if all(t.is_integer(kind) or t.is_floating(kind) for kind in known):
        return pa.float64()
    return pa.string()


def _row_groups(frames: _Frames, schema: Any) -> Iterator[Any]:
    """Gather frames to row groups; the memory held is that of one group and one frame."""
    pa = _library("pyarrow")

    waiting: List[Any] = []
    rows = size = 0
    for frame in frames:
        table = _conformed(frames.table(frame), schema)
        waiting.append(table)
        rows += table.num_rows
        size += table.nbytes
        if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
    if waiting and rows:
        yield pa.concat_tables(waiting)


def _conformed(table: Any, schema: Any) -> Any:
    """Return a table with exactly the columns of `schema`; those it lacks are null."""
    pa = _library("pyarrow")

    arrays: List[Any] = []
    for field in schema:
        place = table.schema.get_field_index(field.name)
        if place < 0:
            arrays.append(pa.nulls(table.num_rows, field.type))
        else:
            arrays.append(_cast(table.column(place), field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _cast(column: Any, kind: Any) -> Any:
    pa = _library("pyarrow")
    t = pa.types

    if column.type == kind:
        return column
    if t.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
        return _cast(column, kind)
    if not t.is_string(kind) or _plain(column.type) == kind:
        return column.cast(kind, safe=False)
    single = t.is_floating(column.type) and column.type != pa.float64()
    cells = column.to_pylist()
    texts = [None if cell is None else as_text(cell, single=single) for cell in cells]
    return pa.array(texts, kind)


def as_text(cell: Any, *, single: bool = False) -> str:
    """Return a value as text, the way it stands in CSV; `single`: it is a float32."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return _single_text(cell) if single else repr(cell)
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "backslashreplace")
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, ensure_ascii=False, separators=(",", ":"), default=as_text)
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def _single_text(value: float) -> str:
    """Return the shortest text that reads back as the same float32."""
    if not math.isfinite(value):
        return repr(value)
    for digits in range(1, 9):
        near = float("%.*g" % (digits, value))
        try:
            if _SINGLE.pack(near) == _SINGLE.pack(value):
                return repr(near)
        except OverflowError:
            continue
    return repr(float("%.9g" % value))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
