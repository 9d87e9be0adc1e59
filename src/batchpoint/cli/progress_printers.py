"""Show a running job on stderr: a live line on a terminal, plain lines, or JSON events."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Protocol, Self, TextIO

from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.progress_line import ProgressLine
from batchpoint.cli.render import terminal_width
from batchpoint.cli.text_tables import safe
from batchpoint.clock import Clock
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState

PLAIN_SECONDS = 10.0
EVENT_SECONDS = 1.0
_REFRESHES_PER_SECOND = 5


class ProgressPrinter(Protocol):
    """Told of every change of a job; a context that is left before anything else is printed."""

    def show(self, job: Job, running: Sequence[str] = ()) -> None:
        """Take in the job's present state; `running` names the steps that run in a pipeline."""
        ...

    def log(self, job: str, step: str, line: str) -> None:
        """Take in a line that user code of a job (a step of a pipeline) has printed."""
        ...

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        ...


def printer_for(form: OutputForm | None, stream: TextIO, clock: Clock) -> ProgressPrinter:
    """Choose: JSON events for `-o json`, nothing for `-o none`, live on a terminal, else lines."""
    if form == OutputForm.JSON:
        return EventPrinter(stream, clock)
    if form == OutputForm.NONE:
        return SilentPrinter()
    return LivePrinter(stream, clock) if stream.isatty() else LinePrinter(stream, clock)


class SilentPrinter:
    """Shows nothing."""

    def show(self, job: Job, running: Sequence[str] = ()) -> None:
        """Take in the job's present state."""

    def log(self, job: str, step: str, line: str) -> None:
        """Take in a line that user code has printed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class LinePrinter(SilentPrinter):
    """One plain line at most each ten seconds, and one at each change of phase."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        """Lines go to `stream`."""
        self._stream = stream
        self._clock = clock
        self._line = ProgressLine()
        self._phase = ""
        self._printed_at = float("-inf")

    def show(self, job: Job, running: Sequence[str] = ()) -> None:
        """Print a line when it is time for one."""
        now = self._clock.monotonic()
        phase = _phase(job, running)
        if phase == self._phase and now - self._printed_at < PLAIN_SECONDS:
            return
        self._phase, self._printed_at = phase, now
        text = self._line.render(
            job.status.progress,
            state=job.status.state,
            elapsed_seconds=_elapsed(job, self._clock),
            width=160,
            running=running,
        )
        self._stream.write(f"{job.name}  {text}\n")
        self._stream.flush()

    def log(self, job: str, step: str, line: str) -> None:  # noqa: ARG002
        """Print a line of a log."""
        self._stream.write(log_line(step, line) + "\n")
        self._stream.flush()


class EventPrinter(SilentPrinter):
    """JSON lines: one event at most each second, and one at each change of state or phase."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        """Events go to `stream`."""
        self._stream = stream
        self._clock = clock
        self._last = ""
        self._printed_at = float("-inf")

    def show(self, job: Job, running: Sequence[str] = ()) -> None:
        """Print an event when it is time for one."""
        now = self._clock.monotonic()
        phase = _phase(job, running)
        if phase == self._last and now - self._printed_at < EVENT_SECONDS:
            return
        self._last, self._printed_at = phase, now
        event: dict[str, object] = {
            "event": "progress",
            "job": job.name,
            "state": job.status.state.value,
            "elapsed_seconds": round(_elapsed(job, self._clock), 3),
            "progress": job.status.progress.model_dump(mode="json"),
        }
        if job.spec.type == "pipeline":
            event["running"] = list(running)
        self._write(event)

    def log(self, job: str, step: str, line: str) -> None:
        """Print an event for a line of a log."""
        self._write({"event": "log", "job": job, "step": step or None, "line": line})

    def _write(self, event: dict[str, object]) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()


class LivePrinter(SilentPrinter):
    """One line that is redrawn in place and is gone at the end."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        """The line stands on `stream`, a terminal."""
        from rich.console import Console
        from rich.live import Live

        self._clock = clock
        self._line = ProgressLine()
        self._job: Job | None = None
        self._running: Sequence[str] = ()
        self._live = Live(
            console=Console(file=stream, highlight=False, markup=False),
            get_renderable=self._rendered,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        )

    def show(self, job: Job, running: Sequence[str] = ()) -> None:
        """Redraw the line."""
        self._job, self._running = job, running
        self._live.refresh()

    def log(self, job: str, step: str, line: str) -> None:  # noqa: ARG002
        """Print a line of a log above the one that is redrawn."""
        self._live.console.print(log_line(step, line), soft_wrap=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _rendered(self) -> str:
        if self._job is None:
            return ""
        return self._line.render(
            self._job.status.progress,
            state=self._job.status.state,
            elapsed_seconds=_elapsed(self._job, self._clock),
            width=terminal_width() - 1,
            running=self._running,
        )


def log_line(step: str, line: str) -> str:
    """Write a line of a log for people, with the step that printed it before it."""
    told = safe(line)
    return f"{step} | {told}" if step else told


def _phase(job: Job, running: Sequence[str]) -> str:
    """Name what people see change: the phase, what runs, that the job is canceled or has ended."""
    state = job.status.state
    if state in TERMINAL_STATES or state == JobState.CANCEL_REQUESTED:
        return state.value
    return " ".join([job.status.progress.phase, *running])


def _elapsed(job: Job, clock: Clock) -> float:
    end = job.status.ended_at or clock.now()
    return max((end - job.created_at).total_seconds(), 0.0)


def to_stderr(text: str) -> None:
    """Write lines for people to stderr, so that stdout holds the result alone."""
    if text:
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
        sys.stderr.flush()
