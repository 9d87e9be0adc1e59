import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint_worker.failures import (
    MESSAGE_CHARS_MAX,
    TRACEBACK_CHARS_MAX,
    bounded,
    error_of,
    plain_error,
)
from batchpoint_worker.scorer import TaskFailed


def caught(code: str, file: Path, **names: object) -> BaseException:
    """Run code as if it were in a file, and return what it raises."""
    file.write_text(code)
    try:
        exec(compile(code, str(file), "exec"), names)
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is wanted
        return error
    raise AssertionError("nothing was raised")


def test_the_place_is_the_users_innermost_line_and_not_the_librarys(tmp_path: Path):
    file = tmp_path / "score.py"
    error = error_of(caught("import json\n\ndef run():\n    json.loads('{')\nrun()\n", file))
    assert (error["file"], error["line"]) == (str(file), 4)
    assert error["type"] == "json.decoder.JSONDecodeError"
    assert "raw_decode" in error["traceback"]  # the library's frames stay: they tell why
    assert "    json.loads('{')\n" in error["traceback"]


def test_causes_are_told_oldest_first(tmp_path: Path):
    code = "try:\n    1/0\nexcept ZeroDivisionError:\n    raise ValueError('second')\n"
    told = error_of(caught(code, tmp_path / "a.py"))["traceback"]
    assert told.index("ZeroDivisionError") < told.index("During handling") < told.index("second")
    hidden = error_of(caught(code.replace("'second')", "'second') from None"), tmp_path / "b.py"))
    assert "ZeroDivisionError" not in hidden["traceback"]


def test_a_circle_of_causes_ends():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert error_of(first)["traceback"].count("ValueError") == 2


def test_a_long_chain_is_cut():
    last: BaseException | None = None
    for number in range(100):
        error = ValueError(f"number {number}")
        error.__cause__ = last
        last = error
    assert last is not None
    told = error_of(last)["traceback"]
    assert "earlier causes left out" in told
    assert told.count("ValueError") == 5


def test_deep_recursion_is_cut_in_the_middle(tmp_path: Path):
    limit = sys.getrecursionlimit()
    error = error_of(caught("def f(): return f()\nf()\n", tmp_path / "deep.py"))
    assert error["type"] == "RecursionError"
    assert error["traceback"].count("in f\n") < 40
    assert "frames left out" in error["traceback"]
    assert len(error["traceback"]) <= TRACEBACK_CHARS_MAX
    assert sys.getrecursionlimit() == limit


def test_a_syntax_error_is_at_its_own_line(tmp_path: Path):
    file = tmp_path / "score.py"
    error = error_of(caught("x = 1\ny = = 2\n", file))
    assert (error["file"], error["line"]) == (str(file), 2)
    assert "y = = 2" in error["traceback"]


@pytest.mark.parametrize(
    ("exception", "kind", "message"),
    [
        (SystemExit(), "SystemExit", "init() called sys.exit()"),
        (SystemExit("no data"), "SystemExit", "init() called sys.exit('no data')"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "init() raised KeyboardInterrupt"),
        (KeyError("k"), "KeyError", "'k'"),
        (OSError(2, "No such file", "a.csv"), "OSError", "No such file"),
    ],
)
def test_messages(exception: BaseException, kind: str, message: str):
    if kind == "OSError":
        kind = "FileNotFoundError"
    error = error_of(exception, doing="init()")
    assert error["type"] == kind
    assert message in error["message"]


def test_a_failure_that_describes_itself_is_taken_as_it_is():
    described = plain_error("unsupported_return", "run() returned None")
    assert error_of(TaskFailed(described)) == described


@given(st.text(), st.integers(100, 400))
def test_bounded_text_keeps_begin_and_end(text: str, chars_max: int):
    found = bounded(text * 20, chars_max)
    assert len(found) <= chars_max
    if len(text) * 20 > chars_max:
        assert found.startswith(text[:10])
        assert "characters left out" in found


def test_a_surrogate_in_a_message_is_escaped():
    assert error_of(ValueError("\udcff"))["message"] == "\\udcff"
    assert len(error_of(ValueError("é" * 10**6))["message"]) <= MESSAGE_CHARS_MAX
