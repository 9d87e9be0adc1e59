"""Work of a node beside scoring: cutting big files into slices, and assembling the output."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.minibatch import Slice
from batchpoint.node.output_assembly import assemble
from batchpoint.node.output_request import AssembleRequest
from batchpoint.node.slicing import Cut, cut_csv, cut_jsonl
from batchpoint.node.wire import NodeOrder
from batchpoint.node.worker_process import WORKER_MAIN
from batchpoint_worker import protocol

_PARQUET = (".parquet", ".parq", ".pqt")
_JSONL = (".jsonl", ".ndjson")


class SideWork:
    """Index and assemble for one job, in threads of its own."""

    def __init__(self, order: NodeOrder) -> None:
        self._python = order.spec.environment.python
        self._access = order.access
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="side")
        self._closed = False

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
        if self._closed:
            raise Unavailable("the job was closed while its output was being written")

    async def close(self) -> None:
        """Wait for nothing: what still runs belongs to nobody and changes nothing that counts."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _cut(self, whole: Slice, target_bytes: int) -> list[Slice]:
        name = whole.name.lower()
        path = Path(whole.uri)
        try:
            if name.endswith(_PARQUET):
                return _row_group_slices(whole, self._row_groups(path), target_bytes)
            cut = cut_jsonl if name.endswith(_JSONL) else cut_csv
            return _byte_slices(whole, cut(path, target_bytes))
        except OSError as error:
            raise Invalid(
                f"cannot read {whole.uri}: {error.strerror}", code="input_unreadable"
            ) from error

    def _row_groups(self, path: Path) -> list[tuple[int, int]]:
        """Ask a fresh worker in the user's environment for (rows, bytes) of each row group.

        An empty list: it cannot tell, and the file stays whole; scoring will say what is wrong.
        """
        order_read, order_write = os.pipe()
        answer_read, answer_write = os.pipe()
        with tempfile.TemporaryFile() as page:
            page.truncate(protocol.STATUS_BYTES)
            theirs = (order_read, answer_write, page.fileno())
            names = ("--read-fd", "--write-fd", "--status-fd")
            command = [self._python, "-u", str(WORKER_MAIN)]
            for name, fd in zip(names, theirs, strict=True):
                command += [name, str(fd)]
            try:
                with subprocess.Popen(
                    command,
                    pass_fds=theirs,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                ):
                    os.close(order_read)
                    os.close(answer_write)
                    try:
                        order = {"op": "index", "path": str(path), "format": "parquet"}
                        protocol.write(order_write, order)
                        answer, _ = protocol.read(answer_read)
                    except (EOFError, OSError):
                        return []
                    finally:
                        os.close(order_write)  # end of file ends the worker
            finally:
                os.close(answer_read)
        return [(rows, size) for rows, size in answer.get("row_groups", [])]


def _byte_slices(whole: Slice, cuts: Iterable[Cut]) -> list[Slice]:
    slices = [
        whole._replace(unit="bytes", start=cut.start, stop=cut.stop, row=cut.row) for cut in cuts
    ]
    return slices if len(slices) > 1 else [whole]


def _row_group_slices(
    whole: Slice, groups: list[tuple[int, int]], target_bytes: int
) -> list[Slice]:
    """Join neighbouring row groups until a slice has about `target_bytes`."""
    slices: list[Slice] = []
    start = row = first_row = size = 0
    for number, (rows, group_bytes) in enumerate(groups):
        row += rows
        size += group_bytes
        if size >= target_bytes or number == len(groups) - 1:
            slices.append(
                whole._replace(unit="row_groups", start=start, stop=number + 1, row=first_row)
            )
            start, first_row, size = number + 1, row, 0
    return slices if len(slices) > 1 else [whole]
