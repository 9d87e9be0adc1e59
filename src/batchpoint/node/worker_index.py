"""Asking a worker in the user's environment where a Parquet file can be cut."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from batchpoint.node.worker_process import WORKER_MAIN
from batchpoint_worker import protocol


class RowGroup(NamedTuple):
    """A row group: its rows, its size unpacked, and the bytes of the file in which it lies."""

    rows: int
    size: int
    start: int
    stop: int


def row_groups(python: str, path: Path) -> list[RowGroup]:
    """Ask a fresh worker for the row groups of a Parquet file; only its footer is read.

    An empty list: it cannot tell, and the file stays whole; scoring will say what is wrong.
    """
    order_read, order_write = os.pipe()
    answer_read, answer_write = os.pipe()
    with tempfile.TemporaryFile() as page:
        page.truncate(protocol.STATUS_BYTES)
        theirs = (order_read, answer_write, page.fileno())
        names = ("--read-fd", "--write-fd", "--status-fd")
        command = [python, "-u", str(WORKER_MAIN)]
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
    return [RowGroup(*group) for group in answer.get("row_groups", [])]
