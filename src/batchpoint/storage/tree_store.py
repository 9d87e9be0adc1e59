"""The store of uploaded trees: complete under the hash of their content, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.upload import PREFIX, TreeEntry, TreeManifest, UploadStatus, tree_path
from batchpoint.formats.durable import storage_error, sync_folder, write_durably, write_fully
from batchpoint.storage.tree_scan import scan_tree

_CHUNK_BYTES = 1 << 20


class TreeStore:
    """Trees under one folder: `HASH/NAME/…` once complete, `incoming/HASH` while they come.

    A stored tree is never changed. Everything may be done again and by several processes at once:
    the last step is one rename, and whoever comes second finds the same tree there.
    Raises: Unavailable (`storage_full`, `storage_unavailable`).
    """

    def __init__(self, root: Path) -> None:
        """Keep trees below `root`, which is made when it is first needed."""
        self._root = root
        self._incoming = root / "incoming"
        # Files of one tree come one after the other; its manifest is read once for all of them.
        self._announced: tuple[str, dict[str, TreeEntry]] = ("", {})

    @property
    def incoming(self) -> Path:
        """A folder for what is on its way into the store; what is left there is swept."""
        return self._incoming

    def begin(self, manifest: TreeManifest) -> UploadStatus:
        """Take in what a tree consists of, and tell which of its files are still missing."""
        tree = manifest.hash
        if not self._has(tree):
            folder = self._incoming / tree
            self._make(folder)
            write_durably(folder / "manifest.json", [manifest.model_dump_json().encode()])
        return self._status(manifest)

    def status(self, tree: str) -> UploadStatus:
        """Tell which files of a tree that was begun are missing.

        Raises: NotFound (`upload_not_found`).
        """
        if self._has(tree):
            return UploadStatus(hash=tree, reference=self._reference(tree), complete=True)
        return self._status(self._manifest(tree))

    def put_file(self, tree: str, path: str, chunks: Iterable[bytes], *, unique: str) -> None:
        """Take in one file of a tree that was begun; `unique` keeps two senders apart.

        Nothing is taken in where the tree is complete: it has the file, or it was not announced.
        Raises: NotFound (`upload_not_found`); Invalid (`upload_corrupt`) when the bytes are not
        those that were announced.
        """
        if self._has(tree):
            if not _holds(self._root / tree, path):
                raise _no_such_file(tree, path)
            return
        entry = self._entry(tree, path)
        arriving = self._incoming / tree / f"arriving-{unique}"
        try:
            _write_checked(arriving, chunks, entry)
            arriving.chmod(0o755 if entry.executable else 0o644)
            target = self._incoming / tree / "tree" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            arriving.replace(target)
        except FileNotFoundError:
            # Another sender of the same tree was faster, and its commit took the folder away.
            if not self._has(tree):
                raise _no_such_upload(tree) from None
        except OSError as error:
            raise storage_error(error, arriving, entry.size) from error
        finally:
            with contextlib.suppress(OSError):
                arriving.unlink()

    def commit(self, tree: str) -> UploadStatus:
        """Make a tree whose files have all come available, durably.

        Raises: NotFound (`upload_not_found`); Conflict (`conflict`) naming a missing file.
        """
        if self._has(tree):
            return UploadStatus(hash=tree, reference=self._reference(tree), complete=True)
        manifest = self._manifest(tree)
        status = self._status(manifest)
        if status.missing:
            raise Conflict(
                f"the upload is not complete: {len(status.missing):,} of "
                f"{len(manifest.entries):,} files are missing, the first is "
                f"{status.missing[0]!r}; send them, then commit again"
            )
        self._publish(self._incoming / tree / "tree", tree)
        shutil.rmtree(self._incoming / tree, ignore_errors=True)
        return status.model_copy(update={"complete": True})

    def add_local(self, path: Path, *, unique: str) -> UploadStatus:
        """Copy a file or folder of this machine into the store, unless it is there already.

        Raises: Invalid as `scan_tree`, and `upload_corrupt` when a file changes meanwhile.
        """
        scanned = scan_tree(path)
        manifest, tree = scanned.manifest, scanned.manifest.hash
        if not self._has(tree):
            copy = self._incoming / f"copy-{unique}"
            try:
                for entry in manifest.entries:
                    target = copy / entry.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with scanned.files[entry.path].open("rb") as source:
                        chunks = iter(lambda: source.read(_CHUNK_BYTES), b"")
                        _write_checked(target, chunks, entry)
                    target.chmod(0o755 if entry.executable else 0o644)
                self._publish(copy, tree)
            except OSError as error:
                size = sum(entry.size for entry in manifest.entries)
                raise storage_error(error, self._root, size) from error
            finally:
                shutil.rmtree(copy, ignore_errors=True)
        return UploadStatus(hash=tree, reference=manifest.reference, complete=True)

    def sweep(self, before: float) -> None:
        """Delete uploads and copies that were begun before a time (seconds since 1970) and left."""
        with contextlib.suppress(FileNotFoundError):
            for left in list(self._incoming.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    if left.stat().st_mtime < before:
                        shutil.rmtree(left, ignore_errors=True)

    def open_tree(self, reference: str, *, where: str | None = None) -> tuple[Path, str]:
        """Return the path and the hash of what `upload:HASH/NAME` or `upload:HASH` refers to.

        Raises: Invalid (`reference_invalid`); NotFound (`upload_not_found`).
        """
        tree, _, name = reference.removeprefix(PREFIX).partition("/")
        if not reference.startswith(PREFIX) or not _is_hash(tree):
            raise Invalid(
                f"{reference!r} is not an upload: expected upload:HASH/NAME",
                code="reference_invalid",
                where=where,
            )
        if not self._has(tree):
            raise _no_such_upload(tree)
        root = self._reference(tree).partition("/")[2]
        if name not in ("", root):
            raise Invalid(
                f"the upload {tree} holds {root!r}, not {name!r}",
                code="reference_invalid",
                where=where,
            )
        return self._root / tree / root, tree

    def _reference(self, tree: str) -> str:
        (root,) = os.listdir(self._root / tree)  # noqa: PTH208  # a name, not a path
        return f"{PREFIX}{tree}/{root}"

    def _has(self, tree: str) -> bool:
        return _is_hash(tree) and (self._root / tree).is_dir()

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error

    def _manifest(self, tree: str) -> TreeManifest:
        if not _is_hash(tree):
            raise _no_such_upload(tree)
        try:
            text = (self._incoming / tree / "manifest.json").read_bytes()
            return TreeManifest.model_validate_json(text)
        except (FileNotFoundError, ValidationError):
            raise _no_such_upload(tree) from None

    def _entry(self, tree: str, path: str) -> TreeEntry:
        known, entries = self._announced
        if known != tree or path not in entries:
            entries = {entry.path: entry for entry in self._manifest(tree).entries}
            self._announced = (tree, entries)
        if path in entries:
            return entries[path]
        raise _no_such_file(tree, path)

    def _status(self, manifest: TreeManifest) -> UploadStatus:
        tree = manifest.hash
        if self._has(tree):
            return UploadStatus(hash=tree, reference=manifest.reference, complete=True)
        here = self._incoming / tree / "tree"
        missing = tuple(
            entry.path for entry in manifest.entries if not (here / entry.path).is_file()
        )
        return UploadStatus(
            hash=tree, reference=manifest.reference, complete=False, missing=missing
        )

    def _publish(self, folder: Path, tree: str) -> None:
        try:
            for below, _, _ in os.walk(folder, topdown=False):
                sync_folder(Path(below))
            folder.rename(self._root / tree)
            sync_folder(self._root)
        except OSError as error:
            # Somebody else published the same content a moment ago.
            if not self._has(tree):
                raise storage_error(error, self._root) from error


def _write_checked(target: Path, chunks: Iterable[bytes], entry: TreeEntry) -> None:
    """Write a file and flush it; raises OSError, and Invalid when it is not what was announced."""
    digest = hashlib.sha256()
    size = 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        for chunk in chunks:
            size += len(chunk)
            if size > entry.size:
                break
            digest.update(chunk)
            write_fully(fd, chunk)
        os.fsync(fd)
    finally:
        os.close(fd)
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise Invalid(
            f"{entry.path!r} is not what was announced ({entry.size:,} bytes with another "
            "checksum); it changed or was damaged on its way: upload it again",
            code="upload_corrupt",
        )


def _is_hash(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)


def _holds(folder: Path, path: str) -> bool:
    try:
        return (folder / tree_path(path)).is_file()
    except Invalid:
        return False


def _no_such_file(tree: str, path: str) -> NotFound:
    return NotFound(f"the upload {tree} announced no file {path[:200]!r}", code="upload_not_found")


def _no_such_upload(tree: str) -> NotFound:
    return NotFound(
        f"there is no upload {tree[:80]!r}; upload the files first", code="upload_not_found"
    )
