"""An output of a command on this machine: written beside its place, and renamed to it at the end.

Nothing of somebody else is ever replaced. What is ours is told by its identity on the disk, which
is noted in the job's folder before the rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from batchpoint.domain.errors import Conflict, JobFailed
from batchpoint.domain.job_spec import StepOutput
from batchpoint.formats.command_record import CommandRecord, PlacedEntry
from batchpoint.formats.durable import sync_folder
from batchpoint.node.output_links import settle_links, sync_tree
from batchpoint.node.output_publish_local import NO_LINKS
from batchpoint.node.output_writing import Step

_TURNS_MAX = 100
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})


class LocalOutput:
    """The way of one output into its place on this machine; a `CommandOutput`."""

    def __init__(
        self, name: str, declared: StepOutput, target: Path, *, job: str, parent: str, step: Step
    ) -> None:
        """Write to `target`, a path of this machine; names of temporary folders follow from it.

        `job` is the step's, `parent` that of the pipeline: folders of their names hold outputs.
        """
        self.name = name
        self._type = declared.type
        self._is_file = declared.type == "uri_file"
        # A link stays where it is: the folder it leads to gets the output.
        self._target = target.resolve() if target.is_symlink() else target
        self._step = step
        self._beside = self._target.with_name(f".{self._target.name}.{job}.partial")
        self._inside = self._target / f".{job}.partial"
        self._folder = self._beside
        self._is_placed = False
        self._made: list[Path] = []  # folders above, the deepest first
        if not declared.named and self._target.parent.name in (job, parent):
            self._made.append(self._target.parent)
        self.bytes = 0

    @property
    def text(self) -> str:
        """The path that stands for the output in the command."""
        return str(self._written)

    @property
    def _written(self) -> Path:
        return self._folder / self._target.name

    # --- before the command ---------------------------------------------------------------------

    def take_back(self, record: CommandRecord) -> None:
        """Remove what earlier attempts have left: half done, or placed and told to nobody.

        Raises: OSError.
        """
        for entry in record.entries:
            path = Path(entry.path)
            if path in (self._target, self._target / path.name) and is_placed(entry):
                _remove(path)
        for folder in (self._beside, self._inside):
            if os.path.lexists(folder):
                shutil.rmtree(folder)
        for above in (*self._made, *map(Path, record.folders)):
            if above in self._target.parents:
                with contextlib.suppress(OSError):  # it holds something
                    above.rmdir()

    def prepare(self) -> None:
        """Make the folder into which the command writes, empty.

        Raises:
            Conflict: something is in the place of the output (`output_exists`).
            OSError: the disk.
        """
        self._refuse_existing()
        for turn in range(_TURNS_MAX):
            self._make_parents()
            replaceable = not os.path.lexists(self._target) or self._replaceable()
            self._folder = self._beside if replaceable else self._inside
            try:
                self._folder.mkdir()
                break
            except FileNotFoundError:
                # Another output has just been taken back, and the folder above with it.
                if turn == _TURNS_MAX - 1:
                    raise
        if not self._is_file:
            self._written.mkdir()

    def _make_parents(self) -> None:
        parent = self._target.parent
        missing = [each for each in (parent, *parent.parents) if not os.path.lexists(each)]
        parent.mkdir(parents=True, exist_ok=True)
        self._made = list(dict.fromkeys([*missing, *self._made]))

    def _refuse_existing(self) -> None:
        target = self._target
        if os.path.lexists(target) and (
            self._is_file or not target.is_dir() or any(target.iterdir())
        ):
            raise self._exists(target)

    def _replaceable(self) -> bool:
        """Whether a rename may put a folder in place of the target: it is just an empty folder."""
        if not os.access(self._target.parent, os.W_OK):
            return False
        here, parent = self._target.stat(), self._target.parent.stat()
        ours = (parent.st_dev, os.geteuid(), os.getegid())
        return (here.st_dev, here.st_uid, here.st_gid) == ours

    # --- after it -------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at what the command has left, and make it fit to be published.

        Raises:
            JobFailed: it has not left what the output is to be (`output_missing`).
            OSError: the disk.
        """
        written = self._written
        if not os.path.lexists(written):
            raise self._missing("was not written")
        settle_links(written, self.name)
        if self._is_file and not written.is_file():
            raise self._missing("is a folder, and is declared as uri_file")
        if not self._is_file and not written.is_dir() and self._type != "custom_model":
            raise self._missing(f"is a file, and is declared as {self._type}")

    def flush(self) -> None:
        """See `CommandOutput`."""
        self.bytes = sync_tree(self._written)

    def note(self, record: CommandRecord) -> None:
        """Note what will be placed where."""
        record.folders.extend(map(str, self._made))
        record.entries.extend(
            PlacedEntry(
                path=str(target),
                device=state.st_dev,
                inode=state.st_ino,
                modified=state.st_mtime_ns,
            )
            for source, target in self._moves()
            if (state := source.lstat())
        )

    def publish(self) -> None:
        """Make what was written the output.

        Raises:
            Conflict: somebody has put something into its place meanwhile (`output_exists`).
            OSError: the disk.
        """
        if not self._is_placed:
            if self._folder == self._beside and self._target.is_dir() and self._written.is_dir():
                self._written.chmod(self._target.stat().st_mode & 0o7777)
            for source, target in self._moves():
                self._step(f"place:{self.name}")
                self._place(source, target)
            self._is_placed = True
        self._step(f"placed:{self.name}")
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def settle(self) -> None:
        """See `CommandOutput`."""
        sync_folder(self._target.parent)
        if self._folder == self._inside:
            sync_folder(self._target)

    def is_there(self, record: CommandRecord) -> bool:
        """Whether all that was placed is still there."""
        ours = [
            entry
            for entry in record.entries
            if Path(entry.path) == self._target or Path(entry.path).parent == self._target
        ]
        return all(map(is_placed, ours)) and (bool(ours) or self._target.is_dir())

    def _moves(self) -> list[tuple[Path, Path]]:
        written = self._written
        if self._folder == self._beside:
            return [(written, self._target)]
        return [(each, self._target / each.name) for each in sorted(written.iterdir())]

    def _place(self, source: Path, target: Path) -> None:
        """Rename, unless something is there: a file would be replaced silently."""
        try:
            if source.is_dir() and not source.is_symlink():
                source.rename(target)
                return
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno in _TAKEN:
                raise self._exists(target) from None
            if error.errno not in NO_LINKS:
                raise
            if os.path.lexists(target):
                raise self._exists(target) from None
            source.rename(target)

    def _missing(self, what: str) -> JobFailed:
        return JobFailed(
            f"the command ended without an error, but output {self.name} {what}; write it to the "
            f"path that ${{{{outputs.{self.name}}}}} stands for",
            code="output_missing",
        )

    def _exists(self, path: Path) -> Conflict:
        return Conflict(
            f"{path} exists already and was left as it is; choose another place for output "
            f"{self.name}, or remove it and run the job again",
            code="output_exists",
        )


def is_placed(entry: PlacedEntry) -> bool:
    """Whether what lies at a place is the very thing that was put there, and as it was then."""
    try:
        state = Path(entry.path).lstat()
    except OSError:
        return False
    identity = (state.st_dev, state.st_ino, state.st_mtime_ns)
    return identity == (entry.device, entry.inode, entry.modified)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
