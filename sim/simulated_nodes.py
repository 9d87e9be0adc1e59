"""Simulated nodes: queues, slots and parts like the real agent's, on virtual time, unreliable."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from batchpoint.core.messages import (
    Assignment,
    AttemptError,
    Event,
    NodeLost,
    NodeReady,
    Reported,
    TaskResult,
    WorkerFailed,
)
from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task
from sim.virtual_loop import VirtualLoop
from sim.world import Scored, World

# The frames of a part: what each task came to.
Part = list[tuple[Task, Scored]]


@dataclass(slots=True)
class _Running:
    assignment: Assignment
    scored: Scored
    over: bool = False


@dataclass(slots=True, eq=False)
class SimNode:
    """One node: a queue, some slots, and a part that is being filled."""

    name: str
    slots: int
    broken: bool
    queue: deque[Assignment] = field(default_factory=deque[Assignment])
    running: list[_Running] = field(default_factory=list[_Running])
    frames: Part = field(default_factory=Part)
    results: list[TaskResult] = field(default_factory=list[TaskResult])
    parts: int = 0
    alive: bool = True
    loaded: bool = False
    loading: bool = False
    patience: float = 0.5


class SimEngine:
    """Provides nodes for one runner (`epoch`); what they tell goes to `tell`, after a while."""

    def __init__(
        self,
        world: World,
        loop: VirtualLoop,
        rng: random.Random,
        epoch: int,
        tell: Callable[[Event], None],
    ) -> None:
        self._world = world
        self._weather = world.weather
        self._loop = loop
        self._rng = rng
        self._epoch = epoch
        self._tell = tell
        self._serial = 0
        self._nodes: dict[str, SimNode] = {}
        self._coming = 0
        self.parts: dict[str, Part] = {}

    # --- commands ---------------------------------------------------------------------------

    def provision(self, count: int) -> None:
        """Have `count` nodes in all."""
        while len(self._nodes) + self._coming < count:
            self._coming += 1
            self._loop.after(self._rng.uniform(0.1, 5.0), self._boot)

    def assign(self, name: str, assignments: tuple[Assignment, ...]) -> None:
        """Queue tasks on a node; one that is gone takes nothing."""
        node = self._nodes.get(name)
        if node is not None:
            node.queue.extend(assignments)
            self._work(node)

    def retime(self, timeout_seconds: float) -> None:
        """Shorten the time of what hangs or waits."""
        for node in self._nodes.values():
            node.queue = deque(
                a._replace(timeout_seconds=min(a.timeout_seconds, timeout_seconds))
                for a in node.queue
            )
            for run in node.running:
                if run.scored.outcome == "timed_out":
                    self._loop.after(timeout_seconds, lambda n=node, r=run: self._end(n, r))

    def abandon(self) -> None:
        """The runner is gone; what its nodes have on the wire may still arrive."""
        for node in self._nodes.values():
            node.alive = False
        self._nodes.clear()
        self._coming = -1_000_000

    # --- life of a node ---------------------------------------------------------------------

    def _boot(self) -> None:
        if self._coming <= 0:
            return
        self._coming -= 1
        name = f"{self._epoch}-{self._serial}"
        mode = self._weather.init_fails
        broken = mode == "always" or (mode == "one_node" and self._serial == 0)
        self._serial += 1
        self._nodes[name] = SimNode(name, self._world.slots, broken)
        self._send(NodeReady(name, self._world.slots))

    def _die(self, node: SimNode) -> None:
        node.alive = False
        self._nodes.pop(node.name, None)
        self._loop.after(
            self._rng.uniform(0.0, 10.0),
            lambda: self._tell(NodeLost(node.name, "simulated loss")),
        )

    def _load(self, node: SimNode) -> None:
        """Load the model before the first task; a failure is told and tried again."""
        node.loading = False
        if not node.alive:
            return
        if node.broken or (self._weather.init_fails == "sometimes" and self._rng.random() < 0.5):
            error = AttemptError("user", "init", "InitError", "simulated failure of init()")
            self._send(WorkerFailed(node.name, error))
            node.loading = True
            node.patience = min(60.0, 2 * node.patience)
            self._loop.after(node.patience, lambda: self._load(node))
            return
        node.loaded = True
        self._work(node)

    def _work(self, node: SimNode) -> None:
        if not node.loaded:
            if not node.loading and node.queue:
                node.loading = True
                self._loop.after(self._rng.uniform(0.0, 2.0), lambda: self._load(node))
            return
        while node.alive and node.queue and len(node.running) < node.slots:
            assignment = node.queue.popleft()
            scored = self._score(assignment)
            run = _Running(assignment, scored)
            node.running.append(run)
            seconds = self._world.durations * self._rng.uniform(0.2, 2.0)
            if scored.outcome == "timed_out":
                seconds = assignment.timeout_seconds
            self._loop.after(seconds, lambda r=run: self._end(node, r))

    def _score(self, assignment: Assignment) -> Scored:
        if self._rng.random() < self._weather.worker_lost:
            error = AttemptError("batchpoint", "lost", "Killed", "simulated kill from outside")
            return Scored("lost", error=error)
        if self._rng.random() < self._weather.flaky:
            error = AttemptError("user", "raises", "Flaky", "simulated flaky code")
            return Scored("failed", error=error)
        return self._world.run(assignment.task)

    def _end(self, node: SimNode, run: _Running) -> None:
        if not node.alive or run.over:
            return
        run.over = True
        node.running.remove(run)
        if run.scored.kills_node or self._rng.random() < self._weather.node_dies:
            self._die(node)
            return
        result = self._result(run, len(node.frames))
        if run.scored.outcome == "scored":
            node.frames.append((run.assignment.task, run.scored))
            node.results.append(result)
        else:
            self._send(Reported(node.name, None, (result,)))
        self._work(node)
        if not node.queue and not node.running:
            self._seal(node)
        elif len(node.frames) == 1:
            self._loop.after(limits.PART_AGE_SECONDS_MAX, lambda: self._seal(node))

    def _result(self, run: _Running, frame: int) -> TaskResult:
        task, scored = run.assignment.task, run.scored
        pieces = self._world.batches[task.mini_batch][task.start : task.stop]
        good = scored.outcome == "scored"
        return TaskResult(
            task=task,
            attempt=run.assignment.attempt,
            outcome=scored.outcome,
            seconds=self._world.durations,
            frame=frame if good else -1,
            rows=len(scored.rows),
            items=tuple(sorted({piece.item for piece in pieces})),
            failed_items=scored.failed_items,
            unattributed=scored.unattributed,
            slice_rows=scored.slice_rows,
            error=scored.error,
        )

    def _seal(self, node: SimNode) -> None:
        if not node.alive or not node.frames:
            return
        part = f"{node.name}-{node.parts}"
        node.parts += 1
        self.parts[part] = node.frames
        results, node.frames, node.results = tuple(node.results), [], []
        self._send(Reported(node.name, part, results))

    # --- the wire ---------------------------------------------------------------------------

    def _send(self, event: Event) -> None:
        weather, rng = self._weather, self._rng
        delay = 0.001
        if isinstance(event, Reported):
            if rng.random() < weather.report_lost:
                return
            if rng.random() < weather.report_late:
                delay = rng.uniform(0.0, 20.0)
            if rng.random() < weather.report_doubled:
                self._loop.after(rng.uniform(0.0, 20.0), lambda: self._tell(event))
        self._loop.after(delay, lambda: self._tell(event))
