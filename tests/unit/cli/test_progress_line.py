"""The progress line fits its width, says what matters most, and never goes back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.cli.progress_line import ProgressLine
from batchpoint.cli.text_tables import duration, short_number, width_of
from batchpoint.domain.job import JobState, Progress

SCORING = Progress(
    phase="scoring",
    items_total=3_100,
    items_done=1_240,
    items_failed=3,
    rows_done=1_204_000,
    retries=1,
    workers=6,
    workers_wanted=8,
    rows_per_second=8_210,
    eta_seconds=230,
)


LONG = (
    "scoring  1,204,000 rows  1,240 / ~3,100 files  8.2k rows/s  ETA 3m50s  workers 6/8  "
    "3 failed items"
)


def line(progress: Progress, width: int = 160, state: JobState = JobState.RUNNING) -> str:
    return ProgressLine().render(progress, state=state, elapsed_seconds=145, width=width)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (
            160,
            f"{LONG}  1 retry  2m25s",
        ),
        (
            100,
            LONG,
        ),
        (80, "scoring  1,204,000 rows  1,240 / ~3,100 files  ETA 3m50s  3 failed items"),
        (60, "scoring  1,240 / ~3,100 files  ETA 3m50s  3 failed items"),
        (40, "scoring  1,240 / ~3,100 files"),
        (10, "scoring"),
        (4, "sco…"),
    ],
)
def test_the_line_at_several_widths(width: int, expected: str) -> None:
    assert line(SCORING, width) == expected


def test_a_percentage_waits_for_the_end_of_the_listing() -> None:
    assert "%" not in line(SCORING)
    listed = SCORING.model_copy(update={"listed": True})
    assert "1,240 / 3,100 files  40%" in line(listed)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress(), "queued  waiting for a runner  2m25s"),
        (
            Progress(phase="environment", items_total=20_000),
            "environment  preparing the environment  listing: 20,000 files  2m25s",
        ),
        (
            Progress(phase="model", items_total=1, listed=True, workers=1, workers_wanted=2),
            "model  loading the model  1 file  workers 1/2  2m25s",
        ),
        (
            Progress(phase="writing", items_total=5, items_done=5, rows_done=1, listed=True),
            "writing  putting the results together  1 row  5 / 5 files  2m25s",
        ),
    ],
)
def test_the_other_phases(progress: Progress, expected: str) -> None:
    assert line(progress) == expected


def test_canceling_is_said_whatever_the_phase() -> None:
    assert line(SCORING, state=JobState.CANCEL_REQUESTED).startswith("canceling  stopping")


def test_one_file_is_not_files() -> None:
    one = Progress(phase="done", listed=True, items_total=1, items_done=1, rows_done=1)
    assert line(one).startswith("done  complete  1 row  1 / 1 file  ")


progresses = st.builds(
    Progress,
    phase=st.sampled_from(["queued", "environment", "model", "scoring", "writing", "done"]),
    listed=st.booleans(),
    items_total=st.integers(0, 10**9),
    items_done=st.integers(0, 10**9),
    items_failed=st.integers(0, 10**6),
    rows_done=st.integers(0, 10**12),
    retries=st.integers(0, 100),
    workers=st.integers(0, 1000),
    workers_wanted=st.integers(0, 1000),
    rows_per_second=st.floats(0, 1e9),
    eta_seconds=st.none() | st.floats(0, 1e7),
)


@given(progresses, st.integers(1, 200), st.sampled_from(JobState))
def test_the_line_always_fits(progress: Progress, width: int, state: JobState) -> None:
    shown = line(progress, width, state)
    assert width_of(shown) <= width
    assert "\n" not in shown


@given(st.lists(progresses, max_size=10))
def test_numbers_never_go_back(steps: list[Progress]) -> None:
    shown = ProgressLine()
    before = -1
    for step in steps:
        text = shown.render(
            step.model_copy(update={"phase": "scoring"}),
            state=JobState.RUNNING,
            elapsed_seconds=0,
            width=400,
        )
        found = re.search(r"([\d,]+) / ~?([\d,]+) files?", text)
        assert found is not None
        done, total = (int(number.replace(",", "")) for number in found.groups())
        assert before <= done <= total
        before = done


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (0.5, "0.5"), (9.96, "10"), (999.4, "999"), (999.6, "1.0k"), (99_960, "100k"),
     (3.1e6, "3.1M"), (1e9, "1.0G")],
)  # fmt: skip
def test_short_numbers(number: float, expected: str) -> None:
    assert short_number(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0.0s"), (0.44, "0.4s"), (9.96, "10s"), (59.6, "1m00s"), (230, "3m50s"),
     (3_599.7, "1h00m"), (7_500, "2h05m"), (273_600, "3d4h")],
)  # fmt: skip
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_pipeline_says_what_runs() -> None:
    progress = Progress(phase="steps", steps_total=7, steps_done=3, steps_running=2, steps_failed=1)
    line = ProgressLine().render(
        progress,
        state=JobState.RUNNING,
        elapsed_seconds=12,
        width=80,
        running=["train", "eval", "c", "d", "e"],
    )
    assert line == "steps 3/7  running: train, eval, c, d, 1 more  1 failed  12s"
    ended = ProgressLine().render(progress, state=JobState.FAILED, elapsed_seconds=12, width=80)
    assert ended == "failed  steps 3/7  running: 2  1 failed  12s"


def test_a_command_has_no_items_to_count() -> None:
    line = ProgressLine()
    told = [
        line.render(Progress(phase=phase), state=JobState.RUNNING, elapsed_seconds=2, width=80)
        for phase in ("inputs", "command", "writing")
    ]
    assert told == [
        "inputs  bringing the inputs  2.0s",
        "command  running  2.0s",
        "writing  putting the results together  2.0s",
    ]
