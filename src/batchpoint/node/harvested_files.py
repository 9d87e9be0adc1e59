"""Files that scripts wrote into their output folder: made durable before a part names them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from batchpoint.formats.durable import storage_error, sync_folder

# Text that a script began in init() and went on with in run() stays one file.
_PROBE_BYTES = 256 * 1024
_APPENDABLE = {".txt", ".csv", ".tsv", ".jsonl", ".log"}


def settle(folders: Iterable[Path]) -> None:
    """Flush folders and all that is in them to the disk.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    parents: set[Path] = set()
    for folder in folders:
        try:
            _sync_tree(folder)
        except OSError as error:
            raise storage_error(error, folder) from error
        parents.add(folder.parent)
    for parent in parents:
        try:
            sync_folder(parent)
        except OSError as error:
            raise storage_error(error, parent) from error


def _sync_tree(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            fd = os.open(Path(folder) / name, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_folder(Path(folder))


def with_init_files(
    init: Path, init_files: Sequence[tuple[str, int]], place: Path, files: Sequence[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Put what `init()` wrote beside what the job's first `run()` wrote, and list both.

    A text file that both wrote is one file, what `init()` wrote first; of another file what `run()`
    wrote stays. The files of `init()` are kept for the next job. Raises OSError.
    """
    listed = dict(files)
    for name, size in init_files:
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name not in listed:
            shutil.copyfile(init / name, target)
            listed[name] = size
        elif target.suffix.lower() in _APPENDABLE:
            joined = target.with_name(target.name + ".joined")
            with joined.open("wb") as out:
                for part in (init / name, target):
                    with part.open("rb") as source:
                        shutil.copyfileobj(source, out)
            joined.replace(target)
            listed[name] += size
    return sorted(listed.items())


def probe(path: Path) -> None:
    """See whether the disk takes bytes: write some, flush and remove them.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    try:
        with path.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path.parent) from error
    finally:
        path.unlink(missing_ok=True)
