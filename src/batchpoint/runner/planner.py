"""The plan of a job: lists the input, cuts it, writes the manifest, and tells as it grows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count

from batchpoint.core.messages import PlanGrew, PlanSealed
from batchpoint.core.planning import Cutter, Segment
from batchpoint.domain import limits
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.domain.minibatch import Slice
from batchpoint.engines.interface import Engine
from batchpoint.formats import manifest
from batchpoint.formats.layout import JobFolder
from batchpoint.runner.plan_book import PlanBook
from batchpoint.storage.listing import Listing, Locations
from batchpoint.storage.locate import is_local

_ITEMS_PER_STEP = 4_000
# Workers that are counted in for each that there is when items are fetched first: mini-batches are
# smaller then, so that less has to be there before the first one begins.
_WORKERS_WHEN_FETCHING = 4
_RETRY_SECONDS_MAX = 5.0
_SPLITTABLE_TEXT = (".csv", ".jsonl", ".ndjson")
_SPLITTABLE_TABLES = (".parquet", ".parq", ".pqt")


class Planner:
    """Makes the manifest, or reads back what an earlier runner of the job has made of it.

    What is in the manifest never changes. A listing that was interrupted is listed again and must
    come to the same segments, or the input has changed under the job.
    """

    def __init__(
        self,
        spec: ScoreSpec,
        folder: JobFolder,
        engine: Engine,
        log: Callable[[str], None],
        access: StorageAccess | None = None,
    ) -> None:
        """Nothing is listed before `grow` is iterated; `access` opens remote inputs."""
        self._spec = spec
        self._folder = folder
        self._engine = engine
        self._log = log
        self._access = access or StorageAccess()
        self._inputs = hashlib.sha256()
        self._last_item = -1
        self._last_hashed = -1
        self.book = PlanBook()
        self.totals: manifest.PlanTotals | None = None
        self.items_listed = 0
        self.trouble = ""  # why the plan does not grow now

    async def grow(self) -> AsyncIterator[PlanGrew | PlanSealed]:
        """Yield the plan's events; runs blocking work in threads.

        Raises:
            Invalid: the input is missing, unreadable or has changed under the job.
            Unavailable: the manifest cannot be written or read.
        """
        yield PlanGrew(0, ())  # nodes may start while nothing is listed yet
        if self._folder.plan_totals.exists():
            totals = await asyncio.to_thread(manifest.read_totals, self._folder.plan_totals)
            for index in range(totals.segments):
                segment = await asyncio.to_thread(
                    manifest.read_segment, self._folder.segment(index)
                )
                yield self._grown(segment.first, segment.cuts, segment.items)
            self.items_listed = totals.items
        else:
            async for segment in self._cut():
                await self._patiently(self._write, segment)
                yield self._grown(
                    segment.first_mini_batch, segment.cuts, [s.item for s in segment.slices]
                )
            totals = manifest.PlanTotals(
                segments=self.book.segments,
                mini_batches=self.book.mini_batches,
                items=self.book.items,
                inputs_hash=self._inputs.hexdigest(),
            )
            if self._folder.segment(totals.segments).exists():
                raise self._input_changed()  # an earlier runner listed more
            await self._patiently(manifest.write_totals, self._folder.plan_totals, totals)
        self.totals = totals
        self._log(
            f"listed {_of(totals.items, 'item')}, cut into "
            f"{_of(totals.mini_batches, 'mini-batch', 'mini-batches')} in "
            f"{_of(totals.segments, 'manifest segment')}"
        )
        yield PlanSealed(totals.mini_batches, totals.items)

    async def _patiently(self, write: Callable[..., None], *arguments: object) -> None:
        """Write in a thread, waiting for a full disk as long as it takes, and saying so."""
        for attempt in count():
            try:
                await asyncio.to_thread(write, *arguments)
                self.trouble = ""
            except Unavailable as error:
                if error.code != "storage_full":
                    raise
                await self._wait(attempt, "write the plan", error)
            else:
                return

    async def _cut(self) -> AsyncIterator[Segment]:
        settings = self._spec.settings
        workers = settings.instance_count * settings.max_concurrency_per_instance
        coalesce = settings.coalesce_files and self._spec.code is None
        remote = not all(is_local(uri) for uri in self._spec.input.sources)
        shares = workers * _WORKERS_WHEN_FETCHING if remote else workers
        cutter = Cutter(
            settings.mini_batch_size,
            coalesce=coalesce,
            workers=shares,
            mini_batch_bytes=settings.mini_batch_bytes,
        )
        left_out: list[str] = []
        listing = Listing(self._spec.input, self._locations, left_out.append)
        while step := await self._list(listing):
            self.items_listed += len(step)
            for item in step:
                for piece in await self._pieces(item, workers):
                    for segment in cutter.push(piece):
                        yield segment
        for segment in cutter.close():
            yield segment
        if left_out:
            self._log(
                f"{len(left_out)} entries of the input are neither files nor folders and were "
                f"left out, the first one is {left_out[0]!r}"
            )

    def _locations(self) -> Locations:
        from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415 - slow

        return ObjectLocations(self._access, timeout_seconds=limits.INPUT_ANSWER_SECONDS_MAX)

    async def _list(self, listing: Listing) -> list[Slice]:
        """Take the next items in a thread, waiting for a store as long as it takes."""
        for attempt in count():
            try:
                step = await asyncio.to_thread(listing.take, _ITEMS_PER_STEP)
            except asyncio.CancelledError:
                listing.stop()  # a pattern may match nothing for a million keys
                raise
            except Unavailable as error:
                await self._wait(attempt, "list the input", error)
            else:
                self.trouble = ""
                return step
        raise AssertionError  # never reached: the loop has no end of its own

    async def _wait(self, attempt: int, what: str, error: Unavailable) -> None:
        if not attempt:
            self._log(f"cannot {what} now, trying again: {error.message}")
        self.trouble = f"storage: {error.message}"
        await asyncio.sleep(min(_RETRY_SECONDS_MAX, 0.25 * (1 + attempt)))

    async def _pieces(self, item: Slice, workers: int) -> list[Slice]:
        """Cut a big item where its format and the settings allow it."""
        # Scripts get slices as files of their own, which only text can be cut into.
        splittable = _SPLITTABLE_TEXT + (_SPLITTABLE_TABLES if self._spec.code is None else ())
        if (
            item.size < limits.SPLIT_BYTES_MIN
            or not self._spec.settings.split_files
            or not item.name.lower().endswith(splittable)
        ):
            return [item]
        # Without code the cutter joins slices again, to mini-batches of whatever size suits it.
        joined = self._spec.code is None and self._spec.settings.coalesce_files
        most = limits.COALESCE_BYTES_MAX // (4 if joined else 1)
        wanted = self._spec.settings.mini_batch_bytes or item.size // (workers * 8)
        target = min(max(wanted, limits.COALESCE_BYTES_MIN), most)
        try:
            return await self._engine.index(item, target)
        except Invalid:
            if is_local(item.uri):
                raise
            return [item]  # gone or changed by now: it fails as an item when it is fetched

    def _write(self, segment: Segment) -> None:
        path = self._folder.segment(self.book.segments)
        if not path.exists():
            manifest.write_segment(path, segment.slices, segment.cuts, segment.first_mini_batch)
        else:
            before = manifest.read_segment(path)
            if before.cuts != tuple(segment.cuts) or before.slices() != list(segment.slices):
                raise self._input_changed()
        # After the write, which is tried again when the disk is full.
        for each in segment.slices:
            if each.item != self._last_hashed:  # how a file is cut depends on the workers
                self._last_hashed = each.item
                line = f"{each.uri}\0{each.size}\0{each.etag}\n"
                self._inputs.update(line.encode("utf-8", "surrogateescape"))

    def _input_changed(self) -> Invalid:
        return Invalid(
            f"{self._spec.input.shown} has changed while the job was being planned (files came, "
            "went or were written to); invoke again when it is complete",
            code="input_changed",
        )

    def _grown(self, first: int, cuts: Sequence[int], items: Sequence[int]) -> PlanGrew:
        """Enter a segment into the book; an item's slices may go on from the segment before."""
        begun = 0
        for item in items:
            begun += item != self._last_item
            self._last_item = item
        return PlanGrew(first, self.book.grow(first, cuts, len(items), begun))


def _of(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
