"""One line that says how far a job is, from its `Progress`; numbers on it never go back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from batchpoint.cli.text_tables import count, cut, duration, short_number
from batchpoint.domain.job import JobState, Progress

_WAITING = {
    "queued": "waiting for a runner",
    "environment": "preparing the environment",
    "model": "loading the model",
    "inputs": "bringing the inputs",
    "command": "running",
    "steps": "",
    "writing": "putting the results together",
    "done": "complete",
}
_NAMED_MAX = 4


class _Segment(NamedTuple):
    """A piece of the line; when the line is too long, the highest `rank` is left out first."""

    rank: int
    text: str


class ProgressLine:
    """Renders successive progress of one job; remembers what it showed, so nothing goes back."""

    def __init__(self) -> None:
        """Nothing has been shown yet."""
        self._rows = self._items = self._failed = self._total = 0
        self._listed = self._is_command = False

    def render(
        self,
        progress: Progress,
        *,
        state: JobState,
        elapsed_seconds: float,
        width: int,
        running: Sequence[str] = (),
    ) -> str:
        """Give the line for `progress`, at most `width` columns wide.

        `running` names the steps of a pipeline that run now.
        """
        self._remember(progress)
        if state in (JobState.FAILED, JobState.CANCELED):
            segments = [_Segment(0, state.value.lower()), *self._done(progress)]
        elif state == JobState.CANCEL_REQUESTED:
            segments = [_Segment(0, "canceling  stopping user code"), *self._done(progress)]
        elif progress.phase == "scoring":
            segments = self._scoring(progress)
        elif progress.phase == "steps":
            segments = _steps(progress, running)
        else:
            segments = [_Segment(0, f"{progress.phase}  {_WAITING[progress.phase]}")]
            segments += self._preparing(progress)
        segments.append(_Segment(8, duration(elapsed_seconds)))
        return _fitted(segments, width)

    def _remember(self, progress: Progress) -> None:
        self._rows = max(self._rows, progress.rows_done)
        self._items = max(self._items, progress.items_done)
        self._failed = max(self._failed, progress.items_failed)
        self._listed = self._listed or progress.listed
        self._is_command = self._is_command or progress.phase in ("inputs", "command")
        self._total = max(self._total, progress.items_total, self._items)

    def _counts(self) -> list[_Segment]:
        rough = "" if self._listed else "~"
        files = f"{self._items:,} / {rough}{count(self._total, 'file')}"
        segments = [_Segment(1, files)]
        if self._rows:
            segments.insert(0, _Segment(4, count(self._rows, "row")))
        return segments

    def _done(self, progress: Progress) -> list[_Segment]:
        """Say how far a job has come: in items, in steps; a command has no such numbers."""
        if progress.steps_total:
            return _steps(progress, ())
        return [] if self._is_command else self._counts()

    def _scoring(self, progress: Progress) -> list[_Segment]:
        segments = [_Segment(0, "scoring"), *self._counts()]
        if self._listed and self._total:
            # A percentage of an estimate could go back; it waits until the listing has ended.
            segments.append(_Segment(5, f"{self._items * 100 // self._total}%"))
        if progress.rows_per_second > 0:
            segments.append(_Segment(6, f"{short_number(progress.rows_per_second)} rows/s"))
        if progress.eta_seconds is not None:
            segments.append(_Segment(3, f"ETA {duration(progress.eta_seconds)}"))
        segments.append(_Segment(7, f"workers {progress.workers}/{progress.workers_wanted}"))
        if self._failed:
            segments.append(_Segment(2, count(self._failed, "failed item")))
        if progress.retries:
            segments.append(_Segment(9, count(progress.retries, "retry", "retries")))
        return segments

    def _preparing(self, progress: Progress) -> list[_Segment]:
        if progress.phase in ("writing", "done"):
            return self._done(progress)
        segments: list[_Segment] = []
        if self._total:
            found = count(self._total, "file")
            segments.append(_Segment(3, found if self._listed else f"listing: {found}"))
        if progress.phase == "model" and progress.workers_wanted:
            segments.append(_Segment(2, f"workers {progress.workers}/{progress.workers_wanted}"))
        return segments


def _steps(progress: Progress, running: Sequence[str]) -> list[_Segment]:
    """Say how far a pipeline is, and what of it runs now."""
    segments = [_Segment(0, f"steps {progress.steps_done}/{progress.steps_total}")]
    if running:
        more = len(running) - _NAMED_MAX
        named = ", ".join([*running[:_NAMED_MAX], *[f"{more} more"] * (more > 0)])
        segments.append(_Segment(4, f"running: {named}"))
    elif progress.steps_running:
        segments.append(_Segment(4, f"running: {progress.steps_running}"))
    for number, word, rank in (
        (progress.steps_failed, "failed", 2),
        (progress.steps_canceled, "canceled", 3),
        (progress.steps_reused, "reused", 5),
    ):
        if number:
            segments.append(_Segment(rank, f"{number} {word}"))
    return segments


def _fitted(segments: list[_Segment], width: int) -> str:
    """Join the segments, leaving out the least important ones until the line fits."""
    kept = list(segments)
    while True:
        line = "  ".join(segment.text for segment in kept)
        if len(line) <= width or len(kept) == 1:
            return cut(line, width)
        kept.remove(max(kept, key=lambda segment: segment.rank))
