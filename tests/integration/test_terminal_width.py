"""What people read fits the terminal they read it on."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest


def read_all(terminal: int) -> str:
    chunks: list[bytes] = []
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # Linux says so when nobody holds the other end any more
            chunk = b""
        if not chunk:
            return b"".join(chunks).decode()
        chunks.append(chunk)


@pytest.mark.parametrize("columns", [50, 132])
def test_a_table_fits_a_real_terminal(tmp_path: Path, columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "BATCHPOINT_URL")}
    command = subprocess.Popen(
        [sys.executable, "-m", "batchpoint", "datastore", "list"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "BATCHPOINT_HOME": str(tmp_path / "home"), "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        text = read_all(ours)
        assert command.wait(30) == 0, text
    finally:
        command.kill()
        command.wait()
        os.close(ours)
    lines = text.splitlines()
    assert "worksp" in text
    assert max(len(line) for line in lines) <= columns
    assert lines[0].startswith("datast")
