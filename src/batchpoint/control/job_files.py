"""What a job leaves in storage, as callers see it: logs, results, failed items."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from batchpoint.control.remote_results import RemoteFile, RemoteResults
from batchpoint.domain import limits
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Conflict, NotFound
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState
from batchpoint.domain.results import StoredFile
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import FAILED_ITEMS, job_folder
from batchpoint.storage.locate import local_path_of

_CHUNK_BYTES = 256 * 1024


AccessFor = Callable[[Iterable[str]], StorageAccess]
"""Gives what opens some URIs; see `Datastores.access_for`."""


class JobFiles:
    """Reads the files of jobs: logs below `home`, results wherever the job has put them."""

    def __init__(self, home: Path, access_for: AccessFor) -> None:
        """Nothing is read yet."""
        self._home = home
        self._access_for = access_for

    def list_logs(self, job: Job, limit: int, after: str | None) -> list[StoredFile]:
        """List a job's logs by path; none while it has not begun."""
        return files_below(job_folder(self._home, job.name).logs, limit, after)

    def log(self, job: Job, path: str) -> Path:
        """Return the path of one log. Raises: NotFound (`output_not_found`)."""
        logs = job_folder(self._home, job.name).logs
        return file_inside(logs, path, f"job {job.name!r} has no log")

    def list_results(self, job: Job, limit: int, after: str | None) -> list[StoredFile]:
        """List the files of a completed job's output by path.

        Raises: Conflict (`job_not_finished`); NotFound (`output_not_found`,
        `datastore_not_found`); Unavailable (`storage_unavailable`); Invalid (`storage_denied`).
        """
        results = self.results(job)
        if isinstance(results, Path):
            return files_below(results, limit, after)
        return results.files(limit, after)

    def result(self, job: Job, path: str) -> Path | RemoteFile:
        """Find one result file. Raises: as `list_results`."""
        results = self.results(job)
        if isinstance(results, Path):
            return file_inside(results, path, f"the output of job {job.name!r} has no file")
        return results.file(path)

    def results(self, job: Job) -> Path | RemoteResults:
        """Return a completed job's output: a folder here, or what lies in a store.

        Raises: as `list_results`.
        """
        state = job.status.state
        if state not in TERMINAL_STATES:
            raise Conflict(
                f"job {job.name!r} is {state} and its output appears when it is complete; wait for "
                "it to end",
                code="job_not_finished",
            )
        if state is not JobState.COMPLETED:
            raise NotFound(
                f"job {job.name!r} ended {state} and left no output; `batchpoint job show` tells "
                "why",
                code="output_not_found",
            )
        if job.status.reused_from is not None:
            raise NotFound(
                f"job {job.name!r} took over the outputs of {job.status.reused_from!r} and has "
                "scored nothing itself; ask for that one",
                code="output_not_found",
            )
        uri = job.status.output_uri or job.scoring.output.uri
        access = self._access_for([uri])
        folder = local_path_of(uri, access)
        if folder is None:
            # Only results in object stores pay for their client.
            from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

            return RemoteResults(job, uri, ObjectLocations(access).at(uri))
        if not folder.is_dir():
            raise NotFound(
                f"the output of job {job.name!r} is no longer at {folder}; it was moved or deleted",
                code="output_not_found",
            )
        return folder

    def failed_items(self, job: Job) -> Iterator[bytes]:
        """Yield the failed items of a completed job, JSON lines in chunks of any size.

        Raises: as `list_results`.
        """
        results = self.results(job)
        if isinstance(results, RemoteResults):
            return results.file(FAILED_ITEMS).chunks()
        path = results / FAILED_ITEMS
        return read_from(path, 0) if path.is_file() else iter(())


def read_from(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `offset` to the end that it has now.

    The file is opened before this returns. Raises: Unavailable (`storage_unavailable`).
    """
    try:
        file = path.open("rb")
        file.seek(offset)
    except OSError as error:
        raise storage_error(error, path) from error

    def chunks() -> Iterator[bytes]:
        with file:
            yield b""
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    begun = chunks()
    next(begun)  # from here on the file is closed with the iterator, also if nobody reads it
    return begun


def files_below(root: Path, limit: int, after: str | None) -> list[StoredFile]:
    """List the regular files below a folder in the order of their paths; of a file, itself."""
    if root.is_file():
        root, only = root.parent, root.name
        names: Iterable[str] = (only,)
    else:
        names = _names(root, "")
    found = (name for name in names if after is None or name > after)
    files: list[StoredFile] = []
    for name in islice(found, limit):
        try:
            state = (root / name).stat()
        except FileNotFoundError:
            continue
        files.append(
            StoredFile(
                path=name,
                size=state.st_size,
                modified_at=datetime.fromtimestamp(state.st_mtime, UTC),
            )
        )
    return files


def _names(root: Path, below: str) -> Iterator[str]:
    """Yield paths of regular files in order of the whole path, a folder at a time in memory."""
    try:
        entries = sorted(
            (entry.name + "/" if stat.S_ISDIR(entry.lstat().st_mode) else entry.name)
            for entry in (root / below).iterdir()
        )
    except FileNotFoundError:
        return
    for name in entries:
        if name.endswith("/"):
            yield from _names(root, below + name)
        elif (root / below / name).is_file() and not (root / below / name).is_symlink():
            yield below + name


def file_inside(root: Path, path: str, otherwise: str) -> Path:
    """Return a regular file below `root`. Raises: NotFound (`output_not_found`)."""
    missing = NotFound(f"{otherwise} {path!r}", code="output_not_found")
    return checked_inside(root, path, missing)


def checked_inside(root: Path, path: str, missing: BatchpointError) -> Path:
    """Return a regular file below `root`; anything else, links outside included, is missing."""
    if "\0" in path or len(path) > limits.TREE_PATH_BYTES_MAX:
        raise missing
    try:
        place = (root / path).resolve(strict=True)
        if place.is_relative_to(root.resolve(strict=True)) and place.is_file():
            return place
    except (OSError, RuntimeError):
        pass
    raise missing
