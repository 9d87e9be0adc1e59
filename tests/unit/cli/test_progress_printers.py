"""Lines and events come when something changes, else seldom; a terminal is left clean."""

from __future__ import annotations

import io
import json

from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.progress_printers import (
    EventPrinter,
    LinePrinter,
    LivePrinter,
    SilentPrinter,
    printer_for,
)
from batchpoint.clock import SteppedClock
from batchpoint.domain.job import Job, JobState, Progress
from tests.unit.resolved_jobs import NOON, new_job


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def job(phase: str, done: int = 0, state: JobState = JobState.RUNNING) -> Job:
    progress = Progress.model_validate({"phase": phase, "items_total": 9, "items_done": done})
    made = new_job()
    status = made.status.model_copy(update={"state": state, "progress": progress})
    return made.model_copy(update={"status": status})


def test_which_printer_for_what() -> None:
    clock = SteppedClock(NOON)
    assert isinstance(printer_for(None, io.StringIO(), clock), LinePrinter)
    assert isinstance(printer_for(None, Terminal(), clock), LivePrinter)
    assert isinstance(printer_for(OutputForm.JSON, Terminal(), clock), EventPrinter)
    assert type(printer_for(OutputForm.NONE, Terminal(), clock)) is SilentPrinter


def test_a_line_at_each_phase_and_each_ten_seconds() -> None:
    clock, stream = SteppedClock(NOON), io.StringIO()
    with LinePrinter(stream, clock) as printer:
        for second in range(25):
            printer.show(job("scoring" if second > 2 else "model", second % 10))
            clock.advance(1)
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["model", "scoring", "scoring", "scoring"]
    assert [line.split("  ")[-1] for line in lines] == ["0.0s", "3.0s", "13s", "23s"]


def test_changes_of_state_alone_make_no_line_until_the_end() -> None:
    clock, stream = SteppedClock(NOON), io.StringIO()
    with LinePrinter(stream, clock) as printer:
        printer.show(job("queued", state=JobState.QUEUED))
        printer.show(job("queued", state=JobState.PREPARING))
        printer.show(job("scoring", state=JobState.CANCEL_REQUESTED))
        printer.show(job("scoring", state=JobState.CANCELED))
    words = [line.split("  ")[1] for line in stream.getvalue().splitlines()]
    assert words == ["queued", "canceling", "canceled"]


def test_events_are_json_lines_at_most_each_second() -> None:
    clock, stream = SteppedClock(NOON), io.StringIO()
    with EventPrinter(stream, clock) as printer:
        for done in range(9):
            printer.show(job("scoring", done))
            clock.advance(0.3)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["progress"]["items_done"] for event in events] == [0, 4, 8]
    assert events[0]["event"] == "progress"


def test_a_terminal_is_left_with_its_cursor_and_an_empty_line() -> None:
    stream = Terminal()
    with LivePrinter(stream, SteppedClock(NOON)) as printer:
        printer.show(job("scoring", 3))
    text = stream.getvalue()
    assert "3 / ~9 files" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert text.rstrip("\r\n").endswith("\x1b[2K")
