"""Why a command failed: its own last words lead, and the exit is explained."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain import limits
from batchpoint.node import command_cause

TRACEBACK = """\
loading
Traceback (most recent call last):
  File "/srv/code/train.py", line 12, in <module>
    main()
  File "/srv/code/train.py", line 7, in main
    table = read(path)
            ^^^^^^^^^^
  File "/env/lib/python3.11/site-packages/pandas/io.py", line 99, in read
    raise ValueError("bad value in column 3")
ValueError: bad value in column 3
"""


def failed(tail: str, status: int = 1, *, out_of_memory: bool = False):
    return command_cause.failed(
        status, tail, log="logs/user/std_log.txt", path="/env/bin:/bin", out_of_memory=out_of_memory
    )


def test_an_exception_leads_and_only_user_code_is_in_its_traceback():
    told = failed(TRACEBACK)
    assert told.message == "ValueError: bad value in column 3 (the command exited with code 1)"
    assert told.type == "ValueError"
    assert told.line == "train.py:7"
    assert told.traceback is not None
    assert "site-packages" not in told.traceback
    assert told.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert told.traceback.splitlines()[-1] == "ValueError: bad value in column 3"
    assert told.log == "logs/user/std_log.txt"


def test_of_chained_exceptions_the_last_one_counts():
    second = TRACEBACK.replace("bad value in column 3", "the row is broken")
    between = "\nThe above exception was the direct cause of the following exception:\n\n"
    assert failed(TRACEBACK + between + second).message.startswith("ValueError: the row is broken")


def test_what_was_printed_after_an_exception_does_not_hide_it():
    assert failed(TRACEBACK + "cleaning up\nmake: *** [train] Error 1\n").type == "ValueError"


def test_an_exception_that_was_caught_long_ago_is_not_the_cause():
    tail = TRACEBACK + "".join(f"epoch {n}\n" for n in range(50)) + "cannot write the model\n"
    told = failed(tail)
    assert told.type is None
    assert told.message == "cannot write the model (the command exited with code 1)"


@pytest.mark.parametrize(
    "line", ["KeyError", "json.decoder.JSONDecodeError: Expecting value", "my.own.Failure: no"]
)
def test_names_of_exceptions(line):
    tail = f'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n{line}\n'
    assert failed(tail).type == line.partition(":")[0].rpartition(".")[2]


def test_colours_and_progress_bars_are_read_as_a_terminal_shows_them():
    tail = "\x1b[31mno such table\x1b[0m\r\n 1%\r 50%\r100%\n\n"
    assert failed(tail).message.startswith("100% (")
    assert "\x1b" not in str(failed(tail))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (127, "PATH is /env/bin:/bin"),
        (126, "chmod +x"),
        (-signal.SIGKILL, "often for lack of memory"),
        (137, "often for lack of memory"),
        (-signal.SIGSEGV, "segmentation fault"),
        (139, "segmentation fault"),
        (255, "code 255"),
    ],
)
def test_ends_are_explained(status, words):
    told = failed("", status)
    assert words in told.message
    assert told.code == "command_failed"
    assert told.log is None


def test_the_kernel_is_named_when_it_was_the_kernel():
    assert "killed by the kernel" in failed("x\n", 137, out_of_memory=True).message


def test_a_kill_is_not_blamed_on_an_earlier_exception():
    assert failed(TRACEBACK, -9).message.startswith("the command was killed by SIGKILL")


def test_a_timeout_tells_the_last_words():
    told = command_cause.timed_out(5, "still loading\n", log="l")
    assert told.code == "command_timed_out"
    assert told.message.startswith("the command took longer than 5 s and was stopped; ")
    assert told.message.endswith("its last words: still loading")


@given(st.text(), st.integers(-64, 255).filter(bool))
def test_any_output_gives_a_short_cause(tail, status):
    told = failed("Traceback (most recent call last):\n" + tail, status)
    assert told.message
    assert len(told.message) <= limits.ERROR_TEXT_CHARS_MAX
