"""What the running job is told (events, past tense) and what it orders (commands, imperative)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from batchpoint.domain.minibatch import Task

Outcome = Literal["scored", "failed", "crashed", "timed_out", "lost"]
"""How one attempt at a task ended.

"scored": `run` returned and its frame is in the part (some items may have failed inside).
"failed": user code raised, or returned something that cannot be rows.
"crashed": the worker died by its own doing; "timed_out": `run` took too long and was killed.
"lost": infrastructure took the worker (SIGKILL from outside, node going down); never charged.
"""


class AttemptError(NamedTuple):
    """Why an attempt failed. `kind` groups failures that are the same failure (type and place)."""

    origin: Literal["user", "environment", "input", "storage", "batchpoint"]
    kind: str
    type: str
    message: str
    traceback: str = ""
    file: str = ""
    row: int = -1
    line: str = ""
    log: str = ""


class TaskResult(NamedTuple):
    """How one attempt at a task ended, as the node agent reports it.

    `frame`: ordinal of its frame in the reported part (-1: none). `items`: ordinals of the distinct
    items the task covers; `failed_items`: those of them that failed inside a scored task.
    `rows` and `failed_rows` count rows; `unattributed`: items short when fewer rows than items came
    back. `slice_rows`: rows known to be in a lone slice (-1: unknown), so that a crash can be
    narrowed down to rows.
    """

    task: Task
    attempt: int
    outcome: Outcome
    seconds: float
    frame: int = -1
    rows: int = 0
    failed_rows: int = 0
    items: tuple[int, ...] = ()
    failed_items: tuple[int, ...] = ()
    unattributed: int = 0
    slice_rows: int = -1
    error: AttemptError | None = None


class Assignment(NamedTuple):
    """A task handed to a node; `attempt` counts from 1; `timeout_seconds` bounds one `run`."""

    task: Task
    attempt: int
    timeout_seconds: float


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanGrew:
    """Mini-batches `first`, `first + 1`, ... are in the manifest; `slices[i]` slices each."""

    first: int
    slices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlanSealed:
    """The listing has ended: `mini_batches` and `items` are the totals."""

    mini_batches: int
    items: int


@dataclass(frozen=True, slots=True)
class NodeReady:
    """A node can take work; `slots` workers will run on it."""

    node: str
    slots: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node is gone with all work that was not reported; never the user's fault."""

    node: str
    cause: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A node sealed a part (None: there was nothing to keep) and tells how attempts ended."""

    node: str
    part: str | None
    results: tuple[TaskResult, ...]


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker could not load its model or run `init()`; the node starts a fresh one by itself."""

    node: str
    error: AttemptError


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody asked to cancel the job."""


@dataclass(frozen=True, slots=True)
class AlarmRang:
    """The time asked for by the last `SetAlarm` has come."""


Event = (
    PlanGrew
    | PlanSealed
    | NodeReady
    | NodeLost
    | Reported
    | WorkerFailed
    | CancelRequested
    | AlarmRang
)


# --- commands -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Provision:
    """Have `count` nodes in all."""

    count: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Hand tasks to a node."""

    node: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """Commit frames of a sealed part: they are the one result of their tasks.

    `frames` holds (ordinal of the frame in the part, its task). Frames of the part that are not
    named here are superseded and never read. `rows`, `failed_rows`, `unattributed` (items short
    without a name) and `scored_items` (items that did not fail) are sums over the frames.
    `failed_mini_batches` are those in which an item failed, with or without a name.
    """

    part: str
    frames: tuple[tuple[int, Task], ...]
    rows: int
    failed_rows: int
    failed_items: tuple[int, ...]
    unattributed: int = 0
    scored_items: int = 0
    failed_mini_batches: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptHistory:
    """How often a task was tried and how each attempt ended, oldest first."""

    outcomes: tuple[Outcome, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Write down that a task failed for good: its items (or rows) are failed items.

    `items` is empty when nobody lived to tell them (its nodes died): the manifest knows the one.
    """

    task: Task
    items: tuple[int, ...]
    error: AttemptError
    history: AttemptHistory


@dataclass(frozen=True, slots=True)
class SetAlarm:
    """Ring at `at` (same clock as `now`); replaces the alarm set before."""

    at: float


@dataclass(frozen=True, slots=True)
class Retime:
    """Bound every `run` handed out with a longer timeout, running or not, by `timeout_seconds`.

    Sent once, when the adaptive timeout is known: what was handed out before had a guess.
    """

    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop all user code at once; nothing more will be assigned."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is decided: assemble and publish ("completed"), or end with `error`."""

    outcome: Literal["completed", "failed", "canceled"]
    code: str = ""
    error: AttemptError | None = None


Command = Provision | Assign | Record | Quarantine | SetAlarm | Retime | Abort | Finish


# --- what a resumed job starts from -----------------------------------------------------------


@dataclass(slots=True)
class Recovered:
    """Progress read back from the ledger; a new job starts from an empty one.

    `heads[m]`: how many slices of mini-batch `m` are recorded as one task from its first slice on;
    all of them when the whole was scored at once (four bytes each: there may be millions).
    `pieces`: the other recorded tasks of mini-batches. Counts are sums over all records;
    `scored_items` counts items in them that did not fail.
    """

    heads: array[int] = field(default_factory=lambda: array("I"))
    pieces: dict[int, list[Task]] = field(default_factory=dict[int, list[Task]])
    failed_items: set[int] = field(default_factory=set[int])
    failed_mini_batches: set[int] = field(default_factory=set[int])
    rows: int = 0
    failed_rows: int = 0
    unattributed: int = 0
    scored_items: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that `Dispatch` decides by; a threshold of None or -1 never ends a job."""

    instance_count: int
    max_retries: int
    timeout_seconds: float | None
    error_threshold: int | None
    isolate_rows: bool
    mini_batch_error_threshold: int | None = None
    allowed_failed_percent: int | None = None
