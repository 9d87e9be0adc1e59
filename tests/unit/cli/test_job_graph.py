"""The drawing of a pipeline's graph."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.cli.job_graph import draw_graph, look_of
from batchpoint.cli.text_tables import width_of
from batchpoint.domain.errors import CODES
from batchpoint.domain.job import ErrorInfo, Job, JobState
from tests.unit.cli.pipeline_jobs import MISTAKE, step_job
from tests.unit.resolved_jobs import NOON

LATER = NOON + timedelta(seconds=30)
STATES = list(JobState)


def drawn(*steps: Job, width: int = 80) -> list[str]:
    return draw_graph(steps, width, LATER)


def test_steps_stand_below_what_they_need() -> None:
    assert drawn(
        step_job("prep", reused_from="heart-0-prep"),
        step_job("train", ("prep",)),
        step_job("tune", ("prep",), JobState.RUNNING),
        step_job("eval", ("train", "tune"), JobState.QUEUED),
    ) == [
        "  ↺    prep   reused           12s  cpu-cluster  from heart-0-prep",
        "  ├─✓  train  completed        12s  cpu-cluster  ← prep",
        "  ● │  tune   running          30s  cpu-cluster  ← prep",
        "  ○─┘  eval   waiting               cpu-cluster  ← train, tune",
    ]


def test_what_does_not_follow_is_drawn_apart() -> None:
    assert drawn(
        step_job("a"),
        step_job("b", state=JobState.FAILED, error=MISTAKE),
    ) == [
        "  ✓  a  completed        12s  cpu-cluster",
        "",
        "  ✗  b  failed           12s  cpu-cluster  ValueError",
    ]


def test_a_step_that_comes_first_in_the_file_may_run_last() -> None:
    lines = drawn(step_job("last", ("first",)), step_job("first"))
    assert [line.split()[1] for line in lines] == ["first", "last"]


def test_steps_of_nested_pipelines_stand_together() -> None:
    assert drawn(
        step_job("prep"),
        step_job("train/fit", ("prep",)),
        step_job("train/score", ("train/fit", "prep")),
        step_job("eval", ("train/score",)),
    ) == [
        "  ✓    prep     completed        12s  cpu-cluster",
        "  │    train/",
        "  ├─✓    fit    completed        12s  cpu-cluster  ← prep",
        "  ✓─┘    score  completed        12s  cpu-cluster  ← train/fit, prep",
        "  ✓    eval     completed        12s  cpu-cluster  ← train/score",
    ]


def test_long_graphs_are_folded_around_what_matters() -> None:
    steps = [
        step_job(
            f"s{n}",
            (f"s{n - 1}",) if n else (),
            JobState.FAILED if n == 30 else JobState.COMPLETED if n < 30 else JobState.QUEUED,
        )
        for n in range(80)
    ]
    assert [line.split("  ")[1:3] for line in drawn(*steps)] == [
        ["✓", "s0"],
        ["⋮ 28 more completed"],
        ["✓", "s29"],
        ["✗", "s30"],
        ["○", "s31"],
        ["⋮ 47 more waiting"],
        ["○", "s79"],
    ]


def test_too_many_rails_are_left_out() -> None:
    heads = [step_job(f"h{n}") for n in range(12)]
    lines = drawn(*heads, *(step_job(f"t{n}", (f"h{n}",)) for n in range(12)))
    assert not any(rail in "".join(lines) for rail in "│├└┼")
    assert lines[-1].endswith("← h11")


def test_what_has_not_run_is_told_from_what_was_stopped() -> None:
    not_run = ErrorInfo(origin="user", code="step_not_run", message="step a failed")
    assert not_run.code in CODES
    assert look_of(step_job("a", state=JobState.CANCELED, error=not_run))[1] == "not run"
    assert look_of(step_job("a", state=JobState.CANCELED))[1] == "canceled"


@given(
    seed=st.integers(0, 10_000), size=st.integers(1, 40), width=st.sampled_from([40, 60, 80, 120])
)
def test_every_graph_fits_and_names_every_step_once(seed: int, size: int, width: int) -> None:
    chance = random.Random(seed)
    names = [f"{chance.choice(['', 'in/', 'out/deep/'])}s{n}" for n in range(size)]
    steps = [
        step_job(
            name,
            tuple(chance.sample(names[:n], min(n, chance.randrange(4)))),
            chance.choice(STATES),
        )
        for n, name in enumerate(names)
    ]
    lines = drawn(*steps, width=width)
    assert max(width_of(line) for line in lines) <= width
    shown = [look_of(step)[0] for step in steps]
    for sign in set(shown):
        assert sum(line.count(sign) for line in lines) == shown.count(sign)


def test_colours_change_nothing_but_the_look() -> None:
    import re

    steps = [step_job("prep"), step_job("train", ("prep",), JobState.RUNNING)]
    painted = draw_graph(steps, 80, LATER, colour=True)
    assert [re.sub(r"\x1b\[\d*m", "", line) for line in painted] == drawn(*steps)
    assert "\x1b[32m✓\x1b[0m" in painted[0]


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_look(state: JobState) -> None:
    sign, word, _ = look_of(step_job("a", state=state))
    assert width_of(sign) == 1
    assert word
