"""CSV items read as `pandas.read_csv` reads each of them, many small ones in one call.

Small files with the same header line are joined and parsed once, which is twenty times faster. The
lines of each file bound its rows from above, so when they add up to the rows that came back, every
file's count is known; otherwise (blank lines, line ends within quotes) the counting is refined, and
when that does not add up either, each file is parsed alone.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from typing import Any, Dict, List, Optional, Sequence, Union

from batchpoint_worker import csv_repair
from batchpoint_worker.sources import Reading, Text, batch_of, unreadable

Dtype = Union[None, str, Dict[str, str]]
"""What read_csv gets as `dtype`: nothing, one type for all columns, or one for each."""

BOM = b"\xef\xbb\xbf"

_FILLED_LINE = re.compile(rb"[^ \t\r\n][^\n]*")


def text_of(place: int, name: str, data: bytes) -> Text:
    """Return a whole file as a Text: its first line is the header."""
    if data.startswith(BOM):
        data = data[len(BOM) :]
    end = data.find(b"\n") + 1 or len(data)
    return Text(place, name, 0, data[:end], data[end:])


def parse(data: bytes, dtype: Dtype) -> Any:
    """Return the frame that `pandas.read_csv` makes of the bytes.

    Rows longer than the header are an error here: pandas would take their first field for an index
    and shift all others.

    Raises:
        ValueError, OverflowError, TypeError: a value does not fit, or the text is no CSV.
    """
    pd: Any = importlib.import_module("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of casts that fail anyway
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(io.BytesIO(data), dtype=dtype, index_col=False, low_memory=False)
        except pd.errors.ParserWarning as warning:
            raise ValueError(str(warning)) from None


def read(texts: Sequence[Text], dtype: Dtype) -> Reading:
    """Read CSV texts; batches come in the order of the texts, one for each set of columns.

    Args:
        texts: what to read.
        dtype: types by the model's signature; None without one, and then each file is parsed alone,
            because pandas infers its types from its own values.
    """
    reading = Reading([], [], {})
    groups: Dict[bytes, List[Text]] = {}
    for text in texts:
        if not text.header.strip() and not text.body.strip():
            reading.bad.append(unreadable(text.place, "%s is empty: not even a header" % text.name))
        elif dtype is None or not _is_joinable(text.header):
            _read_alone(text, dtype, reading)
        else:
            groups.setdefault(text.header.rstrip(b"\r\n"), []).append(text)
    for group in groups.values():
        _read_group(group, dtype, reading)
    return reading


def _is_joinable(header: bytes) -> bool:
    """Tell whether the first line is the whole header, and only that."""
    line = header.rstrip(b"\r\n")
    return bool(line.strip()) and b"\r" not in line and line.count(b'"') % 2 == 0


def _read_group(texts: Sequence[Text], dtype: Dtype, reading: Reading) -> None:
    """Read texts with equal headers in one go; what cannot be is halved until it stands alone."""
    if len(texts) == 1:
        _read_alone(texts[0], dtype, reading)
        return
    try:
        frame = parse(_joined(texts), dtype)
    except (ValueError, OverflowError, TypeError):
        middle = len(texts) // 2
        _read_group(texts[:middle], dtype, reading)
        _read_group(texts[middle:], dtype, reading)
        return
    counts = _counts(texts, len(frame))
    if counts is None:
        for text in texts:
            _read_alone(text, dtype, reading)
        return
    reading.batches.append(batch_of(frame, texts, counts))
    reading.counts.update(zip((text.place for text in texts), counts))


def _joined(texts: Sequence[Text]) -> bytes:
    parts = [texts[0].header.rstrip(b"\r\n"), b"\n"]
    for text in texts:
        parts.append(text.body)
        if text.body and not text.body.endswith(b"\n"):
            parts.append(b"\n")
    return b"".join(parts)


def _counts(texts: Sequence[Text], rows: int) -> Optional[List[int]]:
    """Return how many of the rows each text has, or None when that is not certain."""
    if any(text.body.count(b"\r") != text.body.count(b"\r\n") for text in texts):
        return None  # a lone carriage return ends a line as well
    counts = [lines_of(text.body) for text in texts]
    if sum(counts) == rows:
        return counts
    refined: List[int] = []
    for text in texts:
        body = without_quoted(text.body)
        if body is None:
            return None
        refined.append(len(_FILLED_LINE.findall(body)))
    return refined if sum(refined) == rows else None


def lines_of(body: bytes) -> int:
    """Return the number of lines; the last one may lack its line end."""
    return body.count(b"\n") + (not body.endswith(b"\n") and bool(body))


def without_quoted(body: bytes) -> Optional[bytes]:
    """Return the text with every quoted field replaced by `""`.

    None when a quote stands anywhere but around a field or doubled within one: then it is the
    parser's business what it means.
    """
    if b'"' not in body:
        return body
    parts = body.split(b'"')
    if len(parts) % 2 == 0:
        return None
    outside = parts[::2]
    last = len(outside) - 1
    for number, part in enumerate(outside):
        if number and part and part[:1] not in b",\r\n":
            return None
        if number < last and part and part[-1:] not in b",\n":
            return None
    return b'""'.join(outside)


def _read_alone(text: Text, dtype: Dtype, reading: Reading) -> None:
    try:
        frame = parse(text.header + text.body, dtype)
    except (ValueError, OverflowError, TypeError) as problem:
        repaired = csv_repair.repair(text, dtype, problem, parse)
        reading.bad.extend(repaired.bad)
        reading.counts[text.place] = repaired.rows
        if repaired.batch is not None:
            reading.batches.append(repaired.batch)
        return
    reading.counts[text.place] = len(frame)
    reading.batches.append(batch_of(frame, [text], [len(frame)]))
