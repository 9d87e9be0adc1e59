"""Errors of attempts in the words people read."""

from batchpoint.node import attempt_errors
from batchpoint.node.exit_words import explain

DUMP = """Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3/threading.py", line 3 in wait
Current thread 0x00007f0000000002 (most recent call first):
  File "/home/me/score.py", line 9 in busy
  File "/home/me/score.py", line 4 in run
  File "/opt/batchpoint_worker/loop.py", line 5 in _score
printed meanwhile
"""


def test_the_kind_of_an_error_is_its_type_and_place() -> None:
    error = attempt_errors.told(
        {
            "origin": "user",
            "type": "ValueError",
            "message": "m" * 10_000,
            "traceback": "t",
            "file": "/x/score.py",
            "line": 7,
        },
        file="a.csv",
        log="logs/user/n-0.txt",
    )
    assert error.kind == "ValueError at score.py:7"
    assert (error.line, error.file, error.log) == ("score.py:7", "a.csv", "logs/user/n-0.txt")
    assert len(error.message) == 4000


def test_an_error_that_says_little_is_still_one() -> None:
    error = attempt_errors.told({"origin": "nonsense"}, file="", log="")
    assert (error.origin, error.type, error.kind) == ("user", "Error", "Error")


def test_a_stack_shows_user_code_only() -> None:
    assert attempt_errors.user_stack(DUMP).splitlines() == [
        "Stack (most recent call first):",
        '  File "/home/me/score.py", line 9 in busy',
        '  File "/home/me/score.py", line 4 in run',
    ]
    assert attempt_errors.user_stack("nothing of the kind") == ""


def test_whose_doing_a_death_was() -> None:
    crashed = attempt_errors.died(explain(5, out_of_memory=False), "run()", file="a.csv", log="l")
    assert (crashed.origin, crashed.kind) == ("user", "worker died: exit 5")
    lost = attempt_errors.died(explain(-9, out_of_memory=False), "run()", file="", log="")
    assert lost.origin == "batchpoint"
