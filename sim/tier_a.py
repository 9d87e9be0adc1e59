"""Tier A: only `Dispatch`, on virtual time; a big quiet job for its speed, or many small wild ones.

python -m sim.tier_a --workers 10000 --mini-batches 1000000
python -m sim.tier_a --seeds 100000 --from 0
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import NamedTuple

from batchpoint.core.dispatch import Dispatch
from batchpoint.core.messages import (
    AlarmRang,
    Assign,
    Assignment,
    Command,
    Event,
    Finish,
    NodeReady,
    PlanGrew,
    PlanSealed,
    Policy,
    Record,
    Reported,
    SetAlarm,
    TaskResult,
)
from batchpoint.domain import limits
from sim.campaign import run_seed
from sim.referee import Violation, require

_FAILING_ONE_IN = 1_000


class Measured(NamedTuple):
    """What a big run took."""

    seconds: float
    events: int
    mini_batches: int
    rows: int
    virtual_seconds: float
    peak_bytes: int


class _BigRun:
    """A million mini-batches on thousands of slots, all of which report one by one."""

    def __init__(self, workers: int, mini_batches: int, slots: int) -> None:
        nodes = workers // slots
        self._slots = slots
        self._mini_batches = mini_batches
        self._rng = random.Random(0)
        self._dispatch = Dispatch(Policy(nodes, 3, None, None, isolate_rows=False))
        self._queues = {f"node-{n}": deque[Assignment]() for n in range(nodes)}
        self._free = dict.fromkeys(self._queues, slots)
        self._due: list[tuple[float, int, str, Assignment | None]] = []
        self._serial = 0
        self.now = 0.0
        self.events = 0
        self.rows = 0
        self.finish: Finish | None = None

    def run(self) -> None:
        for event in self._opening():
            self._tell(event)
        while self.finish is None:
            self.now, _, node, assignment = heapq.heappop(self._due)
            if assignment is None:
                self._tell(AlarmRang())
                continue
            self._free[node] += 1
            self._tell(self._report(node, assignment))
            self._start(node)

    def _opening(self) -> Iterator[Event]:
        for node in self._queues:
            yield NodeReady(node, self._slots)
        step = limits.SEGMENT_SLICES_MAX // 4
        for first in range(0, self._mini_batches, step):
            yield PlanGrew(first, (4,) * min(step, self._mini_batches - first))
        yield PlanSealed(self._mini_batches, 4 * self._mini_batches)

    def _tell(self, event: Event) -> None:
        self.events += 1
        for command in self._dispatch.handle(event, self.now):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Assign):
            self._queues[command.node].extend(command.assignments)
            self._start(command.node)
        elif isinstance(command, Record):
            self.rows += command.rows
        elif isinstance(command, SetAlarm):
            self._push(command.at, "", None)
        elif isinstance(command, Finish):
            self.finish = command

    def _start(self, node: str) -> None:
        queue = self._queues[node]
        while queue and self._free[node]:
            self._free[node] -= 1
            self._push(self.now + self._rng.uniform(5.0, 15.0), node, queue.popleft())

    def _push(self, at: float, node: str, assignment: Assignment | None) -> None:
        self._serial += 1
        heapq.heappush(self._due, (at, self._serial, node, assignment))

    def _report(self, node: str, assignment: Assignment) -> Reported:
        task, attempt, _ = assignment
        first = 4 * task.mini_batch
        items = tuple(range(first + task.start, first + task.stop))
        if attempt == 1 and task.mini_batch % _FAILING_ONE_IN == 7:
            return Reported(node, None, (TaskResult(task, 1, "crashed", 1.0, items=items),))
        result = TaskResult(task, attempt, "scored", 10.0, 0, len(items), items=items)
        return Reported(node, "part", (result,))


def measure(workers: int, mini_batches: int, slots: int = 1) -> Measured:
    """Run a big job and check that every row of it was recorded once.

    Raises:
        Violation: the job did not complete, or rows were lost or doubled.
    """
    began = time.perf_counter()
    run = _BigRun(workers, mini_batches, slots)
    run.run()
    seconds = time.perf_counter() - began
    require(run.finish == Finish("completed"), f"{run.finish}")
    require(run.rows == 4 * mini_batches, f"{run.rows} rows of {4 * mini_batches}")
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Measured(seconds, run.events, mini_batches, run.rows, run.now, peak)


def campaign(first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Run seeds `first`, `first + 1`, ...; return how jobs ended, and what was violated."""
    ends: Counter[str] = Counter()
    violations: list[str] = []
    for seed in range(first, first + count):
        try:
            finish = run_seed(seed).finish
        except Violation as violation:
            violations.append(str(violation))
            print(violation, file=sys.stderr)
        else:
            ends[finish.code or finish.outcome] += 1
    return ends, violations


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; exit code 1 when something is violated."""
    parser = argparse.ArgumentParser(prog="sim.tier_a", description=__doc__)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=1, help="workers per node")
    parser.add_argument("--mini-batches", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=0, help="run so many small worlds instead")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    asked = parser.parse_args(arguments)
    if asked.seeds:
        began = time.perf_counter()
        ends, violations = campaign(asked.first, asked.seeds)
        receipt = {
            "first_seed": asked.first,
            "seeds": asked.seeds,
            "seconds": round(time.perf_counter() - began, 1),
            "ends": dict(ends.most_common()),
            "violations": len(violations),
        }
        print(json.dumps(receipt))
        return 1 if violations else 0
    measured = measure(asked.workers, asked.mini_batches, asked.slots)
    print(
        f"{measured.mini_batches} mini-batches on {asked.workers} workers: "
        f"{measured.seconds:.1f} s, {measured.events / measured.mini_batches:.3f} events per "
        f"mini-batch, peak {measured.peak_bytes / 2**20:.0f} MiB, "
        f"{measured.virtual_seconds:.0f} virtual seconds"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
