"""A pipeline's runner in a world of its own: a real ledger, and commands that do as told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchpoint.clock import SystemClock
from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.job import ErrorInfo, Job, JobState, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import ResolvedEnvironment
from batchpoint.formats.layout import job_folder
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.command_order import (
    CommandBeat,
    CommandEnd,
    CommandOrder,
    Heard,
    heard_by_nobody,
)
from batchpoint.runner.pipeline_runner import PipelineRunner
from batchpoint.runner.score_step import StepResult
from batchpoint.runner.step_run import PipelineParts
from batchpoint.storage.content_identity import content_identity
from batchpoint.storage.locate import path_of
from tests.unit.resolved_pipelines import command_step, pipeline

Doing = Callable[[CommandOrder], Awaitable[CommandEnd]]


class Commands:
    """A `CommandEngine` whose commands are functions of this process, by the step's name."""

    def __init__(self, doing: Mapping[str, Doing]) -> None:
        self.doing = doing
        self.orders: list[CommandOrder] = []
        self.running: set[str] = set()
        self.most_at_once = 0
        self.stopped: list[str] = []
        self.closed = False
        self.changed = asyncio.Event()

    @property
    def runs(self) -> Counter[str]:
        """How often each step was run."""
        return Counter(step_of(order) for order in self.orders)

    async def run(self, order: CommandOrder, heard: Heard = heard_by_nobody) -> CommandEnd:
        assert not self.closed
        step = step_of(order)
        self.orders.append(order)
        self.running.add(step)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.changed.set()
        heard(CommandBeat("command"))
        try:
            return await self.doing.get(step, succeed)(order)
        except asyncio.CancelledError:
            self.stopped.append(step)
            raise
        finally:
            self.running.discard(step)

    async def close(self) -> None:
        self.closed = True

    async def until_running(self, *steps: str) -> None:
        """Wait until these steps run."""
        while not self.running >= set(steps):
            self.changed.clear()
            await self.changed.wait()


def step_of(order: CommandOrder) -> str:
    assert order.spec.step is not None
    return order.spec.step.name


def published(order: CommandOrder, text: str | None = None) -> dict[str, PublishedOutput]:
    """Write the step's outputs: a file in each, that says which step it was."""
    made: dict[str, PublishedOutput] = {}
    assert order.spec.step is not None
    for name, output in order.spec.step.outputs.items():
        folder = path_of(output.uri)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "text").write_text(step_of(order) if text is None else text)
        digest = content_identity(output.uri, StorageAccess())
        made[name] = PublishedOutput(type=output.type, uri=output.uri, hash=digest)
    return made


async def succeed(order: CommandOrder) -> CommandEnd:
    return CommandEnd("completed", 0.0, 0, outputs=published(order))


async def never(_order: CommandOrder) -> CommandEnd:
    await asyncio.Event().wait()
    raise AssertionError


async def fail(_order: CommandOrder) -> CommandEnd:
    return CommandEnd("failed", 0.1, 3, BROKEN)


BROKEN = ErrorInfo(
    origin="user", code="command_failed", message="the command ended with 3", type="ValueError",
    traceback="Traceback ...", file="train.py", line="train.py:12", log="user/std_log.txt",
)  # fmt: skip


class World:
    """One home with one pipeline."""

    def __init__(self, home: Path, steps: Mapping[str, Sequence[str]] | None = None) -> None:
        self.home = home
        self.ledger = Ledger(home / "batchpoint.db")
        self.doing: dict[str, Doing] = {}
        self.engines: list[Commands] = []
        self.prepared: list[str] = []
        self.registered: list[tuple[str, str]] = []
        self.scored: list[tuple[str, Mapping[str, Scalar | JobInput]]] = []
        self.score: Callable[[Job], Awaitable[StepResult]] | None = None
        self.prepare: Callable[[ResolvedEnvironment], list[str]] = self._prepare
        self.identify = content_identity
        if steps is not None:
            self.make("p", [self.step(name, needs) for name, needs in steps.items()])

    def step(self, name: str, needs: Sequence[str] = (), parent: str = "p", **spec: Any) -> Job:
        return command_step(parent, name, needs, outputs_below=self.home / "outputs", **spec)

    def make(self, name: str, children: Sequence[Job], **spec: Any) -> Job:
        return self.ledger.create_job(pipeline(name, children, **spec), None, None, None, children)

    @property
    def engine(self) -> Commands:
        return self.engines[-1]

    @property
    def runs(self) -> Counter[str]:
        """How often each step was run, by all runners together."""
        return sum((engine.runs for engine in self.engines), Counter[str]())

    def runner(self, name: str = "p", *, force: bool = True) -> PipelineRunner:
        """A new runner, which takes the lease from whoever has it."""
        epoch = self.ledger.acquire_lease(name, "me", SystemClock().seconds(), 15, force=force)
        assert epoch is not None
        self.engines.append(Commands(self.doing))
        return PipelineRunner(self.ledger.get_job(name), epoch, self.parts())

    def parts(self) -> PipelineParts:
        return PipelineParts(
            ledger=self.ledger,
            engine=self.engine,
            clock=SystemClock(),
            folder_of=lambda name: job_folder(self.home, name),
            prepare=self.prepare,
            open_data=lambda _: StorageAccess(),
            identify=self.identify,
            register=self._register,
            score=self._score,
            tracking_uri="file:///runs",
        )

    async def run(self, name: str = "p") -> JobState:
        return await self.runner(name).run()

    def states(self, name: str = "p") -> dict[str, str]:
        return {
            child.spec.step.name: child.status.state.value
            for child in self.ledger.child_jobs(name)
            if child.spec.step
        }

    def status(self, name: str = "p"):
        return self.ledger.get_job(name).status

    def log(self, name: str = "p") -> str:
        return job_folder(self.home, name).job_log.read_text()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that others write into the ledger."""
        for _ in range(1_000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not come to pass")

    def _prepare(self, environment: ResolvedEnvironment) -> list[str]:
        self.prepared.append(environment.name)
        return []

    def _register(self, child: Job, name: str, output: PublishedOutput) -> PublishedOutput:
        self.registered.append((child.name, name))
        return output.model_copy(update={"asset": f"azureml:{name}:1"})

    async def _score(
        self, child: Job, inputs: Mapping[str, Scalar | JobInput], _access: StorageAccess
    ) -> StepResult:
        self.scored.append((child.name, inputs))
        assert self.score is not None
        return await self.score(child)
