"""Runs real agents with real workers on small jobs, and reads back what they report."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from batchpoint.core.messages import Assignment, NodeReady, Reported, TaskResult, WorkerFailed
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.job_spec import (
    ResolvedCode,
    ResolvedEnvironment,
    ResolvedModel,
    ScoreSpec,
    ScoringSettings,
)
from batchpoint.domain.minibatch import MiniBatch, Slice, Task
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import write_segment
from batchpoint.formats.parts import PartReader
from batchpoint.node.agent_connection import AgentConnection
from batchpoint.node.process_tree import descendants
from batchpoint.node.wire import Heartbeat, NodeOrder
from batchpoint.storage.locate import etag_of

NODE = "n1"


@dataclass
class AgentProcess:
    """A node agent started as the supervisor would start it."""

    process: subprocess.Popen[bytes]
    socket: Path
    lifeline: int

    @classmethod
    def start(cls, folder: Path) -> AgentProcess:
        read, write = os.pipe()
        socket = folder / "agent.sock"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "batchpoint.node.agent"),
                *("--socket", str(socket), "--lifeline-fd", str(read), "--node", NODE),
            ],
            pass_fds=[read],
            start_new_session=True,
        )
        os.close(read)
        return cls(process, socket, write)

    async def connect(self) -> AgentConnection:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(Exception):
                    return await AgentConnection.connect(self.socket, NODE)
                await asyncio.sleep(0.01)

    def workers(self) -> list[int]:
        """Process ids of everything that runs below the agent."""
        return [pid for pid in descendants(self.process.pid) if alive(pid)]

    def descriptors(self) -> int:
        """How many file descriptors the agent has open."""
        return psutil.Process(self.process.pid).num_fds()

    def cut_lifeline(self) -> None:
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def end(self) -> None:
        self.cut_lifeline()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something outside this process that tells nobody."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other processes set no event here
            await asyncio.sleep(0.01)


@dataclass
class Tiny:
    """A job over small text files, `per_batch` of them to a mini-batch."""

    root: Path
    script: str
    files: int = 8
    per_batch: int = 2
    slots: int = 2
    job: str = "tiny"
    epoch: int = 1
    action: Literal["append_row", "summary_only"] = "append_row"
    timeout_seconds: float = 60.0
    variables: dict[str, str] = field(default_factory=dict)
    code_hash: str = "code"
    contents: list[str] | None = None
    mlflow_model: Path | None = None
    suffix: str = ".txt"
    slices: list[Slice] | None = None

    def __post_init__(self) -> None:
        self.home = self.root / "home"
        self.folder = JobFolder(self.home / "jobs" / self.job)
        self.folder.make()
        code = self.root / f"code-{self.code_hash}"
        code.mkdir(exist_ok=True)
        (code / "score.py").write_text(self.script)
        model = self.mlflow_model or self.root / "model.bin"
        if not self.mlflow_model:
            model.write_text("weights")
        data = self.root / "data"
        data.mkdir(exist_ok=True)
        contents = self.contents or [f"content {i}\n" for i in range(self.files)]
        if self.slices is None:
            self.slices = []
            for number, text in enumerate(contents):
                path = data / f"f{number:05d}{self.suffix}"
                path.write_text(text)
                self.slices.append(
                    Slice(
                        number,
                        f"file://{path}",
                        path.name,
                        len(text.encode()),
                        etag_of(path.stat()),
                    )
                )
        self.cuts = list(range(0, len(self.slices), self.per_batch))
        write_segment(self.folder.segment(0), self.slices, self.cuts, 0)
        self.spec = ScoreSpec(
            endpoint_name="end-point",
            deployment_name="deploy",
            model=ResolvedModel(
                name="m",
                version="1",
                type="mlflow_model" if self.mlflow_model else "custom_model",
                path=str(model),
                hash="m1",
            ),
            code=None
            if self.mlflow_model
            else ResolvedCode(path=str(code), scoring_script="score.py", hash=self.code_hash),
            environment=ResolvedEnvironment(
                name="e", version="1", hash="e1", python=sys.executable
            ),
            compute="local",
            idle_seconds=60,
            settings=ScoringSettings(
                instance_count=1,
                max_concurrency_per_instance=self.slots,
                mini_batch_size=self.per_batch,
                max_retries=3,
                timeout_seconds=None,
                error_threshold=-1,
                logging_level="info",
                output_action=self.action,
                output_file_name="predictions.csv",
                output_format="batchpoint",
                environment_variables=self.variables,
                split_files=False,
                coalesce_files=True,
            ),
            input=JobInput(type="uri_folder", uri=f"file://{data}"),
            output=JobOutput(uri=f"file://{self.root / 'out'}"),
        )

    @property
    def order(self) -> NodeOrder:
        return NodeOrder(self.job, self.folder.root, self.spec, self.epoch, NODE, self.slots)

    def work(self, batches: Sequence[int] | None = None, attempt: int = 1):
        slices = self.slices or []
        bounds = [*self.cuts, len(slices)]
        chosen = range(len(self.cuts)) if batches is None else batches
        return [
            (
                MiniBatch(index, 0, bounds[index], bounds[index + 1]),
                Assignment(
                    Task(index, 0, bounds[index + 1] - bounds[index]),
                    attempt,
                    self.timeout_seconds,
                ),
            )
            for index in chosen
        ]


@dataclass
class Heard:
    """What an agent told, in order."""

    ready: int = 0
    reports: list[Reported] = field(default_factory=list)
    failed_loads: list[WorkerFailed] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)

    @property
    def results(self) -> list[TaskResult]:
        return [result for report in self.reports for result in report.results]

    def of(self, outcome: str) -> list[TaskResult]:
        return [result for result in self.results if result.outcome == outcome]


async def listen(
    connection: AgentConnection, enough: Callable[[Heard], bool], seconds: float = 30.0
) -> Heard:
    """Hear the agent until it has told enough."""
    heard = Heard()
    async with asyncio.timeout(seconds):
        async for event in connection.events():
            if isinstance(event, NodeReady):
                heard.ready += 1
            elif isinstance(event, Reported):
                heard.reports.append(event)
            elif isinstance(event, WorkerFailed):
                heard.failed_loads.append(event)
            elif isinstance(event, Heartbeat):
                heard.heartbeats.append(event)
            if enough(heard):
                return heard
    raise AssertionError(f"the agent went away before it had told enough: {heard}")


def rows_of(job: Tiny, heard: Heard) -> dict[int, str]:
    """Rendered rows by mini-batch, over all sealed parts that were reported."""
    found: dict[int, str] = {}
    for report in heard.reports:
        if report.part is None:
            continue
        with PartReader(job.folder.part(report.part)) as reader:
            for result in report.results:
                if result.frame >= 0:
                    assert reader.frames.task(result.frame) == result.task
                    found[result.task.mini_batch] = reader.read(result.frame)[0].decode()
    return found


@contextlib.asynccontextmanager
async def served(agent: AgentProcess, job: Tiny) -> AsyncGenerator[AgentConnection]:
    """Open a job on an agent, and close it properly."""
    connection = await agent.connect()
    try:
        await connection.open(job.order)
        yield connection
    finally:
        await connection.close()


async def run(agent: AgentProcess, job: Tiny, attempts: int | None = None) -> Heard:
    """Run all mini-batches of a job once; `attempts`: how many results to wait for."""
    async with served(agent, job) as connection:
        work = job.work()
        connection.assign(work)
        wanted = len(work) if attempts is None else attempts
        return await listen(connection, lambda heard: len(heard.results) >= wanted)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
