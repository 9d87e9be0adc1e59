"""Deployments of pipelines: from a component, or from a pipeline job that has completed."""

from __future__ import annotations

from collections.abc import Callable

from batchpoint.control.assets import Assets
from batchpoint.control.collected_findings import CollectedFindings
from batchpoint.control.pipelines import Pipelines
from batchpoint.control.prepared_pipeline import DeployedPipeline
from batchpoint.core.input_values import is_literal
from batchpoint.domain.component import PipelineComponent
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.job import Job, JobState
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import PipelineSpec
from batchpoint.domain.pipeline import PipelineDeployment, PipelineSettings
from batchpoint.domain.references import NamedReference, named_reference
from batchpoint.ledger.ledger import Ledger

_FROM_JOB = "job_definition"


class PipelineDeployments:
    """Resolves what deployments of pipelines name."""

    def __init__(self, ledger: Ledger, assets: Assets, pipelines: Pipelines) -> None:
        """Look things up in these."""
        self._ledger = ledger
        self._assets = assets
        self._pipelines = pipelines

    def resolved(
        self,
        deployment: PipelineDeployment,
        log: Callable[[str], None],
        kept: DeployedPipeline | None,
    ) -> DeployedPipeline:
        """Return a deployment with its component registered, checked and resolved.

        What is the same in `kept` stays as it was. An inline component, and one that is made of a
        job, is registered anonymously. Raises: Invalid, NotFound, Conflict, all findings at once.
        """
        given, job = deployment.component, deployment.job_definition
        settings = deployment.settings
        if kept is not None and (given, job) == (
            kept.deployment.component,
            kept.deployment.job_definition,
        ):
            self._pipelines.check_settings(settings)
            return DeployedPipeline(deployment, kept.resolution)
        where = "component"
        if job is not None:
            if given is not None:
                raise Invalid(
                    "is given beside component; keep one: the steps to deploy, or the job to take "
                    "them from",
                    code="field_invalid",
                    where=_FROM_JOB,
                )
            given, settings, job = self._of_job(job, settings)
            where = _FROM_JOB
        assert given is not None  # the noun has one of both
        reference, prepared = self._pipelines.prepared(given, settings, log, where=where)
        told = {"component": reference, "job_definition": job, "settings": settings}
        return DeployedPipeline(deployment.model_copy(update=told), prepared)

    def _of_job(
        self, definition: str, settings: PipelineSettings
    ) -> tuple[PipelineComponent, PipelineSettings, str]:
        """Make a component of a job: its shape, its literals as defaults, its data required."""
        name = named_reference(definition, "job")
        collected = CollectedFindings()
        job = collected.tried(_FROM_JOB, lambda: self._ledger.get_job(name))
        collected.raise_any()
        assert job is not None
        spec = _completed(job)
        try:
            _, component = self._assets.components.found(spec.component)
        except NotFound as error:
            raise NotFound(
                f"the component {spec.component} that job {name!r} ran is not registered any more; "
                "deploy another component",
                code="component_not_found",
                where=_FROM_JOB,
            ) from error
        assert isinstance(component, PipelineComponent)
        inputs = dict(component.inputs)
        for key, value in spec.inputs.items():
            if key in inputs and not isinstance(value, JobInput):
                inputs[key] = inputs[key].model_copy(update={"default": value})
        for key, declared in inputs.items():
            if not is_literal(declared.type):
                inputs[key] = declared.model_copy(update={"default": None})
        made = component.model_copy(
            update={"name": None, "version": None, "created_at": None, "inputs": inputs}
        )
        kept_settings = {
            "default_compute": spec.default_compute,
            "default_datastore": spec.default_datastore,
            "continue_on_step_failure": spec.continue_on_step_failure,
        } | settings.model_dump(exclude_none=True)
        filled = PipelineSettings.model_validate(kept_settings)
        return made, filled, str(NamedReference("job", name))


def _completed(job: Job) -> PipelineSpec:
    if not isinstance(job.spec, PipelineSpec):
        raise Invalid(
            f"job {job.name!r} is a {job.spec.type} job, and only pipeline jobs can be deployed",
            code="job_type_wrong",
            where=_FROM_JOB,
        )
    if job.status.state is not JobState.COMPLETED:
        raise Conflict(
            f"job {job.name!r} is {job.status.state.value}, and only a job that has completed can "
            "be deployed; wait for it, or name another one",
            code="job_not_finished",
            where=_FROM_JOB,
        )
    return job.spec
