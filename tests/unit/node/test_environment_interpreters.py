"""Which interpreter is chosen, on machines made of small executables."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchpoint.domain.errors import Invalid
from batchpoint.node.environment_substitution import EnvironmentSettings
from batchpoint.node.interpreter_search import (
    Interpreter,
    InterpreterSearch,
    running_interpreter,
    version_range,
)

RUNNING = ".".join(str(part) for part in sys.version_info[:3])
MINOR = ".".join(str(part) for part in sys.version_info[:2])

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Put an executable on the machine that answers the probe as an interpreter would."""

    def put(place: str, version: str, implementation: str = "CPython") -> Path:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho \'["{path}", "{version}", "{implementation}"]\'\n')
        path.chmod(0o755)
        return path

    return put


def search(tmp_path: Path, **pythons: str) -> InterpreterSearch:
    settings = EnvironmentSettings(
        pythons={version.replace("_", "."): path for version, path in pythons.items()}
    )
    return InterpreterSearch(
        settings, {"PATH": f"{tmp_path / 'shims'}:{tmp_path / 'bin'}", "HOME": str(tmp_path)}
    )


@pytest.mark.parametrize(
    ("asked", "inside", "outside"),
    [
        ("3.8", "3.8.20", "3.9.0"),
        ("3.8.13", "3.8.1", "3.18.0"),
        ("==3.10.*", "3.10.2", "3.1.0"),
        ("3", "3.12.1", "4.0.0"),
        (">=3.9,<3.11", "3.10.9", "3.11.0"),
        (">= 3.9", "3.9.0", "3.8.0"),
    ],
)
def test_what_a_version_stands_for(asked: str, inside: str, outside: str) -> None:
    assert version_range(asked).contains(inside)
    assert not version_range(asked).contains(outside)


def test_nonsense_is_not_a_version() -> None:
    with pytest.raises(Invalid, match="'latest' is not a Python version") as caught:
        version_range("latest")
    assert caught.value.code == "environment_invalid"


def test_the_running_interpreter_comes_first(tmp_path: Path, install: Install) -> None:
    install(f"bin/python{MINOR}", f"{MINOR}.99")
    assert search(tmp_path).find(MINOR, "x") == running_interpreter()
    assert search(tmp_path).find(None, "x") == running_interpreter()


def test_an_interpreter_of_the_settings_comes_before_it(tmp_path: Path, install: Install) -> None:
    mine = install("opt/mine", f"{MINOR}.98")
    found = search(tmp_path, **{MINOR.replace(".", "_"): str(mine)}).find(MINOR, "x")
    assert found == Interpreter(str(mine), f"{MINOR}.98")


def test_an_interpreter_of_the_settings_must_be_what_it_is_said_to_be(
    tmp_path: Path, install: Install
) -> None:
    with pytest.raises(Invalid, match=r'pythons."3.9" = "/gone".* it does not run') as caught:
        search(tmp_path, **{"3_9": "/gone"}).find("3.29", "x")
    assert caught.value.code == "interpreter_not_found"
    other = install("opt/other", "3.10.1")
    with pytest.raises(Invalid, match=r"it is Python 3\.10\.1"):
        search(tmp_path, **{"3_9": str(other)}).find("3.9", "x")


def test_behind_a_shim_that_fails_the_real_one_is_found(tmp_path: Path, install: Install) -> None:
    shim = install("shims/python3.29", "3.29.0")
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.29: command not found' >&2\nexit 127\n")
    older = install(".pyenv/versions/3.29.1/bin/python3.29", "3.29.1")
    assert search(tmp_path).find("3.29", "x").executable == str(older)
    newer = install(".local/share/uv/python/cpython-3.29.4/bin/python3.29", "3.29.4")
    assert search(tmp_path).find("3.29", "x").executable == str(newer)


def test_a_shim_is_believed_about_where_it_leads(tmp_path: Path, install: Install) -> None:
    shim = install("shims/python3.29", "3.29.0")
    shim.write_text('#!/bin/sh\necho \'["/real/python3.29", "3.29.0", "CPython"]\'\n')
    assert search(tmp_path).find("3.29", "x") == Interpreter("/real/python3.29", "3.29.0")


def test_the_sentence_when_there_is_none(tmp_path: Path, install: Install) -> None:
    install("bin/python3.29", "3.29.3")
    install("bin/python3.28", "3.28.0", "PyPy")
    with pytest.raises(Invalid) as caught:
        search(tmp_path).find("3.28.1", "conda_file of environment 'x'")
    assert caught.value.code == "interpreter_not_found"
    for part in (
        "conda_file of environment 'x' asks for Python 3.28.1",
        RUNNING,
        "3.29.3",
        'environments.pythons."3.28" = ',
        'environments.python_map."3.28" = "3.29"',
    ):
        assert part in caught.value.message


def test_what_the_worker_cannot_run_on_is_said_to_be_too_old(
    tmp_path: Path, install: Install
) -> None:
    install("bin/python3.7", "3.7.16")
    with pytest.raises(Invalid, match=r"needs 3\.8 or newer") as caught:
        search(tmp_path).find("3.7", "x")
    assert "3.7.16" not in caught.value.message


def test_for_a_rebuild_the_same_version_is_looked_for_first(
    tmp_path: Path, install: Install
) -> None:
    install("bin/python3.29", "3.29.3")
    same = install(".pyenv/versions/3.29.1/bin/python3.29", "3.29.1")
    gone = Interpreter("/gone/python3.29", "3.29.1")
    assert search(tmp_path).exact(gone) == Interpreter(str(same), "3.29.1")
    same.unlink()
    found = search(tmp_path).exact(gone)
    assert found is not None
    assert found.version == "3.29.3"
    assert search(tmp_path).exact(Interpreter("/gone", "3.27.1")) is None
