"""Brings the inputs of the next tasks to this node's disk while earlier ones are computed."""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import math
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.durable import storage_error
from batchpoint.node.remote_files import RemoteFiles
from batchpoint.node.staging import root_name, slice_file, staged_names
from batchpoint.node.ticket import Part, Ticket
from batchpoint.storage.locate import is_local, path_of

_RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class _Journey:
    """A task whose inputs are being fetched; `left` counts slices that are still on their way.

    `bytes` is how much of the disk it is granted. `put_off`: slices whose store did not answer, to
    be tried again. `begun`: when it was admitted; `since`: when its store did not answer first.
    """

    ticket: Ticket
    bytes: int
    begun: float
    targets: list[Path] = field(default_factory=list[Path])
    left: int = 0
    put_off: list[int] = field(default_factory=list[int])
    unavailable: Unavailable | None = None
    no_room: OSError | None = None
    since: float | None = None
    attempts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class StagingAhead:
    """The tasks of one job between the runner and the workers; used on the event loop.

    Tasks are fetched in the order in which they came, many objects at a time, within a bound on the
    bytes that lie on the disk; a task beyond that bound passes when nothing else is there. Workers
    get the earliest task that is complete.
    """

    def __init__(
        self,
        files: RemoteFiles,
        scratch: Path,
        *,
        script: bool,
        arrived: Callable[[], None],
        given_up: Callable[[Ticket, Unavailable], None],
        no_room: Callable[[OSError], None],
    ) -> None:
        """Fetch into folders below `scratch`.

        Args:
            files: where objects come from.
            scratch: on this node's disk.
            script: files keep their names and folders, which scripts look at.
            arrived: called when a task can be taken.
            given_up: takes a task whose store does not answer for too long.
            no_room: takes what the operating system said; the task is fetched again later.
        """
        self._files = files
        self._scratch = scratch
        self._script = script
        self._arrived = arrived
        self._given_up = given_up
        self._no_room = no_room
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(limits.FETCHES_AT_ONCE_MAX, thread_name_prefix="fetch")
        self._waiting: deque[Ticket] = deque()
        self._journeys: set[int] = set()
        self._ready: list[tuple[int, Ticket]] = []
        # A thread of its own: files go at once, however many are still to be fetched.
        self._deleting = ThreadPoolExecutor(1, thread_name_prefix="unstage")
        self._folders = itertools.count(1)
        self._granted: dict[Path, int] = {}
        self._bytes = 0
        self._unwritten = 0
        self._held_back = False
        self._answered = 0.0  # when a store last gave what was asked for
        self._closed = threading.Event()
        self.warning = ""

    @property
    def ready(self) -> int:
        """How many tasks can be taken now."""
        return len(self._ready)

    @property
    def remaining(self) -> int:
        """How many tasks are here, ready or not."""
        return len(self._waiting) + len(self._journeys) + len(self._ready)

    def offer(self, tickets: Sequence[Ticket]) -> None:
        """Take tasks; what they need is fetched as soon as there is room."""
        self._waiting.extend(tickets)
        self._admit()

    def take(self) -> Ticket | None:
        """Give out the earliest task that is complete."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def put_back(self, ticket: Ticket) -> None:
        """Take a task back that no worker has finished; what was fetched for it is kept."""
        if ticket.paths:
            heapq.heappush(self._ready, (ticket.id, ticket))
        else:
            self._waiting.appendleft(ticket)
            self._admit()

    def done(self, ticket: Ticket) -> None:
        """Delete what was fetched for a task; there is room for others then."""
        staged, ticket.staged = ticket.staged, None
        ticket.paths, ticket.parts, ticket.refused = [], {}, {}
        if staged is not None and not self._closed.is_set():
            self._deleting.submit(self._guarded, self._delete, staged)

    def stop(self) -> None:
        """Fetch nothing more; what is on its way is forgotten. Waits for nothing."""
        self._closed.set()
        self._waiting.clear()
        self._journeys.clear()
        self._ready.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._deleting.shutdown(wait=False, cancel_futures=True)

    # --- room -----------------------------------------------------------------------------------

    def _admit(self) -> None:
        while self._waiting and not self._held_back and not self._closed.is_set():
            ticket = self._waiting[0]
            size = sum(_bytes_of(one) for one in ticket.slices)
            if self._granted and not self._has_room(size):
                return
            if size > self._free_bytes():
                self._wait_for_room(size)
                return
            self._waiting.popleft()
            # Never used twice: the old one may still be being deleted.
            ticket.staged = self._scratch / f"task-{ticket.id}-{next(self._folders)}"
            self._granted[ticket.staged] = size
            self._bytes += size
            self._unwritten += size
            self._journeys.add(ticket.id)
            self._submit(self._begin, _Journey(ticket, size, self._loop.time()))

    def _has_room(self, size: int) -> bool:
        if self._bytes + size > limits.STAGED_BYTES_MAX:
            return False
        return self._free_bytes() >= limits.STAGING_FREE_BYTES_MIN + self._unwritten + size

    def _free_bytes(self) -> float:
        try:
            found = os.statvfs(self._scratch)
        except OSError:
            return math.inf  # writing will say what is wrong
        return found.f_bavail * found.f_frsize

    def _wait_for_room(self, size: int) -> None:
        """Begin nothing that the disk cannot hold: it would be full for everybody, in vain."""
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.warning = f"disk full: {storage_error(full, self._scratch, size).message}"
        self._hold_back()

    def _hold_back(self) -> None:
        if not self._held_back:
            self._held_back = True
            self._loop.call_later(_RETRY_SECONDS[2], self._resume)

    def _release(self, staged: Path) -> None:
        self._bytes -= self._granted.pop(staged)
        self._admit()

    # --- in threads -------------------------------------------------------------------------------

    def _submit(self, work: Callable[..., None], journey: _Journey, *arguments: int) -> None:
        if not self._closed.is_set():
            self._threads.submit(self._guarded, work, journey, *arguments)

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        """Bulkhead: a mistake of ours in a thread ends the node instead of losing a task."""
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - raised again on the loop
            self._tell(_raise, error)

    def _tell(self, what: Callable[..., None], *arguments: object) -> None:
        if not self._closed.is_set():
            self._loop.call_soon_threadsafe(what, *arguments)

    def _delete(self, staged: Path) -> None:
        shutil.rmtree(staged, ignore_errors=True)
        self._tell(self._release, staged)

    def _begin(self, journey: _Journey) -> None:
        """Choose where the files of a task go, and have each fetched by whoever is free."""
        if self._closed.is_set():
            return
        ticket = journey.ticket
        slices, staged = ticket.slices, ticket.staged
        assert staged is not None
        if self._script:
            root = root_name(slices[0])
            names = [f"{root}/{name}" for name in staged_names(slices, folders=True)]
        else:
            names = [f"{place}{_suffix(one)}" for place, one in enumerate(slices)]
        journey.targets = [staged / name for name in names]
        try:
            staged.mkdir(parents=True, exist_ok=True)
            for folder in {target.parent for target in journey.targets}:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            journey.no_room = error
            self._tell(self._landed, journey)
            return
        ticket.paths = [""] * len(slices)
        self._fetch_all(journey, range(len(slices)))

    def _fetch_all(self, journey: _Journey, places: Sequence[int]) -> None:
        journey.left = len(places)
        for place in places[1:]:
            self._submit(self._fetch, journey, place)
        self._fetch(journey, places[0])

    def _fetch(self, journey: _Journey, place: int) -> None:
        ticket = journey.ticket
        one, target = ticket.slices[place], journey.targets[place]
        if self._closed.is_set():
            return
        try:
            if journey.no_room is None:  # else it will all be fetched again
                self._bring(ticket, place, one, target)
        except Invalid as error:
            ticket.refused[place] = error
        except Unavailable as error:
            journey.put_off.append(place)
            journey.unavailable = error
        except OSError as error:
            journey.no_room = error
        if self._closed.is_set():
            # Whoever has removed the job's folder meanwhile may have missed this file.
            if ticket.staged is not None:
                shutil.rmtree(ticket.staged, ignore_errors=True)
            return
        with journey.lock:
            journey.left -= 1
            last = not journey.left
        if last:
            self._tell(self._landed, journey)

    def _bring(self, ticket: Ticket, place: int, one: Slice, target: Path) -> None:
        if is_local(one.uri):
            if one.unit and self._script:
                slice_file(one, target)
            else:
                target = path_of(one.uri)
                if one.unit:
                    ticket.parts[place] = Part(one.unit, one.start, one.stop)
        else:
            part = self._files.bring(one, target)
            if part is not None and not self._script:
                ticket.parts[place] = part
        ticket.paths[place] = str(target)

    # --- back on the loop -------------------------------------------------------------------------

    def _landed(self, journey: _Journey) -> None:
        """All slices of a task have been tried."""
        if self._closed.is_set():
            return
        if journey.no_room is not None:
            self._begin_again(journey)
        elif journey.unavailable is not None:
            self._try_again(journey, journey.unavailable)
        else:
            self._complete(journey)

    def _complete(self, journey: _Journey) -> None:
        ticket = journey.ticket
        self._unwritten -= journey.bytes
        self._journeys.discard(ticket.id)
        self._answered = self._loop.time()
        self.warning = ""
        heapq.heappush(self._ready, (ticket.id, ticket))
        self._arrived()

    def _try_again(self, journey: _Journey, error: Unavailable) -> None:
        """Ask a store again that did not answer, later and later; at last give the task back."""
        now = self._loop.time()
        self.warning = f"storage: {error.message}"
        if journey.since is None:
            journey.since = now
        waited = now - journey.since
        others = self._answered >= journey.begun
        if waited > limits.FETCH_OUTAGE_SECONDS_MAX or (
            others and waited > limits.FETCH_STUCK_SECONDS_MAX
        ):
            self._abandon(journey)
            self._given_up(journey.ticket, error)
            return
        places, journey.put_off, journey.unavailable = journey.put_off, [], None
        delay = _RETRY_SECONDS[min(journey.attempts, len(_RETRY_SECONDS) - 1)]
        journey.attempts += 1
        self._loop.call_later(delay, self._submit, self._refetch, journey, *places)

    def _refetch(self, journey: _Journey, *places: int) -> None:
        self._fetch_all(journey, places)

    def _begin_again(self, journey: _Journey) -> None:
        """Wait for room on the disk; nothing else is fetched meanwhile."""
        error = journey.no_room
        assert error is not None
        self._abandon(journey)
        self._waiting.appendleft(journey.ticket)
        self._hold_back()
        self._no_room(error)

    def _resume(self) -> None:
        self._held_back = False
        self._admit()

    def _abandon(self, journey: _Journey) -> None:
        self._unwritten -= journey.bytes
        self._journeys.discard(journey.ticket.id)
        self.done(journey.ticket)


def _bytes_of(one: Slice) -> int:
    """How much of the disk a slice takes; for row groups, of which only the rows are known, about.

    Their ranges are in the footer, which is not read to find out how much is asked for.
    """
    if is_local(one.uri):
        return 0
    if one.unit == "bytes":
        return one.stop - one.start
    return min(one.size, limits.COALESCE_BYTES_MAX) if one.unit else one.size


def _suffix(one: Slice) -> str:
    suffix = PurePosixPath(one.name.rpartition("/")[2]).suffix
    return suffix if suffix.isascii() and len(suffix) <= 16 else ""


def _raise(error: Exception) -> None:
    raise error
