"""Runs the world of a seed to its end, kills included, and holds it against the oracle."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import chain

from batchpoint.core.accounting import recover
from batchpoint.core.dispatch import Dispatch
from batchpoint.core.messages import (
    AlarmRang,
    Assign,
    CancelRequested,
    Command,
    Event,
    Finish,
    PlanGrew,
    PlanSealed,
    Policy,
    Provision,
    Quarantine,
    Record,
    Recovered,
    Retime,
    SetAlarm,
)
from batchpoint.domain.job import JobState
from batchpoint.domain.minibatch import Task
from sim import oracle
from sim.referee import Referee, Violation, require
from sim.simulated_nodes import Part, SimEngine
from sim.virtual_loop import VirtualLoop
from sim.world import World, make_world

DispatchType = Callable[[Policy, Recovered], Dispatch]

_EVENTS_MAX = 20_000
_CHECKPOINT_CHANCE = 0.3


class SimulatedJob:
    """One job of a world, through as many runners as it takes."""

    def __init__(
        self,
        world: World,
        make: DispatchType = Dispatch,
        resume: Callable[[list[Record]], Recovered] = recover,
    ) -> None:
        self._world = world
        self._make = make
        self._resume = resume
        self._rng = random.Random(world.seed + 1)
        self._loop = VirtualLoop()
        self._committed: list[Record] = []
        self._parts: dict[str, Part] = {}
        self._verdicts: dict[str, Quarantine] = {}
        self._epoch = 0
        self.events = 0
        self.trace: list[str] | None = None

    def run(self) -> Finish:
        """Run to the end.

        Raises:
            Violation: an invariant does not hold, or the job never ends.
        """
        self._start()
        while self._referee.finished is None:
            require(self._loop.step(), "nothing happens any more and the job has not ended")
            require(self.events < _EVENTS_MAX, "the job does not come to an end")
        self._pending = self._commit()
        return self.finish

    @property
    def finish(self) -> Finish:
        """How the job ended."""
        assert self._referee.finished is not None
        return self._referee.finished

    # --- a runner's life --------------------------------------------------------------------

    def _start(self) -> None:
        self._epoch += 1
        self._pending: list[Record] = []
        self._alarm = 0
        self._referee = Referee(self._world, self._committed)
        self._dispatch = self._make(self._world.policy, self._resume(self._committed))
        self._engine = SimEngine(
            self._world, self._loop, self._rng, self._epoch, partial(self._tell, self._epoch)
        )
        self._parts.update(self._engine.parts)
        counts = tuple(len(batch) for batch in self._world.batches)
        plan: list[Event] = [
            PlanGrew(first, counts[first : first + self._world.grow_by])
            for first in range(0, len(counts), self._world.grow_by)
        ]
        plan.append(PlanSealed(len(counts), len(self._world.items)))
        for number, event in enumerate(plan):
            self._loop.after(number * 0.5, partial(self._listed, self._epoch, event))

    def _listed(self, epoch: int, event: Event) -> None:
        if epoch == self._epoch:
            self._tell(epoch, event)

    def _tell(self, epoch: int, event: Event) -> None:
        """Hand an event to the runner; what nodes of a dead runner tell arrives, too."""
        del epoch
        self.events += 1
        if self.events in self._world.weather.kills:
            self._engine.abandon()
            self._keep_parts()
            self._start()
            return
        if self.events == self._world.weather.cancel_at:
            event = CancelRequested()
        now = self._loop.now
        self._referee.before(event, self._dispatch, now)
        commands = self._dispatch.handle(event, now)
        if self.trace is not None:
            self.trace.append(f"{now:.6f} {event} -> {commands}")
        self._referee.after(commands, self._dispatch, now)
        for command in commands:
            self._carry_out(command)
        if self._rng.random() < _CHECKPOINT_CHANCE:
            self._pending = self._commit()

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Assign):
            self._engine.assign(command.node, command.assignments)
        elif isinstance(command, Provision):
            self._engine.provision(command.count)
        elif isinstance(command, Record):
            self._pending.append(command)
        elif isinstance(command, Quarantine):
            self._pending.append(self._verdict(command))
        elif isinstance(command, Retime):
            self._engine.retime(command.timeout_seconds)
        elif isinstance(command, SetAlarm):
            self._alarm += 1
            ring = partial(self._ring, self._epoch, self._alarm)
            self._loop.after(max(0.0, command.at - self._loop.now), ring)

    def _ring(self, epoch: int, alarm: int) -> None:
        if (epoch, alarm) == (self._epoch, self._alarm):
            self._tell(epoch, AlarmRang())

    def _verdict(self, verdict: Quarantine) -> Record:
        """Write a verdict down as the runner does: a frame without rows in a part of its own."""
        part = f"runner-{len(self._verdicts)}"
        self._verdicts[part] = verdict
        task = verdict.task
        item = self._world.batches[task.mini_batch][task.start].item
        return Record(part, ((0, task),), 0, 1 if task.row_stop >= 0 else 0, (item,))

    def _keep_parts(self) -> None:
        self._parts.update(self._engine.parts)

    def _commit(self) -> list[Record]:
        self._committed += self._pending
        return []

    # --- what came of it --------------------------------------------------------------------

    def published(self) -> tuple[list[oracle.Row], list[oracle.Failed]]:
        """Assemble what is committed, in input order."""
        self._keep_parts()
        frames: list[tuple[Task, tuple[oracle.Row, ...], tuple[oracle.Failed, ...]]] = []
        for record in self._committed:
            for frame, task in record.frames:
                if record.part in self._verdicts:
                    frames.append((task, (), (self._failure(task),)))
                    continue
                written, scored = self._parts[record.part][frame]
                require(written == task, f"frame {frame} of {record.part} is not {task}")
                frames.append((task, scored.rows, scored.entries))
        frames.sort(key=lambda frame: frame[0])
        return (
            list(chain.from_iterable(rows for _, rows, _ in frames)),
            list(chain.from_iterable(entries for _, _, entries in frames)),
        )

    def _failure(self, task: Task) -> oracle.Failed:
        piece = self._world.batches[task.mini_batch][task.start]
        narrowed = task.row_start > 0 or task.row_stop >= 0
        return oracle.Failed(piece.name, piece.row + task.row_start if narrowed else None)


def run_seed(
    seed: int,
    make: DispatchType = Dispatch,
    resume: Callable[[list[Record]], Recovered] = recover,
) -> SimulatedJob:
    """Run the world of a seed and check all that is promised.

    Raises:
        Violation: names the seed.
    """
    world = make_world(seed)
    job = SimulatedJob(world, make, resume)
    try:
        finish = job.run()
        _check_end(world, finish, job)
    except Exception as error:
        raise Violation(f"seed {seed}: {type(error).__name__}: {error}") from error
    return job


def _check_end(world: World, finish: Finish, job: SimulatedJob) -> None:
    expected, weather = world.expected, world.weather
    if finish.outcome == "canceled" or weather.flaky:
        return  # how far it came depends on chance; the referee has watched
    if finish.code == "init_failed":
        require(weather.init_fails, "init_failed, but init never fails")
        return
    if finish.code == "systemic_failure":
        return
    if weather.init_fails == "always":
        require(finish.code in ("no_input_items", ""), f"{finish} although nothing can load")
    state = JobState.COMPLETED if finish.outcome == "completed" else JobState.FAILED
    require(
        (state, finish.code) == (expected.state, expected.code),
        f"{finish.outcome} {finish.code}, expected {expected.state} {expected.code}",
    )
    if state is JobState.COMPLETED:
        rows, failed = job.published()
        require(rows == expected.rows, f"rows differ: {rows} expected {expected.rows}")
        require(failed == expected.failed, f"failed: {failed} expected {expected.failed}")
