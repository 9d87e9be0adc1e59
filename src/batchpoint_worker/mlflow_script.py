"""A model in MLflow format scored with no code: tables or images in, predictions out.

All tables of a task are predicted in one call, unless the job wants one for each, and each image in
one of its own; every row keeps its file and its row number.
"""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import os
import posixpath
from typing import Any, Dict, List, Optional, Sequence

from batchpoint_worker import mlmodel, rows, tabular
from batchpoint_worker.image_scoring import ImageScoring
from batchpoint_worker.model_loading import LoadedModel
from batchpoint_worker.protocol import StatusPage
from batchpoint_worker.row_isolation import Isolation, Part
from batchpoint_worker.rows import Column, Table
from batchpoint_worker.scorer import Failure, Info, Request, Scored, Task
from batchpoint_worker.sources import Bad, Batch

log = logging.getLogger("batchpoint_worker")


class MlflowScorer:
    """Scores tables and images with a model in MLflow format."""

    def __init__(self) -> None:
        self._model: Optional[LoadedModel] = None
        self._images: Optional[ImageScoring] = None

    def load(self, request: Request) -> Info:
        """Load the model at `request.model_path`.

        Raises:
            TaskFailed: it is no MLflow model, or needs what the environment lacks.
            Exception: whatever loading it raises.
        """
        # The allocator in pyarrow starts a thread when it is loaded; then nothing could be forked.
        os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
        importlib.import_module("pandas")
        self._use_threads(request.threads)
        file = mlmodel.read(_model_folder(request.model_path))
        self._model = model = LoadedModel(file, request.parameters)
        self._images = ImageScoring(model.file)
        warnings = self._images.prepare()
        # What is loaded by now lives as long as the process: no collection needs to look at it
        # again, and a fork of this process does not copy it page by page.
        gc.collect()
        gc.freeze()
        note = "loaded as %s" % model.loader
        log.info("%s", note + (", because " + model.heavy_because if model.heavy_because else ""))
        packages = list(model.packages().items())
        return Info(model.loader, forkable=True, packages=packages, warnings=warnings)

    def _use_threads(self, threads: int) -> None:
        """Keep pyarrow, which reads no environment variable of its own, to as many threads."""
        try:
            pyarrow: Any = importlib.import_module("pyarrow")
        except ImportError:
            return
        if threads > 0:
            pyarrow.set_cpu_count(threads)

    def score(self, task: Task, request: Request, status: StatusPage) -> Scored:
        """Score the items of a task, or some rows of a lone one."""
        assert self._model is not None
        assert self._images is not None
        items: Sequence[Dict[str, Any]] = task["items"]
        items = tabular.without_header(items, self._model.file)
        reading = tabular.read(items, self._model.file)
        batches, bad = reading.batches, reading.bad
        slice_rows = -1
        if len(items) == 1:
            slice_rows = reading.counts.get(0, -1)
            if slice_rows >= 0:
                status.set_slice_rows(slice_rows)
            if task.get("rows"):
                batches, bad = _narrowed(batches, bad, task["rows"], items[0].get("row") or 0)
        isolation = Isolation(self._model.predict)
        for batch in batches:
            edges = [0, len(batch)] if request.coalesce else batch.edges()
            for start, stop in zip(edges, edges[1:]):
                isolation.score(batch if len(edges) == 2 else batch.part(start, stop))
        bad += self._images.score(items, isolation)
        if not task.get(
            "rows"
        ):  # rows of an item are told apart here, whatever they have in common
            isolation.finish()
        failures = [
            Failure(items[b.place]["item"], items[b.place]["name"], b.row, b.error)
            for b in sorted(bad + isolation.bad, key=_order)
        ]
        rendered = _rendered(isolation.parts, items, request)
        return rendered._replace(failures=failures, slice_rows=slice_rows)

    def close(self) -> None:
        """Nothing of a model needs to be shut down."""


def _model_folder(path: str) -> str:
    """Return the folder of the MLmodel file: `path`, or the one folder in it that has one."""
    if os.path.isfile(os.path.join(path, mlmodel.FILE_NAME)) or not os.path.isdir(path):
        return path
    below = [
        os.path.join(path, name)
        for name in sorted(os.listdir(path))
        if os.path.isfile(os.path.join(path, name, mlmodel.FILE_NAME))
    ]
    return below[0] if len(below) == 1 else path


def _narrowed(
    batches: Sequence[Batch], bad: Sequence[Bad], bounds: Sequence[int], base: int
) -> Any:
    """Return batches and failures of rows `bounds` of a lone slice that begins at row `base`."""
    start, stop = base + bounds[0], (base + bounds[1] if bounds[1] >= 0 else 1 << 62)
    kept = [batch.chosen((batch.row >= start) & (batch.row < stop)) for batch in batches]
    return kept, [b for b in bad if b.row is None or start <= b.row < stop]


def _order(bad: Bad) -> Any:
    return bad.place, -1 if bad.row is None else bad.row


def _rendered(parts: Sequence[Part], items: Sequence[Dict[str, Any]], request: Request) -> Scored:
    """Return the rows of all parts as one rendered piece, in the order of the items."""
    count = sum(part.table.count for part in parts)
    style = request.render
    if style == rows.NONE or request.action == "summary_only":
        return Scored(rows=count, encoding=rows.NONE)
    azure = style == rows.AZURE
    if not count:  # our columns are known all the same, so that the output is never without any
        none = Table([] if azure else rows.source_columns([], []), 0)
        data, _, columns, encoding = rows.render(none, rows.CSV if azure else style)
        return Scored(data, 0, columns, rows.AZURE if azure else encoding)
    names = [item["name"] for item in items]
    if azure:
        names = [posixpath.basename(name) for name in names]
    tables = [_with_sources(part, names, azure=azure) for part in _ordered(parts)]
    whole = tables[0] if len(tables) == 1 else rows.joined(tables)
    data, _, columns, encoding = rows.render(whole, rows.CSV if azure else style)
    return Scored(data, count, columns, rows.AZURE if azure else encoding)


def _ordered(parts: Sequence[Part]) -> List[Part]:
    """Return parts in the order of their items, cut where two parts hold rows of one item."""
    in_order = sorted(parts, key=lambda part: (int(part.batch.place[0]), int(part.batch.row[0])))
    for before, after in zip(in_order, in_order[1:]):
        if int(before.batch.place[-1]) > int(after.batch.place[0]):
            return _by_item(in_order)
    return in_order


def _by_item(parts: Sequence[Part]) -> List[Part]:
    """Cut parts into items, where files of two formats alternate in one task."""
    pieces: List[Part] = []
    for batch, table in parts:
        edges = batch.edges()
        for start, stop in zip(edges, edges[1:]):
            columns = [Column(c.name, c.cells[start:stop]) for c in table.columns]
            pieces.append(Part(batch.part(start, stop), Table(columns, stop - start)))
    return sorted(pieces, key=lambda part: (int(part.batch.place[0]), int(part.batch.row[0])))


def _with_sources(part: Part, names: Sequence[str], *, azure: bool) -> Table:
    """Return the predictions with their file and row number beside them."""
    batch, table = part
    row = Column(rows.ROW_COLUMN, load=batch.row.tolist, arrow=_arrow(batch.row))
    source = _file_column(names, batch)
    if azure:  # row, predictions, base name of the file: in this order and without a header
        return Table([row, *table.columns, source], table.count)
    return Table([source, row, *table.columns], table.count)


def _file_column(names: Sequence[str], batch: Batch) -> Column:
    load = functools.partial(_names_of, names, batch)
    try:
        pa: Any = importlib.import_module("pyarrow")
        return Column(
            rows.FILE_COLUMN,
            load=load,
            arrow=pa.DictionaryArray.from_arrays(pa.array(batch.place), pa.array(names)),
        )
    except (ImportError, UnicodeEncodeError):
        return Column(rows.FILE_COLUMN, load=load)


def _names_of(names: Sequence[str], batch: Batch) -> Any:
    return [names[place] for place in batch.place.tolist()]


def _arrow(values: Any) -> Any:
    try:
        return importlib.import_module("pyarrow").array(values)
    except ImportError:
        return None
