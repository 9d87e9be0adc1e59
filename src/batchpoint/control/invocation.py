"""Invoking an endpoint: from a pointer to data to a job in which everything is decided."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from batchpoint.clock import Clock
from batchpoint.control.data_references import DataReferences
from batchpoint.control.input_checks import InputChecks
from batchpoint.control.model_parameters import fitted
from batchpoint.control.output_checks import OutputChecks
from batchpoint.control.registry import Deployed, Registry, check_instances
from batchpoint.control.scoring_settings import effective
from batchpoint.control.webhooks import Webhooks
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.ids import job_name, job_name_from
from batchpoint.domain.job import Invocation, Job, JobStatus
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.domain.references import InputKind
from batchpoint.ledger.ledger import Ledger
from batchpoint.tracing import current_traceparent

_NAME_DIGITS = 8


class Invocations:
    """Makes jobs. `wake` tells whoever runs jobs that there is one more."""

    def __init__(
        self,
        ledger: Ledger,
        registry: Registry,
        references: DataReferences,
        inputs: InputChecks,
        outputs: OutputChecks,
        clock: Clock,
        wake: Callable[[], object],
        webhooks: Webhooks | None = None,
    ) -> None:
        """Record jobs in a ledger, with inputs and outputs that were looked up and checked."""
        self._ledger = ledger
        self._registry = registry
        self._references = references
        self._clock = clock
        self._wake = wake
        self._webhooks = webhooks or Webhooks()
        self._inputs = inputs
        self._outputs = outputs

    def invoke(self, endpoint: str, body: Invocation, idempotency_key: str | None = None) -> Job:
        """Resolve everything a job needs, check that its input is there, and record it.

        The same key with the same body gives the job it gave before, whatever became of it.
        Raises: NotFound (`endpoint_not_found`, `deployment_not_found`, `compute_not_found`);
        Conflict (`default_deployment_unset`, `idempotency_conflict`, `output_exists`, `conflict`);
        Invalid (`input_not_found`, `input_unreadable`, `uri_invalid`, `field_invalid`).
        """
        if idempotency_key is not None and (
            not 0 < len(idempotency_key) <= limits.IDEMPOTENCY_KEY_LENGTH_MAX
        ):
            raise Invalid(
                f"has to have 1 to {limits.IDEMPOTENCY_KEY_LENGTH_MAX} characters",
                code="field_invalid",
                where="Idempotency-Key",
            )
        body_hash = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        known = self._ledger.job_of_key(endpoint, idempotency_key, body_hash)
        if known is None:
            try:
                job, notice = self._webhooks.notice(self._job(endpoint, body), body.webhook_url)
            except BatchpointError:
                # The same request, sent twice at once, may have made its job by now, and that may
                # even have written its output.
                known = self._ledger.job_of_key(endpoint, idempotency_key, body_hash)
                if known is None:
                    raise
            else:
                known = self._ledger.create_job(job, idempotency_key, body_hash, notice)
        self._wake()
        return known

    def kind_of(self, uri: str, guess: InputKind) -> InputKind:
        """Tell whether a pointer to data leads to a file or a folder; `guess` if none can be seen.

        Only for callers that do not say it: an invoke that is looked at twice takes longer.
        """
        try:
            self._inputs.checked(self._references.resolved_input(JobInput(type=guess, uri=uri)))
        except BatchpointError as error:
            if error.where == "input.type":
                return "uri_folder" if guess == "uri_file" else "uri_file"
        return guess

    def wake(self) -> None:
        """See to it that somebody runs the jobs there are."""
        self._wake()

    def cancel(self, job: str) -> Job:
        """Ask for a job to be stopped. Raises: NotFound (`job_not_found`)."""
        asked = self._ledger.request_cancel(job)
        self._wake()
        return asked

    def _job(self, endpoint: str, body: Invocation) -> Job:
        deployed = self._registry.deployed(endpoint, body.deployment_name)
        name = (
            job_name_from(self._clock.hexadecimal(_NAME_DIGITS), endpoint)
            if body.job_name is None
            else job_name(body.job_name)
        )
        return Job(
            name=name,
            spec=self._spec(endpoint, deployed, body, name),
            status=JobStatus(),
            created_at=datetime.fromtimestamp(self._clock.seconds(), UTC),
        )

    def _spec(self, endpoint: str, deployed: Deployed, body: Invocation, name: str) -> ScoreSpec:
        deployment, resolution = deployed
        compute = self._registry.get_compute(deployment.compute)
        settings = effective(deployment, body.overrides)
        if resolution.code is None:
            typed = fitted(settings.parameters, Path(resolution.model.path))
            settings = settings.model_copy(update={"parameters": typed})
        check_instances(settings.instance_count, compute)
        if body.input is None:
            raise Invalid("is missing: say what to score", code="field_invalid", where="input")
        source = self._inputs.checked(self._references.resolved_input(body.input))
        output = self._outputs.resolved(body.output, name)
        self._outputs.check(output, source.sources, name)
        return ScoreSpec(
            endpoint_name=endpoint,
            deployment_name=deployment.name,
            model=resolution.model,
            code=resolution.code,
            environment=resolution.environment,
            compute=compute.name,
            idle_seconds=compute.idle_time_before_scale_down,
            max_instances=compute.max_instances,
            settings=settings,
            input=source,
            traceparent=current_traceparent.get(),
            output=JobOutput(uri=output),
            experiment_name=body.experiment_name,
            tags=body.tags,
            description=body.description,
        )
