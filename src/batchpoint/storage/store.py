"""What all stores can do: a container of objects under paths, blocking, safe to share by threads.

Paths are the store's keys as they are: `/` between names, no leading `/`, nothing percent-encoded.
Every method retries what may pass by itself (5xx, throttling, a lost connection) within the bounds
of `domain/limits.py`, and raises `Unavailable` (`storage_unavailable`) when that did not help,
`Invalid` (`storage_denied`) when the credentials do not allow it. Messages name the URL and hold no
secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol


class Found(NamedTuple):
    """An object: its key, its size in bytes, and a name for its very content (may be empty)."""

    path: str
    size: int
    etag: str


class Store(Protocol):
    """A container of objects. Implemented for object stores and for local folders."""

    @property
    def url(self) -> str:
        """Where the container is, for people; without credentials."""
        ...

    def find(self, path: str) -> Found | None:
        """Look at one object; None when there is none."""
        ...

    def list(self, prefix: str, *, ordered: bool = True) -> Iterator[list[Found]]:
        """Yield everything below a folder in UTF-8 order of the keys, page by page, lazily.

        Args:
            prefix: empty for the whole container, else a folder's key with a final `/`.
            ordered: False: any order will do, also that of a server which has one of its own, and
                the first page comes at once.
        """
        ...

    def stream(
        self, path: str, *, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        """Yield the bytes `start` to `stop` (None: the end) of an object in order.

        Raises:
            Invalid: it is gone (`input_unreadable`), or no longer has `etag` (`input_changed`).
        """
        ...

    def fetch(self, found: Found, target: Path) -> None:
        """Write a whole object into a new local file; a big one by several ranges at a time.

        Raises:
            Invalid: as `stream`; also when it no longer has the size that was found.
            OSError: the file cannot be written.
        """
        ...

    def put(self, path: str, body: bytes, *, create: bool = False) -> bool:
        """Write a small object; with `create`, False when there is one with other content.

        A lost reply is told from a conflict by reading back: True means that `body` is there.
        """
        ...

    def put_file(self, source: Path, path: str) -> None:
        """Write an object from a local file, in parts when it is big; it appears when complete.

        Raises:
            OSError: the file cannot be read.
        """
        ...

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is fine."""
        ...


class Location(NamedTuple):
    """A place in a store; `path` is a key, or a folder's key without final `/` ("": the top)."""

    store: Store
    path: str
