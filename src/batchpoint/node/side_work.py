"""Work of a node beside scoring: cutting big files into slices, and assembling the output."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import JobFolder
from batchpoint.node.output_assembly import assemble
from batchpoint.node.output_request import AssembleRequest
from batchpoint.node.remote_files import remote_files
from batchpoint.node.slicing import (
    Cut,
    cut_csv,
    cut_csv_stream,
    cut_jsonl,
    cut_jsonl_stream,
)
from batchpoint.node.wire import NodeOrder
from batchpoint.node.worker_index import RowGroup, row_groups
from batchpoint.storage.locate import is_local, path_of

_PARQUET = (".parquet", ".parq", ".pqt")
_JSONL = (".jsonl", ".ndjson")
_RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)


class SideWork:
    """Index and assemble for one job, in threads of its own."""

    def __init__(self, order: NodeOrder) -> None:
        self._python = order.spec.environment.python
        self._scratch = JobFolder(order.job_dir).work
        self._files = remote_files(order, self._scratch)
        self._closing = threading.Event()
        self.warning = ""  # why an object cannot be read now, or empty
        self._access = order.access
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="side")

    async def index(self, whole: Slice, target_bytes: int) -> list[Slice]:
        """Cut an item into slices of about `target_bytes`; one that cannot be cut stays whole.

        Raises:
            Invalid: the file cannot be read (`input_unreadable`).
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._cut, whole, target_bytes)

    async def assemble(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the output of the job; see `node.output_assembly.assemble`."""
        loop = asyncio.get_running_loop()
        order = AssembleRequest.from_json(request)
        work = partial(assemble, order, self._step, access=self._access)
        return (await loop.run_in_executor(self._threads, work)).to_json()

    def _step(self, _: str) -> None:
        """Stop the assembly of a job that has been closed: its output must not appear any more."""
        if self._closing.is_set():
            raise Unavailable("the job was closed while its output was being written")

    async def close(self) -> None:
        """Wait for nothing: what still runs belongs to nobody and changes nothing that counts."""
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _cut(self, whole: Slice, target_bytes: int) -> list[Slice]:
        if not is_local(whole.uri):
            return self._cut_remote(whole, target_bytes)
        name = whole.name.lower()
        path = path_of(whole.uri)
        try:
            if name.endswith(_PARQUET):
                return _row_group_slices(whole, row_groups(self._python, path), target_bytes)
            cut = cut_jsonl if name.endswith(_JSONL) else cut_csv
            return _byte_slices(whole, cut(path, target_bytes))
        except OSError as error:
            raise Invalid(
                f"cannot read {whole.uri}: {error.strerror}", code="input_unreadable"
            ) from error

    def _cut_remote(self, whole: Slice, target_bytes: int) -> list[Slice]:
        """Cut an object, waiting for a store that does not answer as long as it takes."""
        name = whole.name.lower()
        attempt = 0
        while True:
            try:
                if name.endswith(_PARQUET):
                    groups = self._files.row_groups(whole)
                    slices = _row_group_slices(whole, groups, target_bytes)
                else:
                    cut = cut_jsonl_stream if name.endswith(_JSONL) else cut_csv_stream
                    with self._files.open(whole) as stream:
                        slices = _byte_slices(whole, cut(stream, whole.size, target_bytes))
                self.warning = ""
                return slices
            except Unavailable as error:
                self.warning = f"storage: {error.message}"
            except OSError as error:
                self.warning = f"storage: {storage_error(error, self._scratch).message}"
            if self._closing.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]):
                raise Unavailable("the job was closed while its input was being cut")
            attempt += 1


def _byte_slices(whole: Slice, cuts: Iterable[Cut]) -> list[Slice]:
    slices = [
        whole._replace(unit="bytes", start=cut.start, stop=cut.stop, row=cut.row) for cut in cuts
    ]
    return slices if len(slices) > 1 else [whole]


def _row_group_slices(whole: Slice, groups: Sequence[RowGroup], target_bytes: int) -> list[Slice]:
    """Join neighbouring row groups until a slice has about `target_bytes`."""
    slices: list[Slice] = []
    start = row = first_row = size = 0
    for number, (rows, group_bytes, _, _) in enumerate(groups):
        row += rows
        size += group_bytes
        if size >= target_bytes or number == len(groups) - 1:
            slices.append(
                whole._replace(unit="row_groups", start=start, stop=number + 1, row=first_row)
            )
            start, first_row, size = number + 1, row, 0
    return slices if len(slices) > 1 else [whole]
