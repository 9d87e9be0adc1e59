"""The inputs of a command as texts: literals, paths of this machine, or URIs as they are."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path, PurePosixPath

from batchpoint.core.binding import literal_text
from batchpoint.domain import limits
from batchpoint.domain.component import InputMode
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepInput
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.command_record import decode_command_receipt
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import CLAIM, RECEIPT
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.tree_copy import copy_file, copy_tree
from batchpoint.storage.data_places import listed_as, localized, locations_with
from batchpoint.storage.input_names import place_of
from batchpoint.storage.listing import Listing, Locations
from batchpoint.storage.locate import is_local, path_of
from batchpoint.storage.store import Found

_AHEAD_MAX = 4 * limits.FETCHES_AT_ONCE_MAX


class Stopped(Exception):
    """Nobody wants the inputs any more."""


class CommandInputs:
    """Brings what a command reads to this machine; blocking, for one thread.

    Nothing is held in memory but a page of a listing; files of stores are fetched many at a time.
    """

    def __init__(self, order: CommandOrder, scratch: Path) -> None:
        """Fetched files and copies go below `scratch`."""
        self._inputs = order.inputs
        self._declared: Mapping[str, StepInput] = (
            order.spec.step.inputs if order.spec.step is not None else {}
        )
        self._access = order.access
        self._scratch = scratch
        self._stopped = threading.Event()
        self._locations = cache(partial(locations_with, order.access))

    def stop(self) -> None:
        """Have `texts` end soon, by raising `Stopped`."""
        self._stopped.set()

    def texts(self) -> dict[str, str]:
        """Return what stands for each input in the command, with all data in place.

        Raises:
            Invalid: an input does not exist (`input_not_found`), cannot be read
                (`input_unreadable`, `storage_denied`) or changes meanwhile (`input_changed`).
            Unavailable: a store does not answer, or there is no room on the disk.
            Stopped: `stop` was called.
        """
        return {name: self._text(name) for name in self._inputs}

    def _text(self, name: str) -> str:
        value = self._inputs[name]
        if not isinstance(value, JobInput):
            return literal_text(value)
        try:
            return self._of_data(name, value)
        except BatchpointError as error:
            raise type(error)(f"input {name}: {error.message}", code=error.code) from error
        except OSError as error:
            raise storage_error(error, self._scratch) from error

    def _of_data(self, name: str, data: JobInput) -> str:
        declared = self._declared.get(name)
        mode: InputMode = declared.mode if declared is not None else data.mode or "ro_mount"
        if mode == "direct":
            if data.uri is None or data.pattern is not None:
                raise Invalid(
                    "mode direct hands over one URI as it is; give one without a pattern, or use "
                    "ro_mount or download",
                    code="field_invalid",
                )
            return data.uri
        data = localized(data, self._access)
        if data.uri is not None and data.pattern is None and is_local(data.uri):
            return self._lone(name, path_of(data.uri), mode)
        return str(self._gathered(name, data, link=mode == "ro_mount"))

    def _lone(self, name: str, path: Path, mode: InputMode) -> str:
        """A file or folder of this machine: as it lies there, or a private copy."""
        if not path.exists():
            raise Invalid(
                f"there is nothing at {path}; give a file or folder that this machine can read",
                code="input_not_found",
            )
        if mode == "ro_mount":
            return str(path)
        folder = self._scratch / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            copy_tree(path, folder)
            return str(folder)
        folder.mkdir()
        copy_file(path, folder / path.name)
        return str(folder / path.name)

    def _gathered(self, name: str, data: JobInput, *, link: bool) -> Path:
        """Bring all that a listing finds into one folder; returns that, or its only file."""
        folder = self._scratch / name
        folder.mkdir(parents=True)
        lone = listed_as(data.sources[0]) if len(data.sources) == 1 else ""
        listing = Listing(data, self._locations)
        fetch = _Fetching(folder, self._locations, link=link, stopped=self._stopped)
        count = 0
        try:
            while items := listing.take(limits.STORAGE_LIST_PAGE):
                for item in items:
                    if item.uri == lone:
                        fetch.begin(item._replace(name=place_of(lone)[-1]))
                        fetch.finish()
                        return folder / place_of(lone)[-1]
                    if item.name != CLAIM:
                        fetch.begin(item)
                        count += 1
            fetch.finish()
        finally:
            fetch.close()
        if count == 0:
            told = f"no file below {data.shown}" if data.pattern else f"no file at {data.shown}"
            raise Invalid(f"there is {told}", code="input_not_found")
        if _is_of_a_step(folder / RECEIPT):
            (folder / RECEIPT).unlink()  # a local output of a step has none, either
        return folder


class _Fetching:
    """Files on their way into a folder, many at a time and in bounded number."""

    def __init__(
        self,
        folder: Path,
        locations: Callable[[], Locations],
        *,
        link: bool,
        stopped: threading.Event,
    ) -> None:
        self._folder = folder
        self._locations = locations
        self._link = link
        self._stopped = stopped
        self._threads = ThreadPoolExecutor(limits.FETCHES_AT_ONCE_MAX, thread_name_prefix="fetch")
        self._begun: deque[Future[None]] = deque()
        self._made = {folder}

    def begin(self, item: Slice) -> None:
        """Have one file brought; raises what came of earlier ones, and `Stopped`."""
        if self._stopped.is_set():
            raise Stopped
        target = self._target(item.name)
        if is_local(item.uri):
            self._take(path_of(item.uri), target)
            return
        self._begun.append(self._threads.submit(self._fetch, item, target))
        while len(self._begun) >= _AHEAD_MAX or (self._begun and self._begun[0].done()):
            self._begun.popleft().result()

    def finish(self) -> None:
        """Wait for all files; raises as `begin`."""
        while self._begun:
            self._begun.popleft().result()

    def close(self) -> None:
        """Fetch nothing more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _target(self, name: str) -> Path:
        """Return where a file of this name goes, below the folder, which it cannot leave."""
        steps = PurePosixPath(name).parts
        if not steps or ".." in steps or name.startswith("/") or "\0" in name:
            raise Invalid(f"{name!r} is no name that a file can have here", code="input_unreadable")
        target = self._folder.joinpath(*steps)
        if target.parent not in self._made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(target.parent)
        return target

    def _take(self, source: Path, target: Path) -> None:
        if not source.exists():
            raise Invalid(f"there is no file {source}", code="input_not_found")
        if self._link:
            target.symlink_to(source)
        else:
            copy_file(source, target)

    def _fetch(self, item: Slice, target: Path) -> None:
        if self._stopped.is_set():
            raise Stopped
        location = self._locations().at(item.uri)
        if item.size or item.etag:
            location.store.fetch(Found(location.path, item.size, item.etag), target)
            return
        # Its store tells neither size nor etag, or it is empty, or it is gone: reading tells.
        with target.open("xb") as file:
            for chunk in location.store.stream(location.path):
                file.write(chunk)


def _is_of_a_step(receipt: Path) -> bool:
    try:
        decode_command_receipt(receipt.read_bytes())
    except (OSError, ValueError):
        return False
    return True
