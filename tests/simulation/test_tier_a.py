"""Tier A of the simulation: thousands of small wild worlds, and one big quiet one."""

import pytest

from sim import mutations, tier_a
from sim.campaign import SimulatedJob
from sim.world import make_world

SEEDS = 2_000


def test_two_thousand_seeds() -> None:
    ends, violations = tier_a.campaign(0, SEEDS)
    assert not violations
    # Worlds that never end some way would prove nothing about it.
    codes = {"error_threshold_exceeded", "init_failed", "nothing_scored", "systemic_failure"}
    assert {"completed", "canceled", "no_input_items", *codes} <= set(ends)


def test_a_seed_replays_event_for_event() -> None:
    traces: list[list[str]] = []
    for _ in range(2):
        job = SimulatedJob(make_world(54))
        job.trace = []
        job.run()
        traces.append(job.trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 10


def test_a_job_with_thousands_of_workers_is_quick() -> None:
    measured = tier_a.measure(workers=2_000, mini_batches=20_000)
    assert measured.events <= 1.2 * measured.mini_batches
    assert measured.seconds < 20


# A few of them, which are found soon; all of them are planted by `python -m sim.mutations`.
QUICK = tuple(bug for bug in mutations.BUGS if "resume" not in bug.name)[::3]


@pytest.mark.parametrize("bug", QUICK, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: mutations.Bug) -> None:
    assert mutations.found_by(bug, range(mutations.SEEDS_MAX)), f"{bug.name} was not found"


@pytest.mark.slow
@pytest.mark.parametrize("bug", mutations.BUGS, ids=lambda bug: bug.name)
def test_every_planted_bug_is_found(bug: mutations.Bug) -> None:
    assert mutations.found_by(bug, range(mutations.SEEDS_MAX)), f"{bug.name} was not found"


@pytest.mark.slow
def test_many_seeds() -> None:
    _, violations = tier_a.campaign(SEEDS, 50_000)
    assert not violations


@pytest.mark.slow
def test_a_million_mini_batches_on_ten_thousand_workers() -> None:
    measured = tier_a.measure(workers=10_000, mini_batches=1_000_000)
    assert measured.seconds < 60
    assert measured.events <= 1.2 * measured.mini_batches
    assert measured.peak_bytes < 500 * 2**20
