"""An engine whose nodes are tasks of this event loop that call a function.

The second implementation of `batchpoint.engines.interface.Engine`. What is scored, sealed, reported
and published is real; only workers are missing, and with them time limits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from batchpoint.core.messages import (
    Assignment,
    AttemptError,
    NodeLost,
    NodeReady,
    Reported,
    TaskResult,
)
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.job import Job
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.engines.interface import EngineEvent
from batchpoint.formats.layout import JobFolder, part_name
from batchpoint.formats.manifest import read_segment
from batchpoint.formats.parts import PartWriter
from batchpoint.node.output_assembly import withdraw
from batchpoint.node.output_request import AssembledOutput, AssembleRequest
from batchpoint.node.side_work import SideWork
from batchpoint.node.wire import Heartbeat, NodeOrder

Score = Callable[[Sequence[Slice]], list[str]]
_COLUMNS = (("_file", "string"), ("prediction", "string"))
_FRAMES_PER_PART = 3


@dataclass
class _Node:
    """A node: what waits for it, what it has scored since its last part, and its task."""

    name: str
    given: asyncio.Queue[tuple[MiniBatch, Assignment]] = field(
        default_factory=asyncio.Queue[tuple[MiniBatch, Assignment]]
    )
    results: list[TaskResult] = field(default_factory=list[TaskResult])
    part: PartWriter | None = None
    parts: int = 0
    work: asyncio.Task[None] | None = None

    def drop(self) -> None:
        """Forget what is not sealed."""
        if self.part is not None:
            self.part.discard()
            self.part = None
        self.results.clear()


class SimulatedEngine:
    """Nodes for one job in this process; `score` returns one value per slice, or raises."""

    def __init__(self, job: Job, epoch: int, folder: JobFolder, score: Score) -> None:
        """No node exists before `provision`."""
        self._job = job
        self._epoch = epoch
        self._folder = folder
        self._score = score
        self._slots = job.scoring.settings.max_concurrency_per_instance
        self._events: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self._nodes: dict[str, _Node] = {}
        self._started = 0
        self._closed = False
        self._side: SideWork | None = None
        self.timeout_seconds: float | None = None

    # --- Engine -------------------------------------------------------------------------------

    async def events(self) -> AsyncIterator[EngineEvent]:
        """Yield what nodes tell, until `close`."""
        while (event := await self._events.get()) is not None:
            yield event

    async def provision(self, count: int) -> None:
        """Have `count` nodes in all."""
        while not self._closed and len(self._nodes) < count:
            self._started += 1
            node = _Node(f"simulated-{self._started}")
            self._nodes[node.name] = node
            node.work = asyncio.create_task(self._serve(node))
            self._events.put_nowait(NodeReady(node.name, self._slots))

    async def assign(self, node: str, assignments: Sequence[tuple[MiniBatch, Assignment]]) -> None:
        """Hand tasks to a node."""
        known = self._nodes.get(node)
        for each in assignments if known is not None else ():
            assert known is not None
            known.given.put_nowait(each)

    async def retime(self, timeout_seconds: float) -> None:
        """Remember the timeout: a function in this process cannot be bounded by it."""
        self.timeout_seconds = timeout_seconds

    async def abort(self) -> None:
        """Stop all work of the job now."""
        for node in self._nodes.values():
            await _ended(node)
            node.given = asyncio.Queue()
            node.work = asyncio.create_task(self._serve(node))

    async def index(self, whole: Slice, target_bytes: int) -> list[Slice]:
        """Cut a big item into slices of about `target_bytes` on record boundaries."""
        return await self._side_work().index(whole, target_bytes)

    async def assemble(self, request: AssembleRequest) -> AssembledOutput:
        """Write and publish the output of the job."""
        return AssembledOutput.from_json(await self._side_work().assemble(request.to_json()))

    async def withdraw(self, request: AssembleRequest) -> None:
        """Remove what is left of an output that will not be completed."""
        await asyncio.to_thread(withdraw, request, StorageAccess())

    async def close(self) -> None:
        """Give all nodes back; idempotent."""
        if self._closed:
            return
        self._closed = True
        for node in self._nodes.values():
            await _ended(node)
        self._nodes.clear()
        if self._side is not None:
            await self._side.close()
        self._events.put_nowait(None)

    # --- what a test may do -------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that are there."""
        return list(self._nodes)

    async def lose(self, name: str) -> None:
        """Let a node be gone with all that it has not reported."""
        node = self._nodes.pop(name)
        await _ended(node)
        self._events.put_nowait(NodeLost(name, "it was lost on purpose"))

    # --- a node -------------------------------------------------------------------------------

    async def _serve(self, node: _Node) -> None:
        while True:
            batch, given = await node.given.get()
            await asyncio.sleep(0)
            self._attempt(node, batch, given)
            if len(node.results) >= _FRAMES_PER_PART or node.given.empty():
                await self._report(node)

    def _attempt(self, node: _Node, batch: MiniBatch, given: Assignment) -> None:
        task = given.task
        pieces = read_segment(self._folder.segment(batch.segment)).slices_of(task)
        items = tuple(dict.fromkeys(piece.item for piece in pieces))
        try:
            values = self._score(pieces)
        except Exception as error:  # noqa: BLE001 - bulkhead: what is scored with is not ours
            kind = type(error).__name__
            failure = AttemptError("user", kind, kind, str(error))
            failed = TaskResult(task, given.attempt, "failed", 0.0, items=items, error=failure)
            self._events.put_nowait(Reported(node.name, None, (failed,)))
            return
        if node.part is None:
            path = self._folder.part(part_name(self._epoch, node.name, node.parts))
            node.part = PartWriter(path, job=self._job.name, epoch=self._epoch, node=node.name)
            node.parts += 1
        pairs = zip(pieces, values, strict=True)
        text = "".join(f"{piece.name},{value}\n" for piece, value in pairs)
        frame = node.part.add(
            task,
            text.encode(),
            b"",
            rows=len(values),
            failed_rows=0,
            columns=_COLUMNS,
            encoding="csv",
            items=len(items),
        )
        node.results.append(
            TaskResult(task, given.attempt, "scored", 0.0, frame, len(values), items=items)
        )

    async def _report(self, node: _Node) -> None:
        if node.part is None:
            return
        rows = sum(result.rows for result in node.results)
        items = sum(len(result.items) for result in node.results)
        beat = Heartbeat(node.name, "scoring", self._slots, rows, items)
        self._events.put_nowait(beat)
        # What ends the node meanwhile leaves a sealed part that nobody was told of, as it happens.
        part, results = node.part, tuple(node.results)
        node.part, node.results = None, []
        await asyncio.to_thread(part.seal)
        self._events.put_nowait(Reported(node.name, part.path.name, results))

    def _side_work(self) -> SideWork:
        if self._side is None:
            order = NodeOrder(
                self._job.name,
                self._folder.root,
                self._job.scoring,
                self._epoch,
                "simulated",
                self._slots,
            )
            self._side = SideWork(order)
        return self._side


async def _ended(node: _Node) -> None:
    if node.work is not None:
        node.work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await node.work
    node.drop()
