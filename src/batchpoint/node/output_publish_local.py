"""Puts finished files into a local folder: all of them or none, whenever the process dies.

Files are written into a folder of their own first. When the target does not exist yet (or is an
empty folder) that folder becomes the target by one rename. When the target holds other files, each
file is linked into it without ever replacing one, the receipt last; a process that dies in between
is caught up with by the next try, which finds the finished folder still there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from batchpoint.domain.errors import BatchpointError, Conflict
from batchpoint.formats.durable import sync_folder
from batchpoint.formats.layout import RECEIPT
from batchpoint.formats.receipt import Receipt, decode
from batchpoint.node.output_writing import Step

# What file systems without hard links say.
NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV}
)
_NOT_EMPTY = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.EBUSY, errno.ENOTDIR, errno.EXDEV})


def read_receipt(folder: Path) -> Receipt | None:
    """Return the receipt in a folder; None when there is none, or something else of its name."""
    try:
        return decode((folder / RECEIPT).read_bytes())
    except (OSError, ValueError):
        return None


class LocalPublication:
    """The way of one job's files into a folder of this machine; a `Publication`."""

    def __init__(self, target: Path, job: str, step: Step) -> None:
        """Publish into the folder `target`; names of temporary folders follow from the job."""
        self.target = target
        self.place = target
        self._step = step
        self._beside = target.with_name(f".{target.name}.{job}.partial")
        self._inside = target / f".{job}.partial"

    def caught_up(self, assembly: str) -> Receipt | None:
        """Finish what an earlier try of the same assembly has begun to publish.

        Returns:
            The receipt when the output is published now, None when it must be written.

        Raises:
            Conflict: somebody else's file is in the way (`output_exists`).
            OSError: the folder cannot be read or written.
        """
        published = read_receipt(self.target)
        if published is not None and published.assembly == assembly and self._whole(published):
            self._clean()
            return published
        finished = read_receipt(self._inside)
        if finished is not None and finished.assembly == assembly:
            self._link_all(finished)
            self._clean()
            return finished
        self._clean()
        return None

    def _whole(self, receipt: Receipt) -> bool:
        for file in receipt.files:
            try:
                if (self.target / file.path).stat().st_size != file.size:
                    return False
            except OSError:
                return False
        return True

    def refuse_existing(self, names: set[str]) -> None:
        """Raise Conflict (`output_exists`) when the target has a file of one of these names."""
        for name in sorted(names):
            if os.path.lexists(self.target / name):
                raise _exists(self.target / name)

    def pause(self) -> None:
        """Remove everything that is half done: the next try begins anew; raises OSError."""
        self._clean()

    def withdraw(self) -> None:
        """Remove what a try that was killed has placed already, and all that is half done.

        Raises: OSError.
        """
        begun = read_receipt(self._inside)
        for name in (RECEIPT, *(file.path for file in begun.files)) if begun is not None else ():
            source, target = self._inside / name, self.target / name
            # A source that is gone was moved, where links are not possible.
            if target.exists() and (not source.exists() or source.samefile(target)):
                target.unlink()
                for folder in target.relative_to(self.target).parents[:-1]:
                    with contextlib.suppress(OSError):  # other files are in it
                        (self.target / folder).rmdir()
        self._clean()

    def _clean(self) -> None:
        """Remove temporary folders of the job, if there are any; raises OSError."""
        for folder in (self._beside, self._inside):
            if os.path.lexists(folder):
                shutil.rmtree(folder)

    def begin(self) -> Path:
        """Make the temporary folder and return it; raises OSError."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        beside = not self.target.exists() or self._replaceable()
        folder = self._beside if beside else self._inside
        folder.mkdir()
        return folder

    def _replaceable(self) -> bool:
        """Whether a rename may put a folder in place of the target: it is empty and just a folder.

        A mount point, a link or a folder of another owner stays what it is.
        """
        if self.target.is_symlink() or not os.access(self.target.parent, os.W_OK):
            return False
        here, parent = self.target.stat(), self.target.parent.stat()
        same = (here.st_dev, here.st_uid, here.st_gid) == (
            parent.st_dev,
            os.geteuid(),
            os.getegid(),
        )
        return same and not any(self.target.iterdir())

    def publish(self, receipt: Receipt) -> None:
        """Make the finished temporary folder the output.

        Raises:
            Conflict: somebody else's file is in the way (`output_exists`); nothing is published.
            OSError: the folder cannot be written.
        """
        if self._beside.exists():
            if self.target.exists():
                self._beside.chmod(self.target.stat().st_mode & 0o7777)
            self._step("rename")
            try:
                self._beside.rename(self.target)
                sync_folder(self.target.parent)
                return
            except OSError as error:
                if error.errno not in _NOT_EMPTY:
                    raise
                # Somebody has put a file there in the meantime.
                self.refuse_existing({file.path for file in receipt.files} | {RECEIPT})
                self._beside.rename(self._inside)
        self._link_all(receipt)
        self._step("published")
        self._clean()

    def _link_all(self, receipt: Receipt) -> None:
        """Link each file of the finished folder into the target, the receipt last."""
        placed: list[Path] = []
        made: list[Path] = []
        try:
            for name in (*(file.path for file in receipt.files), RECEIPT):
                self._step(f"link:{name}")
                made += _make_folders(self.target, (self.target / name).parent)
                if self._place(name):
                    placed.append(self.target / name)
        except (BatchpointError, OSError):
            self._take_back(placed, made)
            raise
        for folder in {(self.target / file.path).parent for file in receipt.files}:
            sync_folder(folder)
        sync_folder(self.target)

    def _place(self, name: str) -> bool:
        """Link or move one file; False when an earlier try has done it."""
        source, target = self._inside / name, self.target / name
        if not source.exists() and target.exists():
            return True  # moved by an earlier try
        try:
            os.link(source, target)
            return True
        except FileExistsError:
            if source.samefile(target):
                return True  # linked by an earlier try
            raise _exists(target) from None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        if os.path.lexists(target):
            raise _exists(target)
        source.rename(target)
        return True

    def _take_back(self, placed: list[Path], made: list[Path]) -> None:
        """Remove what was published before a foreign file was in the way or the disk failed."""
        for path in placed:
            path.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # somebody else's file is in it by now
                folder.rmdir()


def _make_folders(root: Path, folder: Path) -> list[Path]:
    """Make the folders from `root` down to `folder` that are missing and return them."""
    missing = [folder, *folder.parents]
    wanted: Iterator[Path] = reversed(missing[: missing.index(root)])
    made: list[Path] = []
    for path in wanted:
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            made.append(path)
    return made


def _exists(path: Path) -> Conflict:
    return Conflict(
        f"{path} exists already and was left as it is; choose another output folder, or remove the "
        "file and run the job again",
        code="output_exists",
    )
