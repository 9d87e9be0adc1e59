"""A parallel step of a pipeline: its own scoring job, run by its parent's runner to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from batchpoint.clock import Clock
from batchpoint.domain import limits
from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import (
    TERMINAL_STATES,
    ErrorInfo,
    Job,
    JobState,
    JobStatus,
    Progress,
    PublishedOutput,
)
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.engines.interface import Engine
from batchpoint.formats.layout import JobFolder
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.step_files import StepFiles
from batchpoint.runner import causes
from batchpoint.runner.score_runner import RunnerParts, ScoreRunner

StepOutcome = Literal["completed", "failed", "stopped", "lost"]
_OUTCOMES: dict[JobState, StepOutcome] = {
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELED: "stopped",
}


@dataclass(frozen=True, slots=True)
class ScoreStepParts:
    """What a parallel step is run with; put together by `batchpoint.wiring`.

    `engine_for` makes the engine of the child as it is really run, under its epoch. `folder` is the
    child's own. `owner` names the runner in the ledger. `prepare` makes sure that the child's
    environment can be used (see `RunnerParts`). `access` opens all that the step reads and writes.
    `variables` tell scripts where they run; those of the step win over them. `epoch` is that of
    the pipeline's lease, which holds for what is published.
    """

    ledger: Ledger
    engine_for: Callable[[Job, int], Engine]
    clock: Clock
    folder: JobFolder
    owner: str
    prepare: Callable[[], list[str]]
    access: StorageAccess = field(default_factory=StorageAccess, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """How a parallel step ended; `outputs` are published when it completed, and only then.

    `status` is the last status of the child, terminal: whoever runs the pipeline records it, in the
    transaction in which the step counts as ended. "lost": somebody else has taken the child; there
    is no status then and nothing was decided.
    """

    outcome: StepOutcome
    error: ErrorInfo | None = None
    outputs: Mapping[str, PublishedOutput] = field(default_factory=dict[str, PublishedOutput])
    progress: Progress = field(default_factory=Progress)
    status: JobStatus | None = None


async def run_score_step(
    child: Job, inputs: Mapping[str, Scalar | JobInput], parts: ScoreStepParts
) -> StepResult:
    """Run the scoring job of a step from what is committed to its end, and publish its outputs.

    While this runs, the child's row is written under an epoch of its own that nobody else has:
    progress, checkpoints. Its end is not: the caller records `StepResult.status`. A child that has
    ended already is not run again. Asked for in the ledger (`request_cancel` of the child), the
    scoring is stopped and the outcome is "stopped"; cancelling the caller leaves everything as it
    is committed, for the next runner.

    Args:
        child: the step's job, whose specification scores.
        inputs: the values that hold now, as in `CommandOrder`: literals, and data where it really
            lies. Inputs without a value are absent.
        parts: what it is run with.
    """
    epoch = await asyncio.to_thread(
        parts.ledger.acquire_lease,
        child.name,
        parts.owner,
        parts.clock.seconds(),
        limits.LEASE_SECONDS,
        force=True,
    )
    now = await asyncio.to_thread(parts.ledger.get_job, child.name)
    if epoch is None:
        assert now.status.state in TERMINAL_STATES, now.status.state
        return _result(now.status)
    files = StepFiles(now, inputs, parts.folder, parts.access, epoch=parts.epoch)
    actual = now.model_copy(update={"spec": _with_variables(files.actual, parts.variables)})
    ends: list[JobStatus] = []
    runner = ScoreRunner(
        actual,
        epoch,
        RunnerParts(
            ledger=parts.ledger,
            engine=parts.engine_for(actual, epoch),
            clock=parts.clock,
            folder=parts.folder,
            prepare=lambda: [*parts.prepare(), *files.prepare()],
            access=parts.access,
            publish=files.publish,
            finish=ends.append,
        ),
    )
    try:
        await runner.run()
    except Unavailable as error:
        if error.code != "lease_lost":
            raise
        return StepResult("lost", causes.cause_from(error))
    finally:
        files.stop()
    return _result(ends[-1])


def _with_variables(spec: ScoreSpec, variables: Mapping[str, str]) -> ScoreSpec:
    own = {**variables, **spec.settings.environment_variables}
    settings = spec.settings.model_copy(update={"environment_variables": own})
    return spec.model_copy(update={"settings": settings})


def _result(status: JobStatus) -> StepResult:
    return StepResult(
        _OUTCOMES[status.state], status.error, status.outputs, status.progress, status
    )
