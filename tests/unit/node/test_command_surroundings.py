"""What commands find around them: their interpreter first, our own variables nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batchpoint.domain.errors import Invalid
from batchpoint.node.command_surroundings import shell_command, variables, working_folder
from batchpoint.node.tree_copy import copy_file, copy_tree
from tests.integration.command_orders import order


def interpreter(folder: Path, name: str, *, venv: bool = False) -> Path:
    """A program in the place of an interpreter: tells how it was called."""
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    path = bin_ / name
    path.write_text('#!/bin/sh\necho "$0" "$@"\n')
    path.chmod(0o755)
    if venv:
        (folder / "pyvenv.cfg").write_text("home = /usr\n")
    return path


def run(command: str, environment: dict[str, str]) -> str:
    argv = shell_command(command, environment["PATH"])
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_step_wins_over_the_pipeline_and_values_over_all(tmp_path, monkeypatch):
    monkeypatch.setenv("BATCHPOINT_HOME", "/secret/home")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("THEIRS", "kept")
    given = order(
        tmp_path, "true",
        variables={"A": "pipeline", "B": "pipeline"},
        own={"B": "step", "BATCHPOINT_INPUT_x": "step", "BATCHPOINT_JOB": "step"},
    )  # fmt: skip
    told = variables(given, {("inputs", "x"): "value"}, tmp_path / "scratch")
    assert (told["A"], told["B"]) == ("pipeline", "step")
    assert told["BATCHPOINT_INPUT_x"] == "value"
    assert told["BATCHPOINT_JOB"] == "step"
    assert told["AZUREML_RUN_ID"] == given.job
    assert told["THEIRS"] == "kept"
    assert "BATCHPOINT_HOME" not in told
    assert "PYTHONPATH" not in told


def test_the_interpreter_of_the_environment_comes_first(tmp_path):
    python = interpreter(tmp_path / "env", "python", venv=True)
    shutil.copy(python, python.with_name("python3"))
    python.with_name("python3").unlink()
    python.with_name("python3").symlink_to("python")
    told = variables(order(tmp_path, "x", python=str(python)), {}, tmp_path / "scratch")
    assert told["VIRTUAL_ENV"] == str(tmp_path / "env")
    assert run("python a; python3 b", told) == f"{python} a\n{python.with_name('python3')} b\n"
    assert not (tmp_path / "scratch").exists()


def test_an_interpreter_of_another_name_is_called_python_too(tmp_path):
    python = interpreter(tmp_path / "it's $(an) env", "python3.11")
    wrong = interpreter(tmp_path / "it's $(an) env" / "x", "python")
    shutil.copy(wrong, python.with_name("python"))
    told = variables(order(tmp_path, "x", python=str(python)), {}, tmp_path / "scratch")
    assert "VIRTUAL_ENV" not in told
    assert run("python 'a b'; python3", told) == f"{python} a b\n{python}\n"


def test_a_real_virtual_environment_knows_itself(tmp_path):
    told = variables(order(tmp_path, "x", python=sys.executable), {}, tmp_path / "scratch")
    assert run("python -c 'import sys; print(sys.prefix)'", told).strip() == sys.prefix


def test_without_any_shell_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(Invalid, match="neither bash nor sh"):
        shell_command("true", str(tmp_path))


def test_the_working_folder_is_a_copy_and_empty_without_code(tmp_path):
    code = tmp_path / "code"
    (code / "deep").mkdir(parents=True)
    (code / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (code / "deep" / "run.sh").chmod(0o755)
    (tmp_path / "one").mkdir()
    folder = working_folder(order(tmp_path, "x", code=code), tmp_path / "one")
    copy = folder / "deep" / "run.sh"
    assert os.access(copy, os.X_OK)
    copy.write_text("changed")
    assert (code / "deep" / "run.sh").read_text() == "#!/bin/sh\n"
    given = order(tmp_path, "x")
    (tmp_path / "two").mkdir()
    assert list(working_folder(given, tmp_path / "two").iterdir()) == []
    (tmp_path / "three").mkdir()
    lone = replace(given, spec=order(tmp_path, "x", code=code / "deep" / "run.sh").spec)
    assert [p.name for p in working_folder(lone, tmp_path / "three").iterdir()] == ["run.sh"]


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_copies_have_the_whole_content(tmp_path, size):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    copy_file(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (tmp_path / "copy").stat().st_ino != source.stat().st_ino
    with pytest.raises(FileExistsError):
        copy_file(source, tmp_path / "copy")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_files_without_a_size_are_copied_too(tmp_path):
    copy_file("/proc/self/status", tmp_path / "copy")
    assert b"Name:" in (tmp_path / "copy").read_bytes()


def test_links_are_followed_in_copies_and_what_is_no_file_is_left_out(tmp_path):
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "a").write_text("a")
    (source / "link").symlink_to("folder/a")
    (source / "round").symlink_to(source)
    (source / "nowhere").symlink_to("missing")
    os.mkfifo(source / "pipe")
    copy_tree(source, tmp_path / "copy")
    found = {p.relative_to(tmp_path / "copy").as_posix() for p in (tmp_path / "copy").rglob("*")}
    assert found == {"folder", "folder/a", "link"}
    assert not (tmp_path / "copy" / "link").is_symlink()
