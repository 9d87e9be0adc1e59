"""Where a runner's concrete classes meet: one that scores, or one that runs a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchpoint.clock import SystemClock
from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.domain.job import Job, JobStatus, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import NodeSpec, PipelineSpec, ResolvedEnvironment
from batchpoint.engines.local import LocalEngine, LocalPlace
from batchpoint.engines.local_commands import LocalCommands
from batchpoint.formats.layout import job_folder
from batchpoint.ledger.ledger import Ledger
from batchpoint.runner.job_spans import JobSpans
from batchpoint.runner.mlflow_experiments import make_experiment
from batchpoint.runner.pipeline_runner import PipelineRunner
from batchpoint.runner.score_runner import RunnerParts, ScoreRunner
from batchpoint.runner.score_step import ScoreStepParts, StepResult, run_score_step
from batchpoint.runner.step_inputs import experiment_of, variables_for
from batchpoint.runner.step_run import PipelineParts
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.storage.content_identity import content_identity
from batchpoint.storage.locate import is_local
from batchpoint.tracing import tracing_from

if TYPE_CHECKING:  # slow to import, and not every job needs them
    from batchpoint.control.datastores import Datastores
    from batchpoint.node.environment import EnvironmentBuilder

_THREADS_MAX = 32


@dataclass(frozen=True, slots=True)
class RunnerPlace:
    """What runners of one home have in common; the callables make things that are slow to import.

    `register` makes the asset that an output of a step asks for (see `PipelineParts`).
    """

    home: Path
    ledger: Ledger
    builder: Callable[[], EnvironmentBuilder]
    datastores: Callable[[], Datastores]
    register: Callable[[Job, str, PublishedOutput], PublishedOutput]
    environ: Mapping[str, str]


def run_job(place: RunnerPlace, arguments: Mapping[str, Any], lifeline: int) -> None:
    """Run one job in this process (a child of the zygote) and return when it has ended."""
    job = place.ledger.get_job(arguments["job"])
    epoch: int = arguments["epoch"]
    tracing = tracing_from(place.environ, "batchpoint-runner")
    saw: Callable[[JobStatus], None] = (
        (lambda _: None) if tracing is None else JobSpans(tracing.tracer, job, SystemClock()).saw
    )

    async def run() -> None:
        asyncio.get_running_loop().add_reader(lifeline, os._exit, 1)
        try:
            if isinstance(job.spec, PipelineSpec):
                await _run_pipeline(place, job, epoch, saw)
            else:
                await _run_scoring(place, job, epoch, saw)
        except Unavailable as error:
            if error.code != "lease_lost":
                raise

    asyncio.run(run())
    if tracing is not None:
        tracing.close()


async def _run_scoring(
    place: RunnerPlace, job: Job, epoch: int, saw: Callable[[JobStatus], None]
) -> None:

    spec = job.scoring
    access, locked_out = StorageAccess(), None
    try:
        access = _access(place, spec.places)
    except BatchpointError as error:  # a datastore, or the key of its secrets, is gone
        locked_out = error

    def prepare() -> list[str]:
        if locked_out is not None:
            raise locked_out
        return _prepared(place, spec.environment)

    parts = RunnerParts(
        ledger=place.ledger,
        engine=LocalEngine(job, epoch, _local_place(place, job, access)),
        clock=SystemClock(),
        folder=job_folder(place.home, job.name),
        prepare=prepare,
        access=access,
        saw=saw,
    )
    await ScoreRunner(job, epoch, parts).run()


async def _run_pipeline(
    place: RunnerPlace, job: Job, epoch: int, saw: Callable[[JobStatus], None]
) -> None:

    # Steps that score, and nodes that were lost, block in threads of this one; made when needed.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS_MAX))
    await PipelineRunner(job, epoch, _pipeline_parts(place, job, epoch, saw)).run()


def _pipeline_parts(
    place: RunnerPlace, job: Job, epoch: int, saw: Callable[[JobStatus], None]
) -> PipelineParts:

    tracking_uri = place.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        runs = (place.home / "mlflow").resolve()
        tracking_uri = runs.as_uri()
        with contextlib.suppress(OSError):  # steps that log say so themselves
            make_experiment(runs, experiment_of(job.spec), SystemClock().now())

    async def score(
        child: Job, inputs: Mapping[str, Scalar | JobInput], access: StorageAccess
    ) -> StepResult:
        parts = ScoreStepParts(
            ledger=place.ledger,
            engine_for=lambda actual, own: LocalEngine(
                actual, own, _local_place(place, actual, access)
            ),
            clock=SystemClock(),
            folder=job_folder(place.home, child.name),
            owner=f"{job.name}:{epoch}",
            prepare=list,  # the environment is ready when a step begins
            access=access,
            variables=variables_for(child, tracking_uri),
            epoch=epoch,
        )
        return await run_score_step(child, inputs, parts)

    return PipelineParts(
        ledger=place.ledger,
        engine=LocalCommands(job, _local_place(place, job, StorageAccess())),
        clock=SystemClock(),
        folder_of=lambda name: job_folder(place.home, name),
        prepare=lambda environment: _prepared(place, environment),
        open_data=lambda uris: _access(place, uris),
        identify=content_identity,
        register=place.register,
        score=score,
        tracking_uri=tracking_uri,
        saw=saw,
    )


def _prepared(place: RunnerPlace, environment: ResolvedEnvironment) -> list[str]:
    """Make sure that an environment can be used; blocking."""
    place.builder().ensure(environment)
    return environment.notes


def _access(place: RunnerPlace, uris: Iterable[str]) -> StorageAccess:
    """Return what opens data; raises BatchpointError when a datastore, or its key, is gone."""
    remote = [uri for uri in uris if not is_local(uri)]
    return place.datastores().access_for(remote) if remote else StorageAccess()


def _local_place(place: RunnerPlace, job: Job, access: StorageAccess) -> LocalPlace:

    return LocalPlace(
        supervisor_socket=SupervisorLink(place.home).socket_path,
        job_dir=job_folder(place.home, job.name).root,
        max_instances=job.spec.max_instances if isinstance(job.spec, NodeSpec) else 1,
        access=access,
    )
