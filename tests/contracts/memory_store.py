"""A store in memory: exact, or one that ignores conditional writes; it fails when it is told."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from batchpoint.domain.errors import Invalid
from batchpoint.storage.store import Found

PAGE = 3


class MemoryStore:
    """A `Store`; `before` and `after` are called with (operation, key) and may raise."""

    def __init__(self, *, lies: bool = False) -> None:
        self.objects: dict[str, bytes] = {}
        self.lies = lies
        self.asked: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self.after: Callable[[str, str], None] = lambda operation, key: None
        self._etags: dict[str, str] = {}
        self._serials = itertools.count()
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        return "memory://store"

    def find(self, path: str) -> Found | None:
        self._ask("find", path)
        with self._lock:
            return self._found(path) if path in self.objects else None

    def list(self, prefix: str, *, ordered: bool = True) -> Iterator[list[Found]]:
        self._ask("list", prefix)
        with self._lock:
            found = [self._found(key) for key in sorted(self.objects) if key.startswith(prefix)]
        for start in range(0, len(found), PAGE):
            yield found[start : start + PAGE]

    def stream(
        self, path: str, *, start: int = 0, stop: int | None = None, etag: str = ""
    ) -> Iterator[bytes]:
        self._ask("stream", path)
        with self._lock:
            if path not in self.objects:
                raise Invalid(f"there is no {path}", code="input_unreadable")
            if etag and self._etags[path] != etag:
                raise Invalid(f"{path} has changed", code="input_changed")
            body = self.objects[path][start:stop]
        for at in range(0, len(body), 65_536):
            yield body[at : at + 65_536]

    def fetch(self, found: Found, target: Path) -> None:
        target.write_bytes(b"".join(self.stream(found.path, etag=found.etag)))

    def put(self, path: str, body: bytes, *, create: bool = False) -> bool:
        self._ask("put", path)
        with self._lock:
            if create and not self.lies and self.objects.get(path, body) != body:
                return False
            self._store(path, body)
        self.after("put", path)
        return True

    def put_file(self, source: Path, path: str) -> None:
        self._ask("put_file", path)
        self._store(path, source.read_bytes())
        self.after("put_file", path)

    def delete(self, path: str) -> None:
        self._ask("delete", path)
        with self._lock:
            self.objects.pop(path, None)
        self.after("delete", path)

    def _ask(self, operation: str, path: str) -> None:
        self.asked.append((operation, path))
        self.before(operation, path)

    def _store(self, path: str, body: bytes) -> None:
        with self._lock:
            self.objects[path] = body
            digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
            self._etags[path] = f"{digest}-{next(self._serials)}"

    def _found(self, path: str) -> Found:
        return Found(path, len(self.objects[path]), self._etags[path])
