"""A slot: the place of one scoring worker, with the tasks that lie in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from batchpoint.node.ticket import Ticket
from batchpoint.node.worker_process import WorkerProcess

SlotState = Literal["empty", "loading", "ready"]

BURST_SECONDS = 0.02
BURST_MAX = 64
# From here on a round trip costs nothing next to a task: one runs, none waits behind it.
SLOW_SECONDS = 0.5
# What a message around a task costs at least, whatever the task says of itself.
_OVERHEAD_SECONDS = 0.0001
_SMOOTHING = 0.2


def wanted(queued: int, mean_seconds: float | None, waiting: int, slots: int) -> int:
    """How many tasks to give to a worker now.

    Args:
        queued: tasks it has already.
        mean_seconds: what a task takes on average; None: nothing has come back yet.
        waiting: tasks that lie in the agent.
        slots: how many workers share them.

    A worker gets two bursts of about `BURST_SECONDS` each, so that it works on one while the other
    is on its way, and never more than its share of what waits.
    """
    if mean_seconds is None:
        burst, depth = 1, 2
    else:
        burst = int(BURST_SECONDS / (mean_seconds + _OVERHEAD_SECONDS))
        burst = max(1, min(BURST_MAX, burst))
        depth = 1 if mean_seconds >= SLOW_SECONDS else 2 * burst
    if queued > depth - burst:
        return 0
    share = -(-waiting // max(1, slots))
    return min(depth - queued, share, waiting)


@dataclass(slots=True)
class Slot:
    """One worker's place.

    `since`: when its load began. `heard`: when it last got or told something. `tickets`: tasks the
    worker has, oldest first. `staging`: tasks whose files are being made for it. `condemned`: the
    task for whose timeout the worker is being killed. `stopped`: we end it ourselves.
    `idle_deaths`: ends in a row without anybody to charge. `wrote_in_init`: files of `init()` lie
    in `home / "init"`.
    """

    index: int
    worker: WorkerProcess | None = None
    state: SlotState = "empty"
    home: Path | None = None
    since: float = 0.0
    heard: float = 0.0
    tickets: dict[int, Ticket] = field(default_factory=dict[int, Ticket])
    staging: int = 0
    mean_seconds: float | None = None
    condemned: int | None = None
    stopped: bool = False
    idle_deaths: int = 0
    wrote_in_init: bool = False
    load_warnings: tuple[str, ...] = ()

    @property
    def queued(self) -> int:
        """Tasks that are in the worker or on their way to it."""
        return len(self.tickets) + self.staging

    def learn(self, seconds: float, count: int) -> None:
        """Take into account that `count` tasks took `seconds` in all."""
        each = seconds / count
        if self.mean_seconds is None:
            self.mean_seconds = each
        else:
            weight = 1 - (1 - _SMOOTHING) ** count
            self.mean_seconds += weight * (each - self.mean_seconds)

    def vacate(self) -> None:
        """Forget the worker that was here."""
        self.worker = None
        self.state = "empty"
        self.tickets.clear()
        self.condemned = None
        self.stopped = False
        self.wrote_in_init = False
        self.load_warnings = ()
