"""What follows a failed attempt: another, bisecting or giving up; and how long one may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from batchpoint.core.isolation import is_lone, is_narrowed, row_count
from batchpoint.core.messages import AttemptError, AttemptHistory, Outcome
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task


class Decision(Enum):
    """What to do with a task after a failed attempt."""

    RETRY = "retry"
    BISECT = "bisect"
    BISECT_ROWS = "bisect_rows"
    GIVE_UP = "give_up"


@dataclass(slots=True)
class Attempts:
    """The ended attempts at one task; kept only for tasks that had trouble.

    `charged` counts those that were the user code's doing, `lost_in_a_row` the infrastructure
    losses since the last one that was not.
    """

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    seconds: list[float] = field(default_factory=list[float])
    charged: int = 0
    lost_in_a_row: int = 0

    def charge(self, outcome: Outcome, seconds: float) -> None:
        """Note an attempt that counts against the task."""
        self._note(outcome, seconds)
        self.charged += 1
        if outcome != "lost":
            self.lost_in_a_row = 0

    def lose(self, seconds: float) -> None:
        """Note an attempt that infrastructure ended."""
        self._note("lost", seconds)
        self.lost_in_a_row += 1

    def recall(self) -> None:
        """Note an attempt that was taken back before it could begin; nothing is held against it."""
        self._note("lost", 0.0)

    def _note(self, outcome: Outcome, seconds: float) -> None:
        self.outcomes.append(outcome)
        self.seconds.append(seconds)

    @property
    def ended(self) -> int:
        """How many attempts ended; the next one has the number after it."""
        return len(self.outcomes)

    def history(self) -> AttemptHistory:
        """Return how each attempt ended, oldest first."""
        return AttemptHistory(tuple(self.outcomes), tuple(self.seconds))


def decide(
    task: Task,
    outcome: Outcome,
    *,
    charged: int,
    whole: bool,
    max_retries: int,
    slice_rows: int,
    isolate_rows: bool,
) -> Decision:
    """Decide what follows the latest of `charged` failed attempts at `task`.

    A `whole` mini-batch gets 1 + `max_retries` attempts, a piece of one gets one. A lone piece gets
    one confirming attempt before it is given up, unless its rows can be told apart: then they are
    (when the worker died or hung; an exception was already narrowed down by the worker itself).
    """
    if whole and charged <= max_retries:
        return Decision.RETRY
    if not is_lone(task):
        return Decision.BISECT
    narrowed = is_narrowed(task)
    if isolate_rows and (narrowed or outcome != "failed") and row_count(task, slice_rows) > 1:
        return Decision.BISECT_ROWS
    return Decision.RETRY if not whole and charged < 2 else Decision.GIVE_UP


class Patience:
    """How long one `run` may take: as told, or learned from what runs have taken so far."""

    def __init__(self, fixed_seconds: float | None) -> None:
        self._fixed = fixed_seconds
        self._samples = 0
        self._longest = 0.0
        self.seconds: float = (
            limits.TIMEOUT_UNKNOWN_SECONDS if fixed_seconds is None else fixed_seconds
        )

    @property
    def learning(self) -> bool:
        """Tell whether the timeout is still a guess."""
        return self._fixed is None and self._samples < limits.TIMEOUT_SAMPLES_MIN

    def learn(self, seconds: float) -> None:
        """Take the duration of a run that scored into account."""
        self._samples += 1
        if self._fixed is not None:
            return
        if seconds > self._longest:
            self._longest = seconds
        elif self._samples != limits.TIMEOUT_SAMPLES_MIN:
            return
        if self._samples >= limits.TIMEOUT_SAMPLES_MIN:
            told = limits.TIMEOUT_FACTOR * self._longest
            self.seconds = min(max(limits.TIMEOUT_FLOOR_SECONDS, told), limits.TIMEOUT_SECONDS_MAX)


class Probation:
    """Until something has been scored, a job that fails in one way everywhere is suspected.

    While it lasts, each failing mini-batch is followed down to one lone item (or row) before the
    rest of it is bisected. When the lone items of `SYSTEMIC_FAILURES_MIN` mini-batches, or
    `SYSTEMIC_VERDICTS_MAX` items or rows of fewer mini-batches, all failed in the same way, a
    verdict is due: nothing more is handed out, and when the work already handed out brings no
    success either, the failure is systemic. One success, or a second kind of failure, ends it.
    """

    def __init__(self, *, over: bool) -> None:
        self.over = over
        self._kind: str | None = None
        self._mini_batches: set[int] = set()
        self._verdicts = 0

    def failed(self, error: AttemptError) -> bool:
        """Note a failed attempt; return True when it ends the probation (a second kind)."""
        if self.over or self._kind == error.kind:
            return False
        if self._kind is None:
            self._kind = error.kind
            return False
        self.over = True
        return True

    def gave_up(self, mini_batch: int) -> None:
        """Note that a lone item or row was given up."""
        if not self.over:
            self._mini_batches.add(mini_batch)
            self._verdicts += 1

    @property
    def verdict_due(self) -> bool:
        """Tell whether only the work already handed out can prove the job sound."""
        return not self.over and (
            len(self._mini_batches) >= limits.SYSTEMIC_FAILURES_MIN
            or self._verdicts >= limits.SYSTEMIC_VERDICTS_MAX
        )
