"""What is planned and known of a pipeline's steps, what the book is told, and what it orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from batchpoint.domain.job import ErrorInfo, JobState

StepOutcome = Literal["completed", "reused", "failed", "timed_out", "lost", "stopped"]
"""How one attempt at a step ended.

"completed": its outputs are published; "reused": earlier ones were taken over.
"failed" and "timed_out": by its own doing, charged.
"lost": infrastructure ended it, never charged; "stopped": as `StopStep` asked.
"""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What the graph says of a step: attempts are 1 + `max_retries`.

    `capacity`: how many steps of this graph may run at once on `compute` (the least that any of
    its steps says counts, and at least one).
    """

    needs: tuple[str, ...] = ()
    compute: str = "local"
    capacity: int = 1
    max_retries: int = 0


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """All steps in file order. Needs name steps of the plan, without cycles."""

    steps: Mapping[str, PlannedStep]
    continue_on_step_failure: bool = True


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """What is recorded of a step. `attempts` counts those that ended and were charged.

    A step that ran when its runner died starts again; one of which a cancel was asked for ends.
    """

    state: JobState
    attempts: int = 0
    error: ErrorInfo | None = None


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """A runner has taken up the pipeline; `cancel_requested`: its cancel was already asked for."""

    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class StepEnded:
    """An attempt has ended. A success told is a success, whatever else was asked for meanwhile."""

    step: str
    outcome: StepOutcome
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class StepCancelRequested:
    """Somebody wants one step stopped."""

    step: str


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the whole pipeline stopped."""


Event = Opened | StepEnded | StepCancelRequested | CancelRequested

# --- commands -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartStep:
    """Begin an attempt; `attempt` counts from 1. One that was lost is begun again."""

    step: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StopStep:
    """End the attempt that runs; `StepEnded` tells how it ended."""

    step: str


@dataclass(frozen=True, slots=True)
class CloseStep:
    """Record the end of a step: `state` is terminal, and the only one it ever gets."""

    step: str
    state: JobState
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """Record the end of the pipeline: every step is closed. Nothing comes after this."""

    state: JobState
    error: ErrorInfo | None = None


Command = StartStep | StopStep | CloseStep | Finish
