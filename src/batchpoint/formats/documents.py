"""A JSON object with columns of integers beside it, packed into bytes that detect any damage.

All our binary formats are made of this: text and nested things go into the JSON object, anything
that is one number per row goes into a column, which is read back a thousand times faster than JSON
and costs no Python object per number.

    document  = zlib( u32 length of the JSON | JSON (ASCII) | table )
    table     = u32 number of columns | u64 number of rows | columns
    column    = one type code of Python's `array` | numbers, little endian
    sealed    = 8 bytes magic | u64 length of the document | document | sha256 of all before
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from batchpoint.formats.durable import damaged

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_TABLE = struct.Struct("<IQ")
_MAGIC_BYTES = 8
_DIGEST_BYTES = 32
_COMPRESSION = 1

# Widths are the same on every platform Python runs on; the first that fits is taken.
_WIDTHS = (
    ("B", 1, 0, 2**8 - 1),
    ("b", 1, -(2**7), 2**7 - 1),
    ("H", 2, 0, 2**16 - 1),
    ("h", 2, -(2**15), 2**15 - 1),
    ("I", 4, 0, 2**32 - 1),
    ("i", 4, -(2**31), 2**31 - 1),
    ("q", 8, -(2**63), 2**63 - 1),
)
_ITEM_BYTES = {code: size for code, size, _, _ in _WIDTHS}


class Corrupt(ValueError):
    """Bytes are not a document; callers turn it into an error that names the file."""


def narrow(column: Sequence[int]) -> array[int]:
    """Return the column in the smallest type that holds all its numbers."""
    low, high = (min(column), max(column)) if len(column) else (0, 0)
    for code, _, least, most in _WIDTHS:
        if least <= low and high <= most:
            if isinstance(column, array) and column.typecode == code:
                return column
            return array(code, column)
    raise ValueError(f"a number between {low} and {high} does not fit 64 bits")


def _swapped(column: array[int]) -> array[int]:
    """Turn native numbers into little endian ones, or back."""
    if sys.byteorder == "little":
        return column
    turned = array(column.typecode, column)
    turned.byteswap()
    return turned


def encode(document: Mapping[str, object], columns: Sequence[Sequence[int]] = ()) -> bytes:
    """Pack a JSON object and equally long columns of integers.

    Args:
        document: anything `json` can write; lone surrogates in names survive.
        columns: numbers of at most 64 bits.
    """
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    rows = len(columns[0]) if columns else 0
    chunks = [_U32.pack(len(text)), text, _TABLE.pack(len(columns), rows)]
    for column in columns:
        if len(column) != rows:
            raise ValueError("columns of one table must be equally long")
        numbers = narrow(column)
        chunks += (numbers.typecode.encode(), _swapped(numbers).tobytes())
    return zlib.compress(b"".join(chunks), _COMPRESSION)


def decode(data: bytes) -> tuple[dict[str, object], list[array[int]]]:
    """Unpack what `encode` packed; raises Corrupt."""
    try:
        raw = zlib.decompress(data)
        length = int(_U32.unpack_from(raw)[0])
        document = json.loads(raw[_U32.size : _U32.size + length])
        position = _U32.size + length
        counts: tuple[int, int] = _TABLE.unpack_from(raw, position)
        count, rows = counts
        position += _TABLE.size
        columns: list[array[int]] = []
        for _ in range(count):
            code = chr(raw[position])
            stop = position + 1 + rows * _ITEM_BYTES[code]
            if stop > len(raw):
                raise Corrupt("the table is cut off")
            column: array[int] = array(code)
            column.frombytes(raw[position + 1 : stop])
            columns.append(_swapped(column))
            position = stop
    except (zlib.error, struct.error, ValueError, KeyError, IndexError) as error:
        raise Corrupt(f"its contents cannot be read ({error})") from error
    if position != len(raw) or not isinstance(document, dict):
        raise Corrupt("its contents are not a document")
    return cast("dict[str, object]", document), columns


def readable(text: str) -> str:
    r"""Return text that every reader of UTF-8 takes.

    Names of files that are not UTF-8 come with lone surrogates in them, which JSON can write but
    strict readers refuse; they are shown as \udcXX.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def seal(magic: bytes, document: bytes) -> bytes:
    """Frame a document as a whole file."""
    body = b"".join((magic, _U64.pack(len(document)), document))
    return body + hashlib.sha256(body).digest()


def unseal(magic: bytes, data: bytes, path: Path) -> tuple[dict[str, object], list[array[int]]]:
    """Check and unpack the bytes of a whole file.

    Raises:
        Unavailable: `storage_unavailable`, when any byte is missing or differs.
    """
    head = _MAGIC_BYTES + _U64.size
    if len(data) < head + _DIGEST_BYTES or not data.startswith(magic):
        raise damaged(path, f"it does not begin with {magic.decode('ascii').strip()} or is cut off")
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise damaged(path, "its checksum differs")
    if _U64.unpack_from(data, _MAGIC_BYTES)[0] != len(data) - head - _DIGEST_BYTES:
        raise damaged(path, "its length differs")
    try:
        return decode(data[head:-_DIGEST_BYTES])
    except Corrupt as error:
        raise damaged(path, str(error)) from error
