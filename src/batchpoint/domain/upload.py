"""Uploaded trees: the files of a model or code folder, named by the hash of all they contain."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import Flag, Noun, Whole

PREFIX = "upload:"


def tree_path(path: str) -> str:
    """Check a path inside a tree: relative, `/` between names, and safe on every machine.

    Raises: Invalid (`field_invalid`).
    """
    names = path.split("/")
    flaw = None
    if not path or len(path.encode("utf-8", "surrogatepass")) > limits.TREE_PATH_BYTES_MAX:
        flaw = f"has to have 1 to {limits.TREE_PATH_BYTES_MAX} bytes"
    elif any(name in ("", ".", "..") for name in names):
        flaw = "has to be relative, without empty names, '.' and '..'"
    elif "\\" in path or any(
        ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) <= 0xDFFF for letter in path
    ):
        flaw = "must not hold backslashes, control characters or broken Unicode"
    elif any(len(name.encode()) > limits.FILE_NAME_BYTES_MAX for name in names):
        flaw = f"must not hold a name of more than {limits.FILE_NAME_BYTES_MAX} bytes"
    if flaw is not None:
        raise Invalid(f"the path {path[:200]!r} {flaw}; rename the file", code="field_invalid")
    return path


class TreeEntry(Noun):
    """One regular file of a tree; folders are implied and links do not exist."""

    path: Annotated[str, AfterValidator(tree_path)]
    size: Whole = Field(ge=0, le=2**53)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    executable: Flag = False


class TreeManifest(Noun):
    """All files of a tree, sorted by path; they lie below one root: the folder's or file's name."""

    entries: tuple[TreeEntry, ...] = Field(min_length=1, max_length=limits.UPLOAD_FILES_MAX)

    @model_validator(mode="after")
    def _one_root_and_no_clash(self) -> Self:
        paths = [entry.path for entry in self.entries]
        if paths != sorted(paths):
            raise Invalid("the files of a tree have to be sorted by path", code="field_invalid")
        if len({path.split("/")[0] for path in paths}) != 1:
            raise Invalid("the files of a tree have to lie below one folder", code="field_invalid")
        # The same folder again is fine; anything else would meet on some disk.
        seen: dict[str, tuple[str, bool]] = {}
        for path in paths:
            names = path.split("/")
            for depth in range(1, len(names) + 1):
                place = ("/".join(names[:depth]), depth == len(names))
                other = seen.setdefault(_folded(place[0]), place)
                if other != place:
                    raise Invalid(
                        f"{path!r} and {other[0]!r} would be the same file on some machines; "
                        "rename one",
                        code="field_invalid",
                    )
        if len(set(paths)) != len(paths):
            raise Invalid("a file is named twice in the tree", code="field_invalid")
        return self

    @property
    def root(self) -> str:
        """The name of the folder (or of the one file) that the tree is."""
        return self.entries[0].path.split("/")[0]

    @property
    def hash(self) -> str:
        """The name of the tree's content: SHA-256 over all names, bytes and executable bits."""
        digest = hashlib.sha256(b"batchpoint tree 1\n")
        for entry in self.entries:
            mark = "x" if entry.executable else "-"
            digest.update(f"{entry.sha256} {entry.size} {mark} {entry.path}\0".encode())
        return digest.hexdigest()

    @property
    def reference(self) -> str:
        """How models and code configurations refer to the tree: `upload:HASH/NAME`."""
        return f"{PREFIX}{self.hash}/{self.root}"


class UploadStatus(Noun):
    """What the server holds of a tree: everything (`complete`), or which files are missing."""

    hash: str
    reference: str
    complete: bool
    missing: tuple[str, ...] = ()


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
