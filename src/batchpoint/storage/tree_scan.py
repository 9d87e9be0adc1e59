"""Reading a local file or folder as a tree: which files, how large, with which content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.upload import TreeEntry, TreeManifest, tree_path
from batchpoint.storage.ignore_rules import IgnoreRules, ignore_rules

LEFT_OUT = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store"})
"""Made by tools, not by people: never part of a tree, wherever they lie."""

_CHUNK_BYTES = 1 << 20


class ScannedTree(NamedTuple):
    """A tree and where its files lie on this machine."""

    manifest: TreeManifest
    files: dict[str, Path]


def scan_tree(path: Path, wanted: Callable[[str], bool] | None = None) -> ScannedTree:
    """Read every file of a folder (or the one file) and tell what the tree is.

    With `wanted` only the files whose path below the folder it accepts.
    Links are followed, so that the tree holds what they point at; what the folder's ignore file
    names (`batchpoint.storage.ignore_rules`) is left out. Raises: Invalid (`model_invalid`
    for a broken link, a device, a loop of links, an empty folder or too many files;
    `input_not_found` when there is nothing at `path`; `input_unreadable`; `field_invalid` for a
    name that other machines could not hold).
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  # the name counts, not where a link leads
    if not path.name:
        raise Invalid("the root folder cannot be uploaded; name a folder", code="model_invalid")
    files: dict[str, Path] = {}
    entries: list[TreeEntry] = []
    rules: IgnoreRules | None = None
    try:
        if path.is_dir():
            rules = ignore_rules(path)
        for name, found in _walk(path, path.name, rules, ()):
            below = name.partition("/")[2]
            if wanted is not None and below and not wanted(below):
                continue
            if len(files) >= limits.UPLOAD_FILES_MAX:
                raise Invalid(
                    f"holds more than {limits.UPLOAD_FILES_MAX:,} files; leave some out with a "
                    "file .amlignore in it, or point at data in a datastore instead",
                    code="model_invalid",
                    where=str(path),
                )
            files[name] = found
            entries.append(_entry(name, found))
    except FileNotFoundError as error:
        raise Invalid(
            f"there is no {error.filename}; give the path of a file or folder",
            code="input_not_found",
        ) from error
    except OSError as error:
        raise Invalid(
            f"{error.filename or path} cannot be read: {error.strerror}", code="input_unreadable"
        ) from error
    if not entries:
        why = (
            "holds no file that matches the pattern"
            if wanted
            else f"holds no files but those that {rules.name} leaves out"
            if rules
            else "is an empty folder"
        )
        raise Invalid(why, code="model_invalid", where=str(path))
    entries.sort(key=lambda entry: entry.path)
    return ScannedTree(TreeManifest(entries=tuple(entries)), files)


def _walk(
    place: Path, name: str, rules: IgnoreRules | None, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, Path]]:
    if rules is not None and above:
        below = name.partition("/")[2]
        if rules.leaves_out(below, is_folder=place.is_dir()):
            return
    if above and place.is_symlink() and not place.exists():
        raise Invalid("is a broken link; remove or repair it", code="model_invalid", where=name)
    state = place.stat()
    if stat.S_ISREG(state.st_mode):
        yield name, place
        return
    if not stat.S_ISDIR(state.st_mode):
        raise Invalid("is neither a file nor a folder; remove it", code="model_invalid", where=name)
    identity = (state.st_dev, state.st_ino)
    if identity in above:
        raise Invalid(
            "leads back to a folder above it; remove the link", code="model_invalid", where=name
        )
    for child in sorted(os.listdir(place)):  # noqa: PTH208  # names, not paths
        if child not in LEFT_OUT:
            yield from _walk(place / child, f"{name}/{child}", rules, (*above, identity))


def _entry(name: str, path: Path) -> TreeEntry:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        executable = bool(os.fstat(file.fileno()).st_mode & 0o100)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    # Checked before the model is built, so that the message is ours and not a list of findings.
    return TreeEntry(
        path=tree_path(name), size=size, sha256=digest.hexdigest(), executable=executable
    )
