"""Listing an input: a stream of items, source after source, each in UTF-8 order of their paths."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol
from urllib.parse import quote

from batchpoint.core.path_pattern import compile_pattern
from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.minibatch import Slice
from batchpoint.storage.input_names import place_of, prefixes_of
from batchpoint.storage.local_listing import LEFT_OUT, local_entries
from batchpoint.storage.locate import is_local, path_of, shown_of
from batchpoint.storage.store import Found, Location

_LEFT_OUT = tuple(LEFT_OUT)
_LOOKS_AHEAD = 4 * limits.LOOKS_AT_ONCE_MAX
# Explicit files that cannot be looked at are items all the same: they fail when they are read.
_FAILING_ITEM = ("input_unreadable", "input_changed", "storage_denied")


class Locations(Protocol):
    """Finds the store in which a URI lies."""

    def at(self, uri: str) -> Location:
        """Return the store and the key that a URI names."""
        ...


class Listing:
    """The items of an input, in listing order, each with size and etag.

    A folder is listed recursively and lazily: no more than two pages of it are held. Hidden files
    are items like any other, except `.amlignore` and `.DS_Store`. What is neither a file nor a
    folder (a pipe, a socket, a device) is not an item; `left_out` gets its path. A local link that
    leads nowhere, and a file of a list that is not there, is an item of no size, which fails when
    it is read. Objects whose store tells no size or etag have size 0 and etag "".
    """

    def __init__(
        self,
        source: JobInput,
        locations: Callable[[], Locations],
        left_out: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Nothing is listed before `take`; `locations` is asked only when something is remote."""
        self._sources = source.sources
        self._wants_files = source.type == "uri_file"
        self._matches = compile_pattern(source.pattern) if source.pattern else None
        self._locations = locations
        self._left_out = left_out
        self._prefixes = prefixes_of(self._sources)
        self._place = 0  # the source that is being listed, and the last key taken of it
        self._after = ""
        self._ordinal = itertools.count()
        self._chunks: Iterator[list[Slice]] | None = None
        self._left: list[Slice] = []
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Have a `take` in another thread come to its end soon: nobody waits for it any more."""
        self._stopped.set()

    def take(self, count: int) -> list[Slice]:
        """Return the next `count` items; fewer than that only at the end or before trouble.

        Raises:
            Unavailable: a store does not answer; taking again goes on where it was.
            Invalid: the input does not exist (`input_not_found`), cannot be listed
                (`input_unreadable`, `storage_denied`) or changed (`input_changed`).
        """
        try:
            while len(self._left) < count and not self._stopped.is_set():
                self._chunks = self._chunks or self._listed()
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._left += chunk
        except Unavailable:
            self._chunks = None
            if not self._left:
                raise
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def _listed(self) -> Iterator[list[Slice]]:
        while self._place < len(self._sources):
            if is_local(self._sources[self._place]):
                yield from ([item] for item in self._local(self._place))
            elif len(self._sources) > 1 and self._wants_files:
                stop = self._place + 1
                while stop < len(self._sources) and not is_local(self._sources[stop]):
                    stop += 1
                yield from self._looked_at(stop)
                continue
            else:
                yield from self._remote(self._place)
            self._next_source()

    def _next_source(self) -> None:
        self._place += 1
        self._after = ""

    # --- local ----------------------------------------------------------------------------------

    def _local(self, place: int) -> Iterator[Slice]:
        root = path_of(self._sources[place])
        prefix = self._prefixes[place]
        if len(self._sources) > 1 and self._wants_files and not root.exists():
            yield self._missing(place)
            return
        for entry in local_entries(root):
            if not entry.is_item:
                self._left_out(entry.below)
                continue
            if self._matches is not None and not (entry.below and self._matches(entry.below)):
                continue
            if prefix:
                name = f"{prefix}/{entry.below}" if entry.below else prefix
            else:
                name = entry.below or root.name
            yield Slice(next(self._ordinal), entry.path, name, entry.size, entry.etag)

    # --- remote ---------------------------------------------------------------------------------

    def _looked_at(self, stop: int) -> Iterator[list[Slice]]:
        """Look at explicit files, many at a time and some ahead of the one that is wanted."""
        locations = self._locations()
        waiting: deque[tuple[int, Future[Found | None]]] = deque()
        ahead = self._place
        threads = ThreadPoolExecutor(limits.LOOKS_AT_ONCE_MAX, thread_name_prefix="look")
        try:
            while self._place < stop:
                while ahead < stop and len(waiting) < _LOOKS_AHEAD:
                    look = threads.submit(_look, locations, self._sources[ahead])
                    waiting.append((ahead, look))
                    ahead += 1
                place, look = waiting.popleft()
                yield from self._file_or_folder(place, look)
                self._next_source()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _file_or_folder(self, place: int, look: Future[Found | None]) -> Iterator[list[Slice]]:
        try:
            found = look.result()
        except Invalid as error:
            if error.code not in _FAILING_ITEM:
                raise
            yield [self._missing(place)]
            return
        if found is not None:
            yield [self._file(place, found)]
            return
        try:
            yield from self._folder(place, self._locations().at(self._sources[place]))
        except Invalid:
            if self._after:
                raise  # some of it was listed: the rest must not be missing silently
            # else a place that has no folders
        if not self._after:
            yield [self._missing(place)]

    def _remote(self, place: int) -> Iterator[list[Slice]]:
        """List a source that stands alone, or is said to be a folder."""
        uri = self._sources[place]
        location = self._locations().at(uri)
        if self._wants_files or uri.startswith(("http://", "https://")):
            found = _look(self._locations(), uri)
            if found is not None:
                yield [self._file(place, found)]
                return
        yield from self._folder(place, location)
        if self._after or self._matches is not None:
            return
        found = None if self._wants_files else location.store.find(location.path)
        if found is not None:
            yield [self._file(place, found)]
        elif self._wants_files:
            raise Invalid(
                f"there is nothing at {shown_of(uri)}; give a file or folder that is there",
                code="input_not_found",
            )

    def _file(self, place: int, found: Found) -> Slice:
        uri = self._sources[place]
        name = self._prefixes[place] or place_of(uri)[-1]
        return Slice(next(self._ordinal), uri, name, found.size, found.etag)

    def _missing(self, place: int) -> Slice:
        uri = self._sources[place]
        local = str(path_of(uri)) if is_local(uri) else uri
        return Slice(next(self._ordinal), local, self._prefixes[place], 0, "")

    def _folder(self, place: int, location: Location) -> Iterator[list[Slice]]:
        folder = location.path.rstrip("/")
        ahead = ThreadPoolExecutor(1, thread_name_prefix="list")
        try:
            pages = location.store.list(f"{folder}/" if folder else "")
            coming = ahead.submit(next, pages, None)
            while (page := coming.result()) is not None:
                coming = ahead.submit(next, pages, None)
                chunk = self._chunk(place, page, len(folder) + 1 if folder else 0)
                self._after = max(self._after, page[-1].path)  # again from the start: seen before
                yield chunk
        finally:
            ahead.shutdown(wait=False, cancel_futures=True)

    def _chunk(self, place: int, page: list[Found], begin: int) -> list[Slice]:
        """Turn a page into items; `begin`: where in a key the path below the folder begins."""
        after, matches, ordinal = self._after, self._matches, self._ordinal
        if page[0].path <= after:
            page = [found for found in page if found.path > after]
        if matches is not None:
            page = [found for found in page if matches(found.path[begin:])]
        if any(found.path.endswith(_LEFT_OUT) for found in page):
            page = [found for found in page if found.path.rpartition("/")[2] not in LEFT_OUT]
        uri = self._sources[place].rstrip("/") + "/"
        prefix = self._prefixes[place] and self._prefixes[place] + "/"
        # A URL is encoded, any other URI has the keys as they are.
        spelled = quote if uri.startswith(("http://", "https://")) else str
        return [
            Slice(number, uri + spelled(below), prefix + below, size, etag)
            for (path, size, etag), number in zip(page, ordinal, strict=False)
            if (below := path[begin:])
        ]


def _look(locations: Locations, uri: str) -> Found | None:
    location = locations.at(uri)
    return location.store.find(location.path)
