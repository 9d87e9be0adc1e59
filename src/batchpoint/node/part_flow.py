"""The way of results: into the current part, sealed in the background, then reported.

A full or failing disk loses nothing: what was scored waits, no new task is begun (`blocked`), and
sealing is tried again until there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from batchpoint.core.messages import TaskResult
from batchpoint.domain import limits
from batchpoint.domain.errors import Unavailable
from batchpoint.formats.durable import TEMPORARY_SUFFIX
from batchpoint.formats.layout import (
    JobFolder,
    init_harvest_name,
    parse_part_name,
    part_name,
)
from batchpoint.formats.parts import FrameFiles, PartWriter
from batchpoint.node import harvested_files
from batchpoint.node.wire import NodeOrder
from batchpoint.node.worker_messages import Body

Report = Callable[[str | None, list[TaskResult]], None]

_RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
# With so many frames in hand, a part is sealed before the node runs out of work, not after.
_EARLY_FRAMES_MIN = 64


@dataclass(slots=True)
class Scored:
    """What a worker sent back for one task; `result.frame` is not known yet.

    `files`: paths and sizes of what the script wrote into `folder`, below `JobFolder.files`.
    """

    result: TaskResult
    rows: Body
    failures: Body
    columns: list[tuple[str, str]]
    encoding: str
    folder: str = ""
    files: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class _Part:
    """A part that is being written or sealed, and the results it holds."""

    name: str
    writer: PartWriter
    results: list[TaskResult] = field(default_factory=list[TaskResult])
    harvests: list[Path] = field(default_factory=list[Path])


class PartFlow:
    """Writes parts of one job on one node; used on the event loop, seals in a thread of its own."""

    def __init__(self, order: NodeOrder, report: Report, moved: Callable[[], None]) -> None:
        """Report sealed parts by `report`; `moved` is called when one is, and when room is back."""
        self._order = order
        self._folder = JobFolder(order.job_dir)
        self._report = report
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._current: _Part | None = None
        self._age: asyncio.TimerHandle | None = None
        self._sealing: list[_Part] = []
        self._sealer: asyncio.Task[None] | None = None
        self._held: list[Scored] = []
        self._failed: list[TaskResult] = []
        self._serial = _last_serial(self._folder, order)
        self._closed = False
        self._init: Path | None = None
        self._init_taken = False
        self.warning = ""
        self.rows = 0
        self.items = 0

    @property
    def blocked(self) -> bool:
        """Whether the disk takes nothing now, so that no new task should begin."""
        return bool(self.warning)

    @property
    def idle(self) -> bool:
        """Whether everything that was scored has been reported."""
        return self._current is None and not self._sealing and not self._held

    def publish_init(self, written: Path) -> None:
        """Keep the files that a worker wrote in `init()`; once per node and job is enough."""
        if not self._init_taken and not self._closed:
            self._init_taken = True
            self._init = written
            self._start_sealer()

    def scored(self, scored: Scored) -> None:
        """Take the result of a task; it is reported with its part."""
        if self._closed:
            return
        self.rows += scored.result.rows
        self.items += len(scored.result.items)
        if self._held or not self._add(scored):
            self._held.append(scored)

    def failed(self, result: TaskResult) -> None:
        """Take an attempt that left nothing to keep; it is reported right away."""
        if self._closed:
            return
        if not self._failed:
            self._loop.call_soon(self._report_failed)
        self._failed.append(result)

    def settle(self, remaining: int) -> None:
        """Seal if it is time: `remaining` is how many tasks the node still has."""
        part = self._current
        if part is None:
            return
        early = part.writer.frames >= _EARLY_FRAMES_MIN and not self._sealing
        if (
            remaining == 0
            or part.writer.size >= limits.PART_BYTES_MAX
            or (early and part.writer.frames >= remaining)
        ):
            self._seal_current()

    async def drain(self) -> None:
        """Seal and report what there is; returns when it is durable, or the flow is closed."""
        self._seal_current()
        if self._sealer is not None:
            await self._sealer

    def trouble(self, error: Unavailable) -> None:
        """Say that the disk refused something and hold new tasks until it can be written again."""
        kind = "disk full" if error.code == "storage_full" else "storage"
        self.warning = f"{kind}: {error.message}"
        self._start_sealer()

    async def close(self) -> None:
        """Discard what is not reported, with its files; idempotent."""
        self._closed = True
        if self._age is not None:
            self._age.cancel()
        if self._sealer is not None:
            self._sealer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sealer
        # The thread may be in the middle of a seal that nobody waits for any more.
        await self._loop.run_in_executor(self._thread, self._discard_all)
        self._thread.shutdown(wait=False)

    # --- writing ------------------------------------------------------------------------------

    def _add(self, scored: Scored) -> bool:
        """Put a result into the current part; False: there is none and none can be begun."""
        if self._current is None and not self._begin():
            return False
        part = self._current
        assert part is not None
        result = scored.result
        files = None
        if scored.files:
            part.harvests.append(self._folder.files / scored.folder)
            files = FrameFiles(scored.folder, scored.files)
        ordinal = part.writer.frames
        try:
            part.writer.add(
                result.task,
                scored.rows,  # pyright: ignore[reportArgumentType] - any buffer is written as it is
                scored.failures,  # pyright: ignore[reportArgumentType]
                rows=result.rows,
                failed_rows=result.failed_rows,
                columns=scored.columns,
                encoding=scored.encoding,
                items=len(result.items),
                unattributed=result.unattributed,
                files=files,
            )
        except Unavailable as error:  # the writer keeps the frame all the same
            self.trouble(error)
            self._seal_current()
        part.results.append(result._replace(frame=ordinal))
        return True

    def _begin(self) -> bool:
        name = part_name(self._order.epoch, self._order.node, self._serial + 1)
        try:
            writer = PartWriter(
                self._folder.part(name),
                job=self._order.job,
                epoch=self._order.epoch,
                node=self._order.node,
            )
        except Unavailable as error:
            self.trouble(error)
            return False
        self._serial += 1
        self._current = _Part(name, writer)
        self._age = self._loop.call_later(limits.PART_AGE_SECONDS_MAX, self._seal_current)
        return True

    def _report_failed(self) -> None:
        failed, self._failed = self._failed, []
        if failed and not self._closed:
            self._report(None, failed)

    # --- sealing ------------------------------------------------------------------------------

    def _seal_current(self) -> None:
        part = self._current
        if part is None:
            return
        if self._age is not None:
            self._age.cancel()
        self._current = None
        self._sealing.append(part)
        self._start_sealer()

    def _start_sealer(self) -> None:
        if self._sealer is None or self._sealer.done():
            self._sealer = self._loop.create_task(self._seal_all())

    async def _seal_all(self) -> None:
        """Seal part after part; begin again with what was held while the disk was full."""
        attempt = 0
        while self._init or self._sealing or self._held or self.warning:
            try:
                if self._init is not None:
                    name = init_harvest_name(self._order.epoch, self._order.node)
                    place = self._folder.files / name
                    await self._run(harvested_files.publish_init, self._init, place)
                    self._init = None
                elif self._sealing:
                    part = self._sealing[0]
                    await self._run(_seal, part)
                    self._sealing.pop(0)
                    self._tell(part)
                    self._moved()
                else:
                    probe = self._folder.parts / f".{self._order.node}.probe"
                    await self._run(harvested_files.probe, probe)
            except Unavailable as error:
                self.trouble(error)
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            attempt = 0
            if not self._sealing:
                self._resume()

    def _resume(self) -> None:
        """There is room: write what was held, and let tasks begin again."""
        if not self.warning and not self._held:
            return
        self.warning = ""
        held, self._held = self._held, []
        for place, scored in enumerate(held):
            if not self._add(scored):
                self._held = held[place:]
                return
        if self._current is not None:
            self._sealing.append(self._current)
            self._current = None
        self._moved()

    def _tell(self, part: _Part) -> None:
        self.rows -= sum(result.rows for result in part.results)
        self.items -= sum(len(result.items) for result in part.results)
        failed, self._failed = self._failed, []
        self._report(part.name, part.results + failed)

    async def _run(self, work: Callable[..., None], *arguments: object) -> None:
        await self._loop.run_in_executor(self._thread, work, *arguments)

    def _discard_all(self) -> None:
        if self._current is not None:
            self._sealing.append(self._current)
        for part in self._sealing:
            part.writer.discard()
            part.writer.path.unlink(missing_ok=True)  # sealed, but never reported
            for folder in part.harvests:
                shutil.rmtree(folder, ignore_errors=True)
        for scored in self._held:
            if scored.files:
                shutil.rmtree(self._folder.files / scored.folder, ignore_errors=True)


def _seal(part: _Part) -> None:
    harvested_files.settle(part.harvests)
    part.writer.seal()


def _last_serial(folder: JobFolder, order: NodeOrder) -> int:
    """Find the highest serial this node has used in this epoch: a name is never used twice."""
    with contextlib.suppress(FileNotFoundError):
        names = (path.name for path in folder.parts.iterdir())
        used = [parse_part_name(name.removesuffix(TEMPORARY_SUFFIX)) for name in names]
        return max(
            (part[2] for part in used if part and part[:2] == (order.epoch, order.node)), default=0
        )
    return 0
