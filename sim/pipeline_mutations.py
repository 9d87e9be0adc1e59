"""Plants bugs into `StepBook` and checks that wild pipelines find each one.

python -m sim.pipeline_mutations
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sim.pipeline_referee import MakeBook, PipelineRun, Violation
from sim.pipeline_world import make_pipeline_world

SEEDS_MAX = 2_000


class StepBug(NamedTuple):
    """A bug: in `core/steps.py`, `code` (found there once) is replaced by `wrong`."""

    name: str
    code: str
    wrong: str


BUGS: tuple[StepBug, ...] = (
    StepBug("one retry too many", "<= step.plan.max_retries", "<= step.plan.max_retries + 1"),
    StepBug("one retry too few", "<= step.plan.max_retries", "< step.plan.max_retries"),
    StepBug(
        "a loss is charged", "step.lost_in_a_row += 1", "step.lost_in_a_row += 1; step.charged += 1"
    ),
    StepBug("losses without end", "step.lost_in_a_row < STEP", "True or step.lost_in_a_row < STEP"),
    StepBug("losses are summed up for ever", "            step.lost_in_a_row = 0\n", ""),
    StepBug(
        "one too many at once",
        "compute.running < compute.capacity",
        "compute.running <= compute.capacity",
    ),
    StepBug(
        "a slot is never given back",
        "[step.plan.compute].running -= 1",
        "[step.plan.compute].running -= 0",
    ),
    StepBug(
        "the greatest capacity counts",
        "min(compute.capacity, capacity)",
        "max(compute.capacity, capacity + 1)",
    ),
    StepBug(
        "starts when one need is met", "if not dependent.missing and dependent", "if dependent"
    ),
    StepBug(
        "needs that are met are forgotten on resume",
        "dependent.missing -= 1\n            elif",
        "dependent.missing -= 0\n            elif",
    ),
    StepBug(
        "a recorded success runs again",
        "if known.state in TERMINAL_STATES:",
        "if known.state in TERMINAL_STATES and known.attempts == 0 and step.index:",
    ),
    StepBug("recorded attempts are forgotten", "step.charged = known.attempts", "step.charged = 0"),
    StepBug(
        "a cancel is forgotten on resume",
        "elif known.state is JobState.CANCEL_REQUESTED:",
        "elif known.state is JobState.FINALIZING:",
    ),
    StepBug(
        "the pipeline's cancel is forgotten on resume",
        "if event.cancel_requested:",
        "if event.cancel_requested and self._first_failed:",
    ),
    StepBug(
        "a failure is forgotten on resume",
        "if self._first_failed is not None and not self._continue:",
        "if False:",
    ),
    StepBug(
        "blame is not drawn on resume",
        "                self._blame(step, seen)\n",
        "                pass\n",
    ),
    StepBug(
        "a success that raced a stop is thrown away",
        'if event.outcome in ("completed", "reused"):',
        'if not asked and event.outcome in ("completed", "reused"):',
    ),
    StepBug(
        "what was stopped is tried again",
        "        elif asked:\n",
        '        elif asked and event.outcome == "stopped":\n',
    ),
    StepBug(
        "dependents of a canceled step wait for ever",
        "CANCELED, step.error)\n            self._blame(step)\n",
        "CANCELED, step.error)\n",
    ),
    StepBug(
        "blame goes one step far",
        "                todo.append(step)\n        because",
        "        because",
    ),
    StepBug(
        "a failure stops nothing",
        "        if self._continue:\n            self._blame",
        "        if True:\n            self._blame",
    ),
    StepBug(
        "a failure stops everything",
        "        if self._continue:\n            self._blame",
        "        if False:\n            self._blame",
    ),
    StepBug(
        "canceled while ready, and started",
        'if step.standing != "ready":',
        'if step.standing in ("completed", "failed"):',
    ),
    StepBug(
        "a cancel stops what waits only",
        'if step.standing == "running":\n                self._stop(step, None if',
        'if step.standing == "stopping":\n                self._stop(step, None if',
    ),
    StepBug("stopped twice", 'step.standing = "stopping"', 'step.standing = "running"'),
    StepBug(
        "canceled means failed",
        "        elif self._cancel_requested:\n",
        "        elif self._cancel_requested and self._first_failed is None:\n",
    ),
    StepBug(
        "failed means completed",
        "culprit = self._first_failed or self._first_canceled",
        "culprit = self._first_failed",
    ),
    StepBug(
        "closed steps are counted twice",
        "        self._open -= 1\n        if state",
        "        self._open -= 2\n        if state",
    ),
    StepBug("events after the end", "        if self._finished:\n            return []\n", ""),
    StepBug("late reports count", 'if step.standing not in ("running", "stopping"):', "if False:"),
)


def plant(bug: StepBug) -> MakeBook:
    """Return a `StepBook` with the bug."""
    spec = find_spec("batchpoint.core.steps")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert source.count(bug.code) == 1, f"{bug.name}: its code is there {source.count(bug.code)}x"
    module = types.ModuleType("mutant_steps")
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    try:
        exec(compile(source.replace(bug.code, bug.wrong), bug.name, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module.__dict__["StepBook"]


def found_by(bug: StepBug, seeds: Iterable[int]) -> int | None:
    """Return the first seed that finds the bug, None if none does."""
    make_book = plant(bug)
    for seed in seeds:
        try:
            PipelineRun(make_pipeline_world(seed), make_book).run()
        except (Violation, AssertionError, IndexError, KeyError):
            return seed
    return None


def main() -> int:
    """Plant every bug; return how many were not found."""
    missed = 0
    for bug in BUGS:
        seed = found_by(bug, range(SEEDS_MAX))
        missed += seed is None
        print(f"{bug.name}: {'NOT FOUND' if seed is None else f'found by seed {seed}'}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
