"""What every engine must do for a runner, whatever its nodes are; one class of tests per engine.

The items are called `item-0`, `item-1`, ...; scoring one gives `scored <name>`. The last
one, `poison`, raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from batchpoint.core.messages import Assignment, NodeLost, NodeReady, PlanGrew, Reported, TaskResult
from batchpoint.domain.job import Job
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.minibatch import Slice, Task
from batchpoint.engines.interface import Engine, EngineEvent
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.parts import PartReader
from batchpoint.node.wire import Heartbeat
from batchpoint.runner.planner import Planner

ITEMS = 8


def contract_job(job: Job, name: str, root: Path) -> Job:
    """Make a job over the contract's items, one per mini-batch, out of a job of the engine's."""
    items = root / name
    items.mkdir()
    for name_of in (*(f"item-{number}" for number in range(ITEMS - 1)), "poison"):
        (items / name_of).write_text("x")
    settings = job.scoring.settings.model_copy(
        update={"mini_batch_size": 1, "instance_count": 2, "max_concurrency_per_instance": 1}
    )
    spec = job.spec.model_copy(
        update={
            "settings": settings,
            "input": JobInput(type="uri_folder", uri=str(items)),
            "output": JobOutput(uri=str(root / f"{name}-out")),
        }
    )
    return job.model_copy(update={"name": name, "spec": spec})


@dataclass
class Ground:
    """An engine, the job it works for, and what its nodes have told so far."""

    engine: Engine
    job: Job
    folder: JobFolder
    lose: Callable[[str], Awaitable[None]]
    told: list[EngineEvent] = field(default_factory=list[EngineEvent])
    ended: bool = False
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        """Take down what nodes tell, until the engine closes."""
        async for event in self.engine.events():
            self.told.append(event)
            self._more.set()
        self.ended = True
        self._more.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        """Wait for what is expected to be told."""
        async with asyncio.timeout(60):
            while not enough():
                self._more.clear()
                await self._more.wait()

    async def plan(self) -> Planner:
        """Write the job's manifest."""
        self.folder.make()
        planner = Planner(self.job.scoring, self.folder, self.engine, lambda _: None)
        grown = [event async for event in planner.grow() if isinstance(event, PlanGrew)]
        assert sum(len(event.slices) for event in grown) == ITEMS
        return planner

    def ready(self) -> list[str]:
        """The nodes that can take work."""
        lost = {event.node for event in self.told if isinstance(event, NodeLost)}
        names = [event.node for event in self.told if isinstance(event, NodeReady)]
        return [name for name in dict.fromkeys(names) if name not in lost]

    def results(self) -> list[tuple[str | None, TaskResult]]:
        """How attempts ended, each with the part it was told with."""
        reports = [event for event in self.told if isinstance(event, Reported)]
        return [(event.part, result) for event in reports for result in event.results]

    async def assign(self, planner: Planner, node: str, *numbers: int) -> None:
        """Hand whole mini-batches to a node."""
        await self.engine.assign(
            node,
            [
                (planner.book.mini_batch(each), Assignment(Task(each, 0, 1), 1, 60.0))
                for each in numbers
            ],
        )


class EngineContract:
    """Inherit, and give a fixture `ground` that listens."""

    async def test_nodes_come_as_many_as_are_wanted_in_all(self, ground: Ground) -> None:
        await ground.plan()
        await ground.engine.provision(1)
        await ground.until(lambda: len(ground.ready()) == 1)
        await ground.engine.provision(2)
        await ground.engine.provision(2)
        await ground.until(lambda: len(ground.ready()) == 2)
        assert all(isinstance(event, NodeReady | Heartbeat) for event in ground.told)
        assert [e.slots for e in ground.told if isinstance(e, NodeReady)] == [1, 1]

    async def test_every_task_comes_back_once_in_a_sealed_part(self, ground: Ground) -> None:
        planner = await ground.plan()
        await ground.engine.provision(1)
        await ground.until(lambda: bool(ground.ready()))
        await ground.assign(planner, ground.ready()[0], *range(ITEMS - 1))
        await ground.until(lambda: len(ground.results()) >= ITEMS - 1)
        assert sorted(r.task.mini_batch for _, r in ground.results()) == list(range(ITEMS - 1))
        for part, result in ground.results():
            assert (result.outcome, result.rows, len(result.items)) == ("scored", 1, 1)
            assert part is not None
            with PartReader(ground.folder.part(part)) as sealed:
                assert sealed.epoch == 1
                assert b"scored item-" in sealed.read(result.frame)[0]

    async def test_what_raises_is_a_failed_attempt_and_no_lost_node(self, ground: Ground) -> None:
        planner = await ground.plan()
        await ground.engine.provision(1)
        await ground.until(lambda: bool(ground.ready()))
        (node,) = ground.ready()
        await ground.assign(planner, node, ITEMS - 1, 0)
        await ground.until(lambda: len(ground.results()) == 2)
        outcomes = {r.task.mini_batch: (r.outcome, r.error) for _, r in ground.results()}
        assert outcomes[0] == ("scored", None)
        outcome, error = outcomes[ITEMS - 1]
        assert outcome == "failed"
        assert error is not None
        assert error.type == "ValueError"
        assert ground.ready() == [node]

    async def test_a_lost_node_is_an_event_and_can_be_replaced(self, ground: Ground) -> None:
        planner = await ground.plan()
        await ground.engine.provision(1)
        await ground.until(lambda: bool(ground.ready()))
        (first,) = ground.ready()
        await ground.lose(first)
        await ground.until(lambda: not ground.ready())
        await ground.assign(planner, first, 0)  # to a node that is gone it does nothing
        await ground.engine.provision(1)
        await ground.until(lambda: bool(ground.ready()))
        (second,) = ground.ready()
        assert second != first
        await ground.assign(planner, second, 0)
        await ground.until(lambda: bool(ground.results()))

    async def test_items_too_small_to_cut_stay_whole(self, ground: Ground) -> None:
        path = ground.folder.root.parent / "small.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n1\n2\n")
        whole = Slice(0, str(path), "small.csv", path.stat().st_size, "")
        await ground.plan()
        await ground.engine.provision(1)
        pieces = await asyncio.wait_for(ground.engine.index(whole, 1 << 20), 60)
        assert len(pieces) == 1
        assert pieces[0].name == "small.csv"

    async def test_closing_ends_events_and_may_be_repeated(self, ground: Ground) -> None:
        await ground.plan()
        await ground.engine.provision(1)
        await ground.until(lambda: bool(ground.ready()))
        await ground.engine.abort()
        await ground.engine.abort()
        await ground.engine.close()
        await ground.engine.close()
        await ground.until(lambda: ground.ended)
        await ground.engine.provision(1)  # nothing comes any more
        assert not [event for event in ground.told if isinstance(event, NodeLost)]
