"""Wild pipelines always end in the one lawful state, whatever befalls steps and runners."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchpoint.core.steps import GraphPlan, PlannedStep
from sim import pipeline_mutations as mutations
from sim.pipeline_referee import PipelineRun
from sim.pipeline_world import PipelineWorld, make_pipeline_world

SEEDS = 2_000


def test_two_thousand_seeds() -> None:
    runs = [PipelineRun(make_pipeline_world(seed)) for seed in range(SEEDS)]
    ends = Counter(run.run().state.value for run in runs)
    # Worlds that never end some way would prove nothing about it.
    assert min(ends["Completed"], ends["Failed"], ends["Canceled"]) > SEEDS / 50
    assert sum(run.kills for run in runs) > SEEDS / 10


def test_a_seed_replays_command_for_command() -> None:
    lengths: list[int] = []
    for seed in range(20):
        first, second = (PipelineRun(make_pipeline_world(seed)) for _ in range(2))
        assert first.run() == second.run()
        assert first.trace == second.trace
        lengths.append(len(first.trace))
    assert max(lengths) > 50


CHANCES = st.sampled_from([0.0, 0.0, 0.05, 0.3])


@st.composite
def plans(draw: st.DrawFn) -> GraphPlan:
    count = draw(st.integers(1, 8))
    capacity = {"a": draw(st.integers(1, 3)), "b": 1}
    steps: dict[str, PlannedStep] = {}
    for at in range(count):
        compute = draw(st.sampled_from("ab"))
        needs = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set[int]()
        steps[f"s{at}"] = PlannedStep(
            tuple(f"s{each}" for each in sorted(needs)),
            compute,
            capacity[compute],
            draw(st.integers(0, 2)),
        )
    return GraphPlan(steps, draw(st.booleans()))


@settings(max_examples=150, deadline=None)
@given(
    plan=plans(),
    seed=st.integers(0, 2**32),
    chances=st.tuples(CHANCES, CHANCES, CHANCES, CHANCES, CHANCES),
    poor=st.sets(st.integers(0, 7)),
)
def test_any_pipeline_ends_lawfully(
    plan: GraphPlan, seed: int, chances: tuple[float, ...], poor: set[int]
) -> None:
    names = frozenset(f"s{each}" for each in poor)
    PipelineRun(PipelineWorld(seed, plan, names, frozenset(), *chances)).run()


@pytest.mark.parametrize("bug", mutations.BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: mutations.StepBug) -> None:
    assert mutations.found_by(bug, range(mutations.SEEDS_MAX)) is not None


@pytest.mark.slow
def test_many_seeds() -> None:
    for seed in range(SEEDS, 50_000):
        PipelineRun(make_pipeline_world(seed)).run()
