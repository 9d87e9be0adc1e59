"""Tables of a task, read by the model's signature: rows with their sources and failures."""

from __future__ import annotations

import gzip
import os
import posixpath
import zlib
from typing import Any, Dict, List, Sequence, Tuple

from batchpoint_worker import (
    csv_reading,
    image_form,
    image_reading,
    jsonl_reading,
    parquet_reading,
    tensor_rows,
)
from batchpoint_worker.csv_dates import with_dates
from batchpoint_worker.csv_reading import Dtype
from batchpoint_worker.failures import plain_error
from batchpoint_worker.mlmodel import NUMPY_NAMES, ModelFile
from batchpoint_worker.parquet_reading import Groups
from batchpoint_worker.sources import Bad, Batch, Reading, Text, merged, unreadable

CSV, JSONL, PARQUET = "csv", "jsonl", "parquet"
GZIP_ENDING = ".gz"
HEADER_BYTES_MAX = 1 << 20
SHOWN_NAMES_MAX = 20

_ENDINGS = {
    ".csv": CSV,
    ".jsonl": JSONL,
    ".ndjson": JSONL,
    ".parquet": PARQUET,
    ".pqt": PARQUET,
    ".parq": PARQUET,
}
READABLE = ".csv, .jsonl, .ndjson (each also with .gz), .parquet, .parq or .pqt"


def format_of(name: str) -> Tuple[str, bool]:
    """Return the format that a file name tells ("" for none) and whether it is gzip-compressed."""
    stem = name.lower()
    zipped = stem.endswith(GZIP_ENDING)
    if zipped:
        stem = stem[: -len(GZIP_ENDING)]
    found = _ENDINGS.get(posixpath.splitext(stem)[1], "")
    return ("" if zipped and found == PARQUET else found), zipped


def dtype_of(model: ModelFile) -> Dtype:
    """Return what `read_csv` gets as `dtype` for a model, as MLflow's scoring server chooses it."""
    if model.columns is not None:
        return {c.name: NUMPY_NAMES[c.type] for c in model.columns if c.type}
    return model.tensor.dtype if model.tensor is not None else None


def read(items: Sequence[Dict[str, Any]], model: ModelFile) -> Reading:
    """Read the tables among the items of a task; images are left to `image_scoring`.

    Frames have the signature's columns in its order, where it names any, and batches with equal
    columns and types are merged, so that most tasks give one batch in the order of the items.

    Args:
        items: as in protocol.py; `path` is local, `name` tells the format by its ending.
        model: whose signature rules the types.
    """
    texts: Dict[str, List[Text]] = {CSV: [], JSONL: []}
    groups: List[Groups] = []
    bad: List[Bad] = []
    tensor = tensor_rows.tensor_of_numbers(model)
    for place, item in enumerate(items):
        kind, zipped = format_of(item["name"])
        if kind == PARQUET:
            groups.append(
                Groups(
                    place,
                    item["name"],
                    item.get("row") or 0,
                    item["path"],
                    item.get("start") or 0,
                    item.get("stop") or 0,
                )
            )
        elif image_reading.is_image(item["name"]):
            continue  # see image_scoring.py
        elif kind:
            try:
                text = _text_of(place, item, kind, zipped=zipped)
                if kind == CSV and tensor is not None:
                    text = _with_header(text, whole=item.get("unit") != "bytes")
                texts[kind].append(text)
            except (OSError, EOFError, zlib.error) as problem:
                bad.append(unreadable(place, _reason(item["name"], problem, zipped=zipped)))
        else:
            bad.append(unreadable(place, _no_format(item["name"], model)))
    parts: List[Reading] = []
    if texts[CSV]:
        part = csv_reading.read(texts[CSV], dtype_of(model))
        names = [item["name"] for item in items]
        columns = model.columns or ()
        batches = [with_dates(batch, columns, names, part.bad) for batch in part.batches]
        parts.append(part._replace(batches=batches))
    if texts[JSONL]:
        parts.append(jsonl_reading.read(texts[JSONL], model.columns))
    if groups:
        parts.append(parquet_reading.read(groups, model.columns))
    whole = Reading([], bad, {})
    for part in parts:
        whole.batches.extend(part.batches)
        whole.bad.extend(part.bad)
        whole.counts.update(part.counts)
    return _settled(whole, items, model)


def _no_format(name: str, model: ModelFile) -> str:
    readable = READABLE
    if image_form.form_of(model).kind:
        readable += ", or an image (%s)" % image_reading.READABLE
    sentence = "%s is in no format that can be scored without code; expected %s, or deploy a "
    return (sentence + "scoring script") % (name, readable)


def without_header(items: Sequence[Dict[str, Any]], model: ModelFile) -> Sequence[Dict[str, Any]]:
    """Return the items of a task, slices of CSV files without a header counted right.

    Whoever cut them took the first line for a header. If it is data, the first slice begins with
    it, and the rows of the others are one further than they say.
    """
    if tensor_rows.tensor_of_numbers(model) is None:
        return items
    return [_counted(item) if item.get("unit") == "bytes" else item for item in items]


def _counted(item: Dict[str, Any]) -> Dict[str, Any]:
    if format_of(item["name"])[0] != CSV:
        return item
    try:
        with open(item["path"], "rb") as file:
            line = file.readline(HEADER_BYTES_MAX)
    except OSError:
        return item  # reading it will say so
    if not tensor_rows.is_data(_without_mark(line)):
        return item
    row = item.get("row") or 0
    first = row == 0 and item["start"] == len(line)
    return {**item, "start": 0} if first else {**item, "row": row + 1}


def _without_mark(data: bytes) -> bytes:
    return data[len(csv_reading.BOM) :] if data.startswith(csv_reading.BOM) else data


def _with_header(text: Text, *, whole: bool) -> Text:
    """Return a CSV text with a header of numbers, if its first line is data.

    A slice of a file (not `whole`) has that line in its body where it belongs.
    """
    if not tensor_rows.is_data(text.header):
        return text
    body = text.header + text.body if whole else _without_mark(text.body)
    return text._replace(header=tensor_rows.header_for(text.header), body=body)


def _text_of(place: int, item: Dict[str, Any], kind: str, *, zipped: bool) -> Text:
    name = item["name"]
    with open(item["path"], "rb") as file:
        if item.get("unit") == "bytes":
            header = b""
            if kind == CSV:
                header = file.readline(HEADER_BYTES_MAX)
                if header.startswith(csv_reading.BOM):
                    header = header[len(csv_reading.BOM) :]
            file.seek(item["start"])
            body = file.read(item["stop"] - item["start"])
            return Text(place, name, item.get("row") or 0, header, body)
        data = file.read()
    if zipped:
        data = gzip.decompress(data)
    return (
        csv_reading.text_of(place, name, data) if kind == CSV else Text(place, name, 0, b"", data)
    )


def _reason(name: str, problem: BaseException, *, zipped: bool) -> str:
    if zipped and isinstance(problem, EOFError):
        return "%s is a gzip file that ends too early" % name
    if zipped and not (isinstance(problem, OSError) and problem.errno):
        return "%s cannot be unpacked as gzip: %s" % (name, problem)
    said = os.strerror(problem.errno) if isinstance(problem, OSError) and problem.errno else problem
    return "%s cannot be read: %s" % (name, said)


def _settled(reading: Reading, items: Sequence[Dict[str, Any]], model: ModelFile) -> Reading:
    """Choose the signature's columns, fail items that lack one, and merge what is alike."""
    alike: Dict[Tuple[Tuple[str, str], ...], List[Batch]] = {}
    for batch in reading.batches:
        if model.columns is not None:
            found = [str(name) for name in batch.frame.columns]
            lacking = [c.name for c in model.columns if c.required and c.name not in found]
            if lacking:
                for place in batch.places:
                    sentence = _lacking(items[place]["name"], lacking, found)
                    error = plain_error("input_columns_missing", sentence, "input")
                    reading.bad.append(Bad(place, None, error))
                continue
            wanted = [c.name for c in model.columns if c.name in found]
            if wanted != found:
                batch.frame = batch.frame[wanted]
        key = tuple((str(n), str(t)) for n, t in zip(batch.frame.columns, batch.frame.dtypes))
        alike.setdefault(key, []).append(batch)
    return Reading([merged(group) for group in alike.values()], reading.bad, reading.counts)


def _lacking(name: str, lacking: Sequence[str], found: Sequence[str]) -> str:
    hint = ""
    if len(found) == 1 and any(mark in found[0] for mark in ";\t|"):
        hint = "; is it separated by something else than commas?"
    return "%s lacks the column%s %s, which the model's signature requires; it has %s%s" % (
        name,
        "s" if len(lacking) > 1 else "",
        _listed(lacking),
        _listed(found),
        hint,
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES_MAX
    shown = ", ".join(repr(name) for name in names[:SHOWN_NAMES_MAX])
    return (shown or "none") + (" and %d more" % more if more > 0 else "")
