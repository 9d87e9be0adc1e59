"""Wild pipelines for `StepBook`: random graphs, and the fate of their steps and runners."""

from __future__ import annotations

import random
from dataclasses import dataclass

from batchpoint.core import steps as s


@dataclass(frozen=True)
class PipelineWorld:
    """One pipeline and its fate: chances are per event or attempt."""

    seed: int
    plan: s.GraphPlan
    poor_steps: frozenset[str]  # fail whenever they run
    deadly_steps: frozenset[str]  # take their node with them whenever they run
    failure_chance: float
    loss_chance: float
    kill_chance: float
    cancel_chance: float
    step_cancel_chance: float


def make_pipeline_world(seed: int) -> PipelineWorld:
    """Make the world of a seed: many are small, some wide, some long, some quiet."""
    r = random.Random(seed)
    count = r.choice([1, 2, 3, 5, 8, 13, 30])
    names = [f"s{index}" for index in range(count)]
    density = r.choice([0.0, 0.1, 0.3, 0.7])
    capacities = {name: r.choice([1, 1, 2, 4, 100]) for name in ("cpu", "gpu")}
    order = names[:]
    r.shuffle(order)  # the file may name a step before those that it needs
    steps: dict[str, s.PlannedStep] = {}
    for at, name in enumerate(order):
        compute = r.choice(["cpu", "cpu", "gpu"])
        steps[name] = s.PlannedStep(
            needs=tuple(each for each in order[:at] if r.random() < density),
            compute=compute,
            capacity=capacities[compute],
            max_retries=r.choice([0, 0, 1, 3]),
        )
    quiet = r.random() < 0.2

    def chance(*choices: float) -> float:
        return 0.0 if quiet else r.choice(choices)

    poor, deadly = chance(0.0, 0.05, 0.3), chance(0.0, 0.0, 0.1)
    return PipelineWorld(
        seed=seed,
        plan=s.GraphPlan({name: steps[name] for name in names}, r.random() < 0.6),
        poor_steps=frozenset(name for name in names if r.random() < poor),
        deadly_steps=frozenset(name for name in names if r.random() < deadly),
        failure_chance=chance(0.0, 0.1, 0.5),
        loss_chance=chance(0.0, 0.0, 0.2, 0.6),
        kill_chance=chance(0.0, 0.02, 0.2),
        cancel_chance=chance(0.0, 0.0, 0.02),
        step_cancel_chance=chance(0.0, 0.0, 0.03),
    )
