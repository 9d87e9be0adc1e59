"""One attempt at a command on this node: inputs in place, the command run, outputs published."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import time
from pathlib import Path
from typing import Literal, NamedTuple

from batchpoint.core.binding import Kind, shell_text
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import ErrorInfo
from batchpoint.formats.documents import readable
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import JobFolder
from batchpoint.node import command_cause
from batchpoint.node.command_attempt import Attempt
from batchpoint.node.command_inputs import CommandInputs, Stopped
from batchpoint.node.command_order import (
    CommandBeat,
    CommandEnd,
    CommandOrder,
    CommandOutcome,
    Heard,
    heard_by_nobody,
)
from batchpoint.node.command_outputs import CommandOutputs
from batchpoint.node.command_process import CommandProcess, Ended, TailedLog
from batchpoint.node.command_surroundings import shell_command, variables, working_folder
from batchpoint.node.exit_words import OutOfMemoryWatch

_Origin = Literal["user", "environment", "input", "storage", "batchpoint"]
_ORIGINS: dict[str, _Origin] = {
    "input": "input",
    "uri": "input",
    "field": "input",
    "reference": "input",
    "binding": "user",
    "environment": "environment",
    "storage": "storage",
    "datastore": "storage",
    "output": "user",
    "command": "user",
}


_PUBLISH_AGAIN_SECONDS = 2.0


class _Prepared(NamedTuple):
    """What is run: arguments, folder and variables."""

    argv: list[str]
    cwd: Path
    environment: dict[str, str]


class CommandRun:
    """Runs one attempt; used on the agent's event loop, what blocks runs in threads."""

    def __init__(
        self, order: CommandOrder, process: CommandProcess, heard: Heard = heard_by_nobody
    ) -> None:
        """Nothing happens before `run`; `heard` is told how far it is when that changes."""
        self.order = order
        self.beat = CommandBeat("inputs")
        self._heard = heard
        self._process = process
        self._memory = OutOfMemoryWatch()
        self._inputs: CommandInputs | None = None
        self._early: CommandOutcome | None = None
        self._stopped = asyncio.Event()
        self._unwanted = threading.Event()  # the same, for threads
        self._started = False

    async def run(self) -> CommandEnd:
        """Run to the end; whatever goes wrong for the step's own reasons is in the answer.

        Raises:
            Unavailable: an earlier attempt does not end, the job's folder cannot be written to, a
                disk is full (`storage_full`), or the order is of a runner that was replaced
                (`lease_lost`).
        """
        begun = time.monotonic()
        self._tell(self.beat)
        attempt = await asyncio.to_thread(Attempt.begin, self.order.job_dir, self.order.epoch)
        try:
            end = await self._within(attempt)
        finally:
            await asyncio.to_thread(attempt.end)
        seconds = round(time.monotonic() - begun, 6)
        return CommandEnd(end.outcome, seconds, end.exit_code, end.error, end.outputs)

    def stop(self) -> None:
        """End the command: it is asked to, and killed a moment later; `run` tells when."""
        self._end_early("stopped")

    def sample_memory(self) -> None:
        """Look whether the kernel runs out of memory; call it every second or so."""
        self._memory.sample()

    def _tell(self, beat: CommandBeat) -> None:
        self.beat = beat
        self._heard(beat)

    def _end_early(self, outcome: CommandOutcome) -> None:
        if self._early is not None:
            return
        self._early = outcome
        self._stopped.set()
        self._unwanted.set()
        if self._inputs is not None:
            self._inputs.stop()
        if self._started:
            self._process.stop()
            loop = asyncio.get_running_loop()
            loop.call_later(limits.CANCEL_GRACE_SECONDS, self._kill)

    def _kill(self) -> None:
        if self._started:
            self._process.kill()

    # --- the attempt ----------------------------------------------------------------------------

    async def _within(self, attempt: Attempt) -> CommandEnd:
        try:
            outputs = CommandOutputs(self.order, attempt.scratch)
            earlier = await asyncio.to_thread(outputs.earlier)
            if earlier is not None:
                return CommandEnd("completed", 0.0, 0, outputs=earlier)
            end = await self._attempted(attempt, outputs)
        except Stopped:
            return CommandEnd("stopped", 0.0)
        except OSError as error:
            return self._not_begun(storage_error(error, self.order.job_dir))
        except BatchpointError as error:
            return self._not_begun(error)
        return end

    def _not_begun(self, error: BatchpointError) -> CommandEnd:
        """Tell why a command was not run; a full disk is no cause, but something to wait for."""
        if error.code != "storage_full":
            return _failed(error)
        if self._early is not None:
            return CommandEnd("stopped", 0.0)
        raise error

    async def _attempted(self, attempt: Attempt, outputs: CommandOutputs) -> CommandEnd:
        end: CommandEnd | None = None
        try:
            self._process.prepare()
            await asyncio.to_thread(outputs.prepare)
            prepared = await self._prepared(attempt, outputs)
            self._tell(CommandBeat("command"))
            ran = await self._executed(attempt, prepared)
            end = await self._published(outputs, ran) if ran.outcome == "completed" else ran
            return end
        finally:
            if end is None or end.outcome != "completed":
                # What cannot be removed now is removed by the next attempt; the cause comes first.
                with contextlib.suppress(BatchpointError):
                    await asyncio.to_thread(outputs.withdraw)

    async def _published(self, outputs: CommandOutputs, ran: CommandEnd) -> CommandEnd:
        self._tell(CommandBeat("writing"))
        loop = asyncio.get_running_loop()

        def patience(error: BatchpointError) -> bool:
            beat = CommandBeat("writing", f"cannot publish now, trying again: {error.message}")
            loop.call_soon_threadsafe(self._tell, beat)
            return not self._unwanted.wait(_PUBLISH_AGAIN_SECONDS)

        try:
            published = await asyncio.to_thread(outputs.publish, patience)
        except BatchpointError as error:
            if self._early is not None and error.retryable:
                return CommandEnd("stopped", 0.0, ran.exit_code)
            return _failed(error, ran.exit_code)
        return CommandEnd("completed", 0.0, ran.exit_code, outputs=published)

    async def _prepared(self, attempt: Attempt, outputs: CommandOutputs) -> _Prepared:
        """Have everything in place; a stop does not wait for a store that does not answer.

        Raises: Stopped, BatchpointError, OSError.
        """
        self._inputs = CommandInputs(self.order, attempt.scratch / "inputs")
        working = asyncio.ensure_future(
            asyncio.to_thread(_prepare, self.order, attempt.scratch, self._inputs, outputs)
        )
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not working.done():
            await asyncio.wait({working}, timeout=limits.CANCEL_GRACE_SECONDS)
        if self._early is not None:
            working.add_done_callback(lambda done: done.exception())
            raise Stopped
        return working.result()

    async def _executed(self, attempt: Attempt, prepared: _Prepared) -> CommandEnd:
        """Run the command; raises OSError."""
        seconds = self.order.spec.timeout_seconds
        loop = asyncio.get_running_loop()
        timeout = loop.call_later(seconds, self._end_early, "timed_out") if seconds else None
        log = TailedLog(JobFolder(self.order.job_dir).command_log(self.order.attempt))
        self._started = True
        try:
            ended = await self._process.run(
                prepared.argv,
                cwd=prepared.cwd,
                environment=prepared.environment,
                log=log,
                lock=attempt.lock,
            )
            if ended.left:
                told = f"[{ended.left} processes of this command cannot be killed]\n"
                log.write(told.encode())
        finally:
            self._started = False
            if timeout is not None:
                timeout.cancel()
            log.close()
        return self._told(ended, log, prepared)

    def _told(self, ended: Ended, log: TailedLog, prepared: _Prepared) -> CommandEnd:
        shown = str(log.path.relative_to(self.order.job_dir))
        if self._early == "timed_out":
            seconds = self.order.spec.timeout_seconds or 0
            error = command_cause.timed_out(seconds, log.tail, log=shown)
            return CommandEnd("timed_out", 0.0, ended.status, error)
        if self._early is not None:
            return CommandEnd("stopped", 0.0, ended.status)
        if ended.status == 0:
            return CommandEnd("completed", 0.0, 0)
        if ended.status is None:
            return CommandEnd("failed", 0.0, error=_not_run(ended, prepared))
        error = command_cause.failed(
            ended.status,
            log.tail,
            log=shown,
            path=prepared.environment["PATH"],
            out_of_memory=self._memory.happened(),
        )
        return CommandEnd("failed", 0.0, ended.status, error)


def _prepare(
    order: CommandOrder, scratch: Path, inputs: CommandInputs, outputs: CommandOutputs
) -> _Prepared:
    """Bring inputs and code; blocking. Raises: Stopped, BatchpointError, OSError."""
    values: dict[tuple[Kind, str], str] = {}
    for name, text in inputs.texts().items():
        values["inputs", name] = text
    for name, text in outputs.texts().items():
        values["outputs", name] = text
    environment = variables(order, values, scratch)
    text = shell_text(order.spec.command, tuple(order.inputs))
    argv = shell_command(text, environment["PATH"])
    return _Prepared(argv, working_folder(order, scratch), environment)


def _failed(error: BatchpointError, exit_code: int | None = None) -> CommandEnd:
    origin = _ORIGINS.get(error.code.partition("_")[0], "batchpoint")
    told = ErrorInfo(origin=origin, code=error.code, message=readable(error.message))
    return CommandEnd("failed", 0.0, exit_code, told)


def _not_run(ended: Ended, prepared: _Prepared) -> ErrorInfo:
    if ended.errno == errno.E2BIG:
        size = sum(len(name) + len(text) for name, text in prepared.environment.items())
        return ErrorInfo(
            origin="input",
            code="command_failed",
            message=f"the inputs and variables of the command ({size:,} bytes) are more than this "
            "machine gives to one process; put long texts into files",
        )
    if ended.errno:
        why = os.strerror(ended.errno)
        message = f"{prepared.argv[0]} cannot be started in {prepared.cwd}: {why}"
        return ErrorInfo(origin="environment", code="command_failed", message=message)
    return ErrorInfo(
        origin="batchpoint",
        code="command_failed",
        message="the process that guards the command was killed from outside, and the command "
        "with it",
    )
