"""How a parallel component and its use in a pipeline become what a job scores with."""

from __future__ import annotations

from typing import NamedTuple

from batchpoint.domain.component import ParallelComponent, Step
from batchpoint.domain.compute import Compute
from batchpoint.domain.errors import Finding
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    ResolvedCode,
    ResolvedEnvironment,
    ResolvedModel,
    ScoreSpec,
    StepPlace,
)


def check_parallel(component: ParallelComponent, step: Step | None = None) -> list[Finding]:
    """Tell all that is wrong with what a parallel component, used by `step`, says of scoring.

    Places are fields of the component (`task.program_arguments`), or of the step where that
    replaces them; an empty list: `parallel_spec` will not refuse it.
    """
    raise NotImplementedError  # the body follows within the hour


class ScoringAssets(NamedTuple):
    """What a parallel step scores with, resolved: the code folder with `entry_script` (None for a
    model as it is), the model if the task names one, and the environment."""

    code: ResolvedCode | None
    model: ResolvedModel | None
    environment: ResolvedEnvironment


def parallel_spec(
    component: ParallelComponent,
    step: Step,
    *,
    place: StepPlace,
    source: JobInput,
    results_uri: str,
    assets: ScoringAssets,
    compute: Compute,
) -> ScoreSpec:
    """Return the specification of the step's scoring job.

    Args:
        component: the component, as registered.
        step: its use, whose fields replace the component's.
        place: the step's place in its pipeline, with its inputs and outputs.
        source: where the data of `input_data` lies, or will lie (`StepOutput.uri` of another step).
        results_uri: `uri_of(job_folder(home, CHILD).results)`, in the child's own folder.
        assets: what it scores with.
        compute: where it runs.

    Raises: Invalid (`findings.all_of` what `check_parallel` tells).
    """
    raise NotImplementedError  # the body follows within the hour
