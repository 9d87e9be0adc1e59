"""A store in memory with a valve: tests hold requests back, make them fail, and have it lie."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.storage.store import Found, Location

PAGE = 3
CHUNK_BYTES_MIN = 7  # so that chunks end anywhere
CHUNKS_MAX = 64


def etag_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


class MemoryStore:
    """A `Store`; `before` and `after` are called with (operation, key) and may raise.

    `lies`: it ignores conditional writes. `asked` keeps all requests, `pages` counts the pages of
    lists.
    """

    url = "memory://box"

    def __init__(
        self, objects: dict[str, bytes] | None = None, *, page: int = PAGE, lies: bool = False
    ) -> None:
        self.objects = {} if objects is None else objects
        self.lies = lies
        self.asked: list[tuple[str, str]] = []
        self.pages = 0
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self.after: Callable[[str, str], None] = lambda operation, key: None
        self._page = page
        self._lock = threading.RLock()

    def find(self, path: str) -> Found | None:
        self._ask("find", path)
        with self._lock:
            return self._found(path) if path in self.objects else None

    def list(self, prefix: str, *, ordered: bool = True) -> Iterator[list[Found]]:
        self._ask("list", prefix)
        with self._lock:
            found = [self._found(key) for key in sorted(self.objects) if key.startswith(prefix)]
        for start in range(0, len(found), self._page):
            if start:
                self._ask("list", found[start].path)
            self.pages += 1
            yield found[start : start + self._page]

    def stream(
        self, path: str, *, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        self._ask("stream", path)
        body = self._body(path, etag)[start:stop]
        step = max(CHUNK_BYTES_MIN, len(body) // CHUNKS_MAX)
        for at in range(0, len(body), step):
            yield body[at : at + step]

    def fetch(self, found: Found, target: Path) -> None:
        self._ask("fetch", found.path)
        body = self._body(found.path, found.etag)
        if len(body) != found.size:
            raise Invalid(f"{found.path} has changed", code="input_changed")
        with target.open("xb") as file:
            file.write(body)

    def put(self, path: str, body: bytes, *, create: bool = False) -> bool:
        self._ask("put", path)
        with self._lock:
            if create and not self.lies and self.objects.get(path, body) != body:
                return False
            self.objects[path] = body
        self.after("put", path)
        return True

    def put_file(self, source: Path, path: str) -> None:
        self._ask("put_file", path)
        with self._lock:
            self.objects[path] = source.read_bytes()
        self.after("put_file", path)

    def delete(self, path: str) -> None:
        self._ask("delete", path)
        with self._lock:
            self.objects.pop(path, None)
        self.after("delete", path)

    def _ask(self, operation: str, path: str) -> None:
        with self._lock:
            self.asked.append((operation, path))
        self.before(operation, path)  # it may block, so that others must be able to ask meanwhile

    def _body(self, path: str, etag: str) -> bytes:
        with self._lock:
            if path not in self.objects:
                raise Invalid(f"{path} is not there", code="input_unreadable")
            body = self.objects[path]
        if etag and etag != etag_of(body):
            raise Invalid(f"{path} has changed", code="input_changed")
        return body

    def _found(self, path: str) -> Found:
        return Found(path, len(self.objects[path]), etag_of(self.objects[path]))


class MemoryLocations:
    """Finds every `memory://box/KEY` in one store."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def at(self, uri: str) -> Location:
        assert uri.startswith(self.store.url), uri
        return Location(self.store, uri.removeprefix(self.store.url).strip("/"))


def does_not_answer(key: str) -> Unavailable:
    return Unavailable(f"{key} cannot be read now", code="storage_unavailable")
