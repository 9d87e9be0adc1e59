"""The worker's loop: takes orders from the agent, has tasks scored, sends the results."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from batchpoint_worker import harvest, lifeline, protocol, rows, surroundings
from batchpoint_worker.failures import error_of, plain_error
from batchpoint_worker.outbox import Outbox
from batchpoint_worker.protocol import Header, StatusPage
from batchpoint_worker.scorer import Failure, Info, Request, Scored, Scorer, Task, TaskFailed

# What one message can carry, less room for the lines of failures.
ROWS_BYTES_MAX = protocol.BODY_BYTES_MAX - (1 << 30)

SCORERS = {
    "script": ("batchpoint_worker.script", "ScriptScorer"),
    "mlflow": ("batchpoint_worker.mlflow_script", "MlflowScorer"),
}

# Orders that need no model: (module, function taking the order and returning the answer's fields).
SIDE_ORDERS = {
    "index": ("batchpoint_worker.parquet_index", "index", "indexed"),
    "assemble": ("batchpoint_worker.parquet_assembly", "assemble", "assembled"),
}


class Pipes(NamedTuple):
    """The file descriptors of one worker, moved out of user code's way; -1 where there is none."""

    read: int
    write: int
    status: int
    lifeline: int


class Stopped(Exception):
    """The agent asked this process to end, with this exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Worker:
    """One scoring worker between its pipes."""

    def __init__(self, pipes: Pipes) -> None:
        self.pipes = pipes
        self.outbox = Outbox(pipes.write)
        self.status = StatusPage(pipes.status)
        self.scorer: Optional[Scorer] = None
        self.request: Optional[Request] = None
        self.pid = os.getpid()
        self._orders: Dict[str, Callable[[Header], None]] = {
            "load": self.load,
            "job": self.take_job,
            "run": self.run,
            "shutdown": self.shutdown,
        }

    def serve(self) -> int:
        """Follow orders until one ends the process; returns its exit status.

        End of file on the pipe kills the process group: the agent is gone.
        """
        self.status.set(0, time.monotonic(), protocol.IDLE)
        try:
            while True:
                self.wait()
                header, _ = protocol.read(self.pipes.read)
                self.follow(header)
        except (EOFError, BrokenPipeError):
            lifeline.end_group()
            return 1
        except Stopped as stop:
            return stop.status

    def wait(self) -> None:
        """Wait until there is something to read (a forking parent does more meanwhile)."""

    def follow(self, header: Header) -> None:
        """Do what one message says."""
        op = header["op"]
        order = self._orders.get(op)
        if order is not None:
            order(header)
        elif op in SIDE_ORDERS:
            self._side_order(header)
        else:
            raise protocol.ProtocolError("a worker knows no order %r" % op)

    # --- loading ------------------------------------------------------------------------------

    def load(self, header: Header) -> None:
        """Load the model or script; a failure is told and ends the process."""
        began = time.monotonic()
        self.status.set(0, began, protocol.LOADING)
        request = self.request = Request.from_header(header)
        try:
            info = self._load(request)
            files, warnings = self._take_files(request.harvest)
        except BaseException as failure:  # noqa: BLE001 - bulkhead: user code may raise anything
            self._leave_if_forked()
            surroundings.flush_streams()
            origin = "environment" if isinstance(failure, ImportError) else "user"
            error = error_of(failure, origin, "init()")
            self.outbox.send({"op": "load_failed", "error": error})
            raise Stopped(1) from None
        self._leave_if_forked()
        surroundings.flush_streams()
        self.loaded(info)
        self.status.set(0, time.monotonic(), protocol.IDLE)
        self.outbox.send(
            {
                "op": "loaded",
                "seconds": time.monotonic() - began,
                "forkable": self.forkable(info),
                "loader": info.loader,
                "python": ".".join(map(str, sys.version_info[:3])),
                "packages": dict(info.packages),
                "warnings": [*info.warnings, *warnings],
                "files": files,
            }
        )

    def _load(self, request: Request) -> Info:
        surroundings.set_environment(request)
        surroundings.set_logging(request.logging_level)
        surroundings.set_arguments(request)
        if request.output_dir:
            harvest.discard(request.output_dir)
        _prepare_rendering(request)
        module, name = SCORERS[request.mode]
        scorer: Scorer = getattr(importlib.import_module(module), name)()
        info = scorer.load(request)
        self.scorer = scorer
        return info

    def loaded(self, info: Info) -> None:
        """Hook: the model is there and nothing runs yet."""

    def forkable(self, info: Info) -> bool:  # noqa: ARG002
        """Tell whether this process can be forked into workers."""
        return False

    def take_job(self, header: Header) -> None:
        """Set what the next job wants."""
        assert self.request is not None
        self.request = self.request.for_job(header)
        _prepare_rendering(self.request)
        surroundings.set_environment(self.request)
        if self.request.output_dir:
            harvest.discard(self.request.output_dir)

    def shutdown(self, header: Header) -> None:  # noqa: ARG002
        """Let user code shut down and end; its failing then changes no result."""
        if self.scorer is not None:
            try:
                self.scorer.close()
            except BaseException as failure:  # noqa: BLE001 - bulkhead: all results are in
                error = error_of(failure, doing="shutdown()")
                sys.stderr.write(
                    "shutdown() failed: %s\n%s" % (error["message"], error["traceback"])
                )
        self._leave_if_forked()
        surroundings.flush_streams()
        self.outbox.send({"op": "bye"})
        raise Stopped(0)

    def _side_order(self, header: Header) -> None:
        module, name, answer = SIDE_ORDERS[header["op"]]
        self.status.set(0, time.monotonic(), protocol.RUNNING)
        try:
            fields = getattr(importlib.import_module(module), name)(header)
        except Exception as failure:  # noqa: BLE001 - bulkhead: told to the agent, who decides
            self.outbox.send({"op": "op_failed", "error": error_of(failure, "batchpoint")})
        else:
            self.outbox.send({"op": answer, **fields})
        self.status.set(0, time.monotonic(), protocol.IDLE)

    # --- scoring ------------------------------------------------------------------------------

    def run(self, header: Header) -> None:
        """Score the tasks of a message one after the other."""
        assert self.scorer is not None
        assert self.request is not None
        tasks: List[Task] = header["tasks"]
        last = len(tasks) - 1
        for number, task in enumerate(tasks):
            result, body = self._score(self.scorer, self.request, task)
            if number == last:
                self.status.set(0, time.monotonic(), protocol.IDLE)
                self.outbox.add(result, body, more=self._is_waiting())
            else:
                self.outbox.add(result, body, more=True)

    def _is_waiting(self) -> bool:
        """Tell whether another message is there to be read."""
        return bool(select.select([self.pipes.read], [], [], 0)[0])

    def _score(self, scorer: Scorer, request: Request, task: Task) -> Tuple[Header, List[bytes]]:
        number = task["id"]
        began = time.monotonic()
        self.status.set(number, began, protocol.RUNNING)
        result: Header = {"id": number, "ok": False, "seconds": 0.0}
        body: List[bytes] = []
        try:
            scored = _sendable(scorer.score(task, request, self.status))
            self.status.set(number, time.monotonic(), protocol.HARVESTING, scored.slice_rows)
            files, warnings = self._take_files(task.get("harvest") or "")
        except BaseException as failure:  # noqa: BLE001 - bulkhead: user code may raise anything
            self._leave_if_forked()
            result["error"] = error_of(failure)
            result["slice_rows"] = self.status.get()[3]
            self._discard_files()
        else:
            self._leave_if_forked()
            result["ok"] = True
            body = _fill(result, scored)
            if files:
                result["files"] = files
            if warnings:
                result["warnings"] = [*scored.warnings, *warnings]
        result["seconds"] = time.monotonic() - began
        return result, body

    def _take_files(self, destination: str) -> Tuple[harvest.Harvested, List[str]]:
        assert self.request is not None
        folder = self.request.output_dir
        if not folder:
            return [], []
        try:
            if destination:
                return harvest.take(folder, destination)
            if harvest.is_empty(folder):
                return [], []
        except OSError as error:  # a full disk is not what user code did wrong
            message = "files of the output folder cannot be kept: %s" % error
            raise TaskFailed(plain_error(type(error).__name__, message, "storage")) from error
        harvest.discard(folder)
        return [], ["files in the output folder were deleted: this job publishes none"]

    def _discard_files(self) -> None:
        assert self.request is not None
        if self.request.output_dir:
            harvest.discard(self.request.output_dir)

    def _leave_if_forked(self) -> None:
        """End a child that user code forked and let run back into the loop."""
        if os.getpid() != self.pid:
            surroundings.flush_streams()
            os._exit(0)


def _prepare_rendering(request: Request) -> None:
    """Load pyarrow before the first frame that wants it, so that all are made the same way."""
    if request.render == rows.ARROW:
        with contextlib.suppress(ImportError):
            importlib.import_module("pyarrow")


def _sendable(scored: Scored) -> Scored:
    """Return what was scored if one message can carry it; raises TaskFailed."""
    if len(scored.data) > ROWS_BYTES_MAX:
        raise TaskFailed(
            plain_error(
                "result_too_large",
                "%d rows make %d bytes, and one mini-batch may return %d; choose a smaller "
                "mini_batch_size" % (scored.rows, len(scored.data), ROWS_BYTES_MAX),
            )
        )
    return scored


def _fill(result: Header, scored: Scored) -> List[bytes]:
    """Add to a result what its scoring gave, and return the pieces of its body."""
    body: List[bytes] = []
    if scored.rows:
        result["rows"] = scored.rows
    if scored.data:
        result["length"] = len(scored.data)
        body.append(scored.data)
    result["encoding"] = scored.encoding
    result["columns"] = scored.columns
    if scored.unattributed:
        result["unattributed"] = scored.unattributed
    if scored.slice_rows >= 0:
        result["slice_rows"] = scored.slice_rows
    if scored.warnings:
        result["warnings"] = list(scored.warnings)
    if scored.failures:
        lines = b"".join(map(_failure_line, scored.failures))
        body.append(lines)
        result["failures_length"] = len(lines)
        result["failed_rows"] = sum(failure.row is not None for failure in scored.failures)
        result["failed_items"] = _failed_items(scored.failures)
    return body


def _failure_line(failure: Failure) -> bytes:
    error = failure.error
    line: Dict[str, Any] = {"item": failure.item, "name": failure.name, "row": failure.row}
    for key in ("origin", "type", "message", "traceback"):
        line[key] = error.get(key, "")
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def _failed_items(failures: Sequence[Failure]) -> List[Header]:
    items: Dict[int, Header] = {}
    for failure in failures:
        entry = items.get(failure.item)
        if entry is None:
            entry = items[failure.item] = {"item": failure.item, "name": failure.name, "rows": 0}
            entry["error"] = failure.error
        entry["rows"] += failure.row is not None
    return list(items.values())
