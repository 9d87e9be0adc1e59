"""How a worker's end is told."""

import signal
from pathlib import Path

import pytest

from batchpoint.node.exit_words import OutOfMemoryWatch, explain


@pytest.mark.parametrize(
    ("status", "cause", "words"),
    [
        (0, "crashed", "the worker exited with code 0"),
        (3, "crashed", "the worker exited with code 3"),
        (-signal.SIGSEGV, "crashed", "the worker was killed by signal 11 (segmentation fault)"),
        (-signal.SIGABRT, "crashed", "the worker was killed by signal 6 (aborted)"),
        (-signal.SIGKILL, "lost", "the worker was killed by signal 9 (killed from outside)"),
        (-signal.SIGTERM, "lost", "the worker was killed by signal 15 (asked to end from outside)"),
        (-250, "crashed", "the worker was killed by signal 250 (unknown)"),
        (None, "lost", "the worker is gone, and how it ended is not known"),
    ],
)
def test_every_end_has_words(status: int | None, cause: str, words: str) -> None:
    end = explain(status, out_of_memory=False)
    assert (end.cause, end.words) == (cause, words)


def test_out_of_memory_explains_a_kill_and_nothing_else() -> None:
    end = explain(-signal.SIGKILL, out_of_memory=True)
    assert end.cause == "crashed"
    assert "ran out of memory" in end.words
    assert explain(1, out_of_memory=True).words == "the worker exited with code 1"


def count(path: Path, kills: int) -> None:
    path.write_text(f"pgfault 7\noom_kill {kills}\noom_kill_other 9\n")


def test_each_kill_for_memory_explains_one_end(tmp_path: Path) -> None:
    source = tmp_path / "vmstat"
    count(source, 4)
    watch = OutOfMemoryWatch(source)
    assert not watch.happened()
    count(source, 6)
    assert watch.happened()
    assert watch.happened()
    assert not watch.happened()


def test_a_kill_just_before_a_sample_still_counts_and_an_old_one_does_not(tmp_path: Path) -> None:
    source = tmp_path / "vmstat"
    count(source, 0)
    watch = OutOfMemoryWatch(source)
    count(source, 1)
    watch.sample()
    assert watch.happened()
    count(source, 2)
    watch.sample()
    watch.sample()
    assert not watch.happened()


def test_without_a_counter_nothing_is_noticed(tmp_path: Path) -> None:
    watch = OutOfMemoryWatch(tmp_path / "missing")
    watch.sample()
    assert not watch.happened()
