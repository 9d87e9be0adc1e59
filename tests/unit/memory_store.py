"""A store in memory, with a valve: tests hold requests back, and make them fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.storage.store import Found, Location

SCHEME = "memory://"


def etag_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


class MemoryStore:
    """A `Store`; `before` is called with the name and the key of every request and may raise."""

    def __init__(self, objects: dict[str, bytes] | None = None, *, page: int = 3) -> None:
        self.objects = objects or {}
        self.before: Callable[[str, str], None] = lambda _, __: None
        self.asked: list[tuple[str, str]] = []
        self.pages = 0
        self._page = page
        self._lock = threading.Lock()

    url = SCHEME + "box"

    def _ask(self, what: str, path: str) -> None:
        with self._lock:
            self.asked.append((what, path))
        self.before(what, path)

    def _found(self, path: str) -> Found:
        return Found(path, len(self.objects[path]), etag_of(self.objects[path]))

    def find(self, path: str) -> Found | None:
        self._ask("find", path)
        return self._found(path) if path in self.objects else None

    def list(self, prefix: str, *, ordered: bool = True) -> Iterator[list[Found]]:
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        for at in range(0, len(keys), self._page):
            self._ask("list", keys[at])
            self.pages += 1
            yield [self._found(key) for key in keys[at : at + self._page]]

    def stream(
        self, path: str, *, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        self._ask("stream", path)
        body = self._body(path, etag)[start:stop]
        for at in range(0, len(body), 7):  # chunks that end anywhere
            yield body[at : at + 7]

    def fetch(self, found: Found, target: Path) -> None:
        self._ask("fetch", found.path)
        body = self._body(found.path, found.etag)
        if len(body) != found.size:
            raise Invalid(f"{found.path} has changed", code="input_changed")
        with target.open("xb") as file:
            file.write(body)

    def _body(self, path: str, etag: str) -> bytes:
        if path not in self.objects:
            raise Invalid(f"{path} is not there", code="input_unreadable")
        if etag and etag != etag_of(self.objects[path]):
            raise Invalid(f"{path} has changed", code="input_changed")
        return self.objects[path]

    def put(self, path: str, body: bytes, *, create: bool = False) -> bool:
        if create and self.objects.get(path, body) != body:
            return False
        self.objects[path] = body
        return True

    def put_file(self, source: Path, path: str) -> None:
        self.objects[path] = source.read_bytes()

    def delete(self, path: str) -> None:
        self.objects.pop(path, None)


class MemoryLocations:
    """Finds every `memory://box/KEY` in one store."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def at(self, uri: str) -> Location:
        assert uri.startswith(self.store.url), uri
        return Location(self.store, uri.removeprefix(self.store.url).strip("/"))


def does_not_answer(key: str) -> Unavailable:
    return Unavailable(f"{key} cannot be read now", code="storage_unavailable")
