"""Homes, settings and ledgers that cannot work: one clear sentence, a stable code, no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def command(home: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command on a home; returns exit code and stderr."""
    ended = subprocess.run(
        [sys.executable, "-m", "batchpoint", *arguments],
        env={**os.environ, "BATCHPOINT_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    assert "internal_error" not in ended.stderr
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("kind", ["a file", "below a file", "too long"])
def test_what_cannot_be_a_home_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    homes = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "home",
        "too long": tmp_path / ("x" * 300),
    }
    code, said = command(homes[kind], "endpoint", "list")
    assert code == 2
    assert "error[settings_invalid]" in said
    assert "BATCHPOINT_HOME" in said


def test_settings_that_are_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").mkdir()
    code, said = command(tmp_path, "endpoint", "list")
    assert code == 2
    assert "settings.toml: cannot be read" in said


@pytest.mark.parametrize("what", [b"", b"not a database at all" * 500, b"SQLite format 3\0"])
def test_a_ledger_that_is_rubbish_is_named_or_made_anew(tmp_path: Path, what: bytes) -> None:
    (tmp_path / "batchpoint.db").write_bytes(what)
    code, said = command(tmp_path, "endpoint", "list")
    if what:
        assert code == 5
        assert "error[ledger_unavailable]" in said
        assert "batchpoint.db" in said
        assert (tmp_path / "batchpoint.db").read_bytes() == what, "rubbish may be evidence"
    else:
        assert code == 0, said


def test_a_ledger_with_damaged_pages_is_named(tmp_path: Path) -> None:
    assert command(tmp_path, "compute", "list")[0] == 0
    ledger = tmp_path / "batchpoint.db"
    for leftover in tmp_path.glob("batchpoint.db-*"):
        leftover.unlink()
    data = bytearray(ledger.read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    ledger.write_bytes(data)
    code, said = command(tmp_path, "endpoint", "list")
    assert code == 5
    assert "error[ledger_unavailable]" in said


def test_a_home_with_a_long_path_and_a_long_tmpdir_works(tmp_path: Path) -> None:
    temporary = tmp_path / ("t" * 120)
    temporary.mkdir()
    home = tmp_path / ("h" * 120)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("1")
    (tmp_path / "model.txt").write_text("m")
    code_folder = tmp_path / "code"
    code_folder.mkdir()
    script = "def init():\n    pass\n\ndef run(batch):\n    return [1 for _ in batch]\n"
    (code_folder / "score.py").write_text(script)
    long = {"TMPDIR": str(temporary)}
    deploy = ("deploy", str(tmp_path / "model.txt"), "--name", "long-paths")
    try:
        code, said = command(
            home, *deploy, "--scoring-script", str(code_folder / "score.py"), **long
        )
        assert code == 0, said
        data = str(tmp_path / "data")
        code, said = command(home, "invoke", "long-paths", "--input", data, "--wait", **long)
        assert code == 0, said
    finally:
        command(home, "down", **long)
        shutil.rmtree(home, ignore_errors=True)
