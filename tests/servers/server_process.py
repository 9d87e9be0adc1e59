"""A server in a process of its own: started, found by what it prints, and ended for certain."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

START_SECONDS_MAX = 60


class ServerProcess:
    """A running server; `port` is where it listens."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        says: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it in `folder` and wait until it prints `says`, whose first group is the port."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("lifeline.py")), *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,  # lets it end with us, however we end
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.printed: list[str] = []
        self._found = threading.Event()
        self._port = 0
        self._reader = threading.Thread(target=self._read, args=(re.compile(says),), daemon=True)
        self._reader.start()
        if not self._found.wait(START_SECONDS_MAX) or not self._port:
            self.end()
            raise RuntimeError(f"{command[0]} did not start: {''.join(self.printed[-20:])}")
        self.port = self._port

    def _read(self, says: re.Pattern[str]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            del self.printed[:-100]
            self.printed.append(line)
            found = says.search(line)
            if found and not self._port:
                self._port = int(found[1])
                self._found.set()
        self._found.set()

    def end(self) -> None:
        """End it and wait for that; it keeps nothing, so nothing is lost when it is quick."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join(10)
        self._process.stdout.close()
