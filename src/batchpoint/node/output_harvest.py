"""Files that scripts wrote into their output folder, joined and ready to be published."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from batchpoint.domain.errors import JobFailed
from batchpoint.domain.minibatch import Task
from batchpoint.formats.documents import readable
from batchpoint.formats.durable import damaged, sync_folder
from batchpoint.formats.layout import INIT_SUFFIX, JobFolder
from batchpoint.formats.receipt import ReceiptFile
from batchpoint.node.output_frames import OutputFrames
from batchpoint.node.output_publish_local import NO_LINKS
from batchpoint.node.output_sources import SourceFinder
from batchpoint.node.output_writing import OutputFile, Step

JOINED = frozenset({".txt", ".csv", ".tsv", ".jsonl", ".log"})
HEADED = frozenset({".csv", ".tsv"})

_CHUNK_BYTES = 4 << 20


class Source(NamedTuple):
    """One harvested file: where it lies, and the task it came from (None: from `init`)."""

    path: Path
    size: int
    task: Task | None


class HarvestedFiles:
    """All files of an output by their name, each with its sources in input order."""

    def __init__(self, folder: JobFolder, frames: OutputFrames) -> None:
        """Find the files of all frames, and those that `init` wrote, which count once.

        Raises:
            JobFailed: a name leaves the output folder (`job_failed`), or two mini-batches wrote one
                file that cannot be joined (`output_files_clash`).
        """
        self.sources: dict[str, list[Source]] = {}
        self._finder = SourceFinder(folder)
        self._root = folder.files
        for name, source in self._of_frames(frames):
            self.sources.setdefault(name, []).append(source)
        for name, source in self._of_init():
            if name not in self.sources:
                self.sources[name] = [source]
        self._refuse_clashes()

    def _of_frames(self, frames: OutputFrames) -> Iterator[tuple[str, Source]]:
        if not any(table.files for table in frames.tables):
            return
        for part, ordinal in frames.places():
            harvested = frames.tables[part].files.get(ordinal)
            if harvested is None:
                continue
            folder = self._root / _inside(harvested.folder)
            task = frames.tables[part].task(ordinal)
            for name, size in harvested.files:
                yield readable(name), Source(folder / _inside(name), size, task)

    def _of_init(self) -> Iterator[tuple[str, Source]]:
        for folder in sorted(self._root.glob(f"*{INIT_SUFFIX}")):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    name = path.relative_to(folder).as_posix()
                    yield readable(name), Source(path, path.stat().st_size, None)

    def _refuse_clashes(self) -> None:
        for name, sources in self.sources.items():
            if len(sources) > 1 and PurePosixPath(name).suffix.lower() not in JOINED:
                one, other = self._who(sources[0]), self._who(sources[1])
                raise JobFailed(
                    f"{one} and {other} both wrote {name} into the output folder; give it a name "
                    "of its own in each (only .txt, .csv, .tsv, .jsonl and .log files are joined)",
                    code="output_files_clash",
                )
            for parent in PurePosixPath(name).parents:
                if parent.as_posix() in self.sources:
                    one = self._who(self.sources[parent.as_posix()][0])
                    raise JobFailed(
                        f"{one} wrote the file {parent} into the output folder and "
                        f"{self._who(sources[0])} a folder of the same name; rename one of them",
                        code="output_files_clash",
                    )

    def refuse(self, names: set[str]) -> None:
        """Raise JobFailed (`output_files_clash`) when a file has the name of one of ours."""
        for name in sorted(names):
            if name in self.sources:
                raise JobFailed(
                    f"{self._who(self.sources[name][0])} wrote {name} into the output folder, "
                    "which is the name of a file that batchpoint writes itself; rename yours",
                    code="output_files_clash",
                )

    def _who(self, source: Source) -> str:
        return "init()" if source.task is None else self._finder.describe(source.task)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(source.size for sources in self.sources.values() for source in sources)

    def write(self, target: Path, step: Step) -> list[ReceiptFile]:
        """Write all files below `target`, in the order of their names.

        Raises:
            OSError: a file cannot be read or written.
            Unavailable: `storage_unavailable`, a file is not what was harvested.
        """
        written: list[ReceiptFile] = []
        folders = {target}
        for name in sorted(self.sources):
            step(f"file:{name}")
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(path.parent)
            sources = self.sources[name]
            if len(sources) == 1 and (entry := _linked(sources[0], path, name)) is not None:
                written.append(entry)
                continue
            with OutputFile(path, step) as out:
                _join(out, sources, headed=path.suffix.lower() in HEADED)
                written.append(out.finish(name))
        for folder in sorted(folders, reverse=True):
            sync_folder(folder)
        return written


def _inside(name: str) -> PurePosixPath:
    """Return a relative path that stays where it is put; raises JobFailed."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or "\0" in name or any(p in ("..", ".") for p in path.parts):
        raise JobFailed(f"a script wrote the file {name!r}, which leaves its output folder")
    return path


def _linked(source: Source, path: Path, name: str) -> ReceiptFile | None:
    """Give a lone file its second name instead of copying it; None where links are not possible."""
    digest = hashlib.sha256()
    for chunk in _chunks(source):
        digest.update(chunk)
    try:
        os.link(source.path, path, follow_symlinks=False)
    except OSError as error:
        if error.errno in NO_LINKS:
            return None
        raise
    return ReceiptFile(path=name, size=source.size, sha256=digest.hexdigest())


def _join(out: OutputFile, sources: list[Source], *, headed: bool) -> None:
    """Append sources; lines stay lines, and a first line that all share is kept once."""
    header: bytes | None = None
    ended = True
    for source in sources:
        begun = False
        for number, chunk in enumerate(_chunks(source)):
            piece = chunk
            if headed and number == 0:
                line = _first_line(chunk)
                if header is None:
                    header = line
                elif line == header:
                    piece = chunk[len(line) + 1 :]
            if not piece:
                continue
            if not begun and not ended:
                out.write(b"\n")
            out.write(piece)
            begun, ended = True, piece.endswith(b"\n")


def _first_line(chunk: bytes) -> bytes:
    return chunk.partition(b"\n")[0]


def _chunks(source: Source) -> Iterator[bytes]:
    fd = os.open(source.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size != source.size:
            raise damaged(source.path, "its size is not the one it was harvested with")
        while chunk := os.read(fd, _CHUNK_BYTES):
            yield chunk
        # Nobody has made it durable yet: user code wrote it.
        os.fsync(fd)
    finally:
        os.close(fd)
