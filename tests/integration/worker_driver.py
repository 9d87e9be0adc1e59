"""Speaks to a real worker process over pipes, as a node agent does."""

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from batchpoint_worker import protocol

MAIN = Path(protocol.__file__).with_name("__main__.py")
WAIT_SECONDS = 60


class Ends:
    """Our ends and the worker's ends of what connects one worker."""

    def __init__(self) -> None:
        self.read, self.their_write = os.pipe()
        self.their_read, self.write = os.pipe()
        self.their_life, self.life = os.pipe()
        self.page_file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.page_file.truncate(protocol.STATUS_BYTES)
        self.page = protocol.StatusPage(self.page_file.fileno())

    def theirs(self) -> list[int]:
        return [self.their_read, self.their_write, self.page_file.fileno(), self.their_life]

    def close_theirs(self) -> None:
        for fd in (self.their_read, self.their_write, self.their_life):
            os.close(fd)

    def let_go(self) -> None:
        """Close our ends, as the death of the agent does."""
        for fd in (self.write, self.life, self.read):
            if fd >= 0:
                os.close(fd)
        self.write = self.life = self.read = -1

    def send(self, op: str, **fields: object) -> None:
        protocol.write(self.write, {"op": op, **fields})

    def receive(self, op: str | None = None) -> tuple[protocol.Header, bytes]:
        assert select.select([self.read], [], [], WAIT_SECONDS)[0], "the worker says nothing"
        header, body = protocol.read(self.read)
        assert op is None or header["op"] == op, header
        return header, body


class Driver(Ends):
    """A started worker and the folder it works in."""

    def __init__(
        self,
        folder: Path,
        *,
        python: str = sys.executable,
        main: Path = MAIN,
        control: bool = False,
        lifeline: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.code = folder / "code"
        self.loaded: protocol.Header = {}
        self.output = folder / "output"
        self.work = folder / "work"
        for path in (self.code, self.output, self.work):
            path.mkdir(exist_ok=True)
        theirs = self.theirs()
        arguments = ["--read-fd", theirs[0], "--write-fd", theirs[1], "--status-fd", theirs[2]]
        passed = theirs[:3]
        if lifeline:
            arguments += ["--lifeline-fd", theirs[3]]
            passed.append(theirs[3])
        self.control, far = socket.socketpair()
        if control:
            arguments += ["--control-fd", far.fileno()]
            passed.append(far.fileno())
        with (folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-u", str(main), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.work,
                env={**os.environ, **(environment or {})},
                pass_fds=passed,
                start_new_session=True,
            )
        self.close_theirs()
        far.close()

    def load(self, script: str = "", **fields: object) -> protocol.Header:
        """Load a script and return the answer."""
        if script:
            (self.code / "score.py").write_text(textwrap.dedent(script), encoding="utf-8")
        self.send("load", **self.request(**fields))
        return self.receive()[0]

    def request(self, **fields: object) -> dict[str, object]:
        request: dict[str, object] = {
            "mode": "script",
            "code_dir": str(self.code),
            "scoring_script": "score.py",
            "logging_level": "info",
            "output_dir": str(self.output),
            "harvest": str(self.folder / "harvest" / "init"),
            "render": "csv",
            "action": "append_row",
            "threads": 2,
            "environment": {},
        }
        return {**request, **fields}

    def task(self, number: int = 1, names: tuple[str, ...] = ("a.csv", "b.csv")) -> protocol.Header:
        items = [
            {"path": str(self.folder / name), "name": name, "item": i}
            for i, name in enumerate(names)
        ]
        harvest = str(self.folder / "harvest" / str(number))
        return {"id": number, "items": items, "rows": None, "harvest": harvest}

    def score(self, *names: str, number: int = 1) -> tuple[protocol.Header, str]:
        """Score one task and return its result and the rendered rows."""
        self.send("run", tasks=[self.task(number, names or ("a.csv", "b.csv"))])
        header, body = self.receive("results")
        (result,) = header["results"]
        return result, body[: result.get("length", 0)].decode()

    def log(self) -> str:
        return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """Shut the worker down in good order and return its exit status."""
        self.send("shutdown")
        self.receive("bye")
        return self.process.wait(WAIT_SECONDS)

    def fork(self, slot: int) -> "Fork":
        """Have the worker fork itself for a slot."""
        fork = self.ask_fork(slot)
        assert fork is not None
        return fork

    def ask_fork(self, slot: int) -> "Fork | None":
        """Ask the worker to fork itself; None when it refuses."""
        fork = Fork(self.folder / f"fork-{slot}.txt")
        with fork.log_path.open("wb") as log:
            fds = array.array("i", [*fork.theirs(), log.fileno(), log.fileno()])
            self.control.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        self.send("fork", slot=slot)
        fork.close_theirs()
        header, _ = self.receive()
        assert header["slot"] == slot
        if header["op"] == "op_failed":
            assert header["error"]["type"] == "not_forkable"
            fork.end()
            return None
        fork.pid = header["pid"]
        return fork

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WAIT_SECONDS)
        self.let_go()
        self.control.close()
        self.page.close()
        self.page_file.close()


class Fork(Ends):
    """A forked worker."""

    def __init__(self, log_path: Path) -> None:
        super().__init__()
        self.log_path = log_path
        self.pid = -1

    def end(self) -> None:
        self.let_go()
        self.page.close()
        self.page_file.close()


def is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    except OSError:
        os.kill(pid, 0)
        return True
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_gone(pid: int, seconds: float = 10) -> bool:
    """Wait until a process that may not be our child has ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if not is_running(pid):
            return True
        select.select([], [], [], 0.005)
    return False


def lines(text: str, key: str) -> list[object]:
    """Return what the objects of JSON Lines have under a key."""
    return [json.loads(line)[key] for line in text.splitlines()]
