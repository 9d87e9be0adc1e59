"""Invoking an endpoint: from a pointer to data to a job in which everything is decided."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batchpoint.clock import Clock
from batchpoint.control.model_invocation import ModelInvocations
from batchpoint.control.prepared_pipeline import DeployedPipeline
from batchpoint.control.registry import Registry
from batchpoint.control.webhooks import Webhooks
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid
from batchpoint.domain.ids import job_name, job_name_from
from batchpoint.domain.job import Invocation, Job, JobStatus
from batchpoint.domain.model_shape import Noun
from batchpoint.domain.pipeline import PipelineJob
from batchpoint.domain.references import InputKind
from batchpoint.ledger.ledger import Ledger

if TYPE_CHECKING:  # whoever invokes models alone pays for no graphs
    from batchpoint.control.pipelines import Pipelines

_NAME_DIGITS = 8
_PIPELINE = "pipeline"


class Invocations:
    """Makes jobs. `wake` tells whoever runs jobs that there is one more."""

    def __init__(
        self,
        ledger: Ledger,
        registry: Registry,
        models: ModelInvocations,
        pipelines: Callable[[], Pipelines],
        clock: Clock,
        wake: Callable[[], object],
        webhooks: Webhooks | None = None,
    ) -> None:
        """Record jobs in a ledger; those that score are made by `models`.

        `pipelines` makes what makes the others, when the first of them is wanted.
        """
        self._ledger = ledger
        self._registry = registry
        self._models = models
        self._pipelines = pipelines
        self._clock = clock
        self._wake = wake
        self._webhooks = webhooks or Webhooks()

    def invoke(self, endpoint: str, body: Invocation, idempotency_key: str | None = None) -> Job:
        """Resolve everything a job needs, check that its input is there, and record it.

        The same key with the same body gives the job it gave before, whatever became of it.
        Raises: NotFound (`endpoint_not_found`, `deployment_not_found`, `compute_not_found`);
        Conflict (`default_deployment_unset`, `idempotency_conflict`, `output_exists`, `conflict`);
        Invalid (`input_not_found`, `input_unreadable`, `uri_invalid`, `field_invalid`).
        """
        return self._recorded(
            lambda: self._made(endpoint, body), endpoint, body, body.webhook_url, idempotency_key
        )

    def create_job(
        self,
        body: PipelineJob,
        idempotency_key: str | None = None,
        log: Callable[[str], None] = lambda _: None,
    ) -> Job:
        """Record a pipeline's job that needs no endpoint, with the jobs of its steps.

        Environments that are not there yet are built now; `log` takes the lines. The same key with
        the same body gives the job it gave before. Raises: as `invoke`, and as
        `Pipelines.prepared`: everything that is wrong with the steps, or with the values, at once.
        """

        def made() -> tuple[Job, list[Job]]:
            from batchpoint.control.pipeline_invocation import wish_of_job  # noqa: PLC0415

            pipelines = self._pipelines()
            prepared = pipelines.prepared_job(body, log)
            wish = wish_of_job(body, self._name(body.name, _PIPELINE), self._now())
            return pipelines.jobs(prepared, wish)

        try:
            return self._recorded(made, "", body, body.webhook_url, idempotency_key)
        except Conflict as error:
            if error.where == "job_name":
                error = Conflict(error.message, code=error.code, where="name")
            raise error from None

    def kind_of(self, uri: str, guess: InputKind) -> InputKind:
        """Tell whether a pointer to data leads to a file or a folder; `guess` if none can be seen.

        Only for callers that do not say it: an invoke that is looked at twice takes longer.
        """
        return self._models.kind_of(uri, guess)

    def wake(self) -> None:
        """See to it that somebody runs the jobs there are."""
        self._wake()

    def cancel(self, job: str) -> Job:
        """Ask for a job to be stopped. Raises: NotFound (`job_not_found`)."""
        asked = self._ledger.request_cancel(job)
        self._wake()
        return asked

    def _made(self, endpoint: str, body: Invocation) -> tuple[Job, list[Job]]:
        deployed = self._registry.deployed(endpoint, body.deployment_name)
        name = self._name(body.job_name, endpoint)
        if isinstance(deployed, DeployedPipeline):
            from batchpoint.control.pipeline_invocation import wish_of  # noqa: PLC0415

            wish = wish_of(endpoint, deployed, body, name, self._now())
            return self._pipelines().jobs(deployed.resolution, wish)
        spec = self._models.spec(endpoint, deployed, body, name)
        return Job(name=name, spec=spec, status=JobStatus(), created_at=self._now()), []

    def _recorded(
        self,
        made: Callable[[], tuple[Job, list[Job]]],
        endpoint: str,
        request: Noun,
        webhook_url: str | None,
        idempotency_key: str | None,
    ) -> Job:
        """Record what `made` makes, unless the key has made a job already; return the job."""
        if idempotency_key is not None and (
            not 0 < len(idempotency_key) <= limits.IDEMPOTENCY_KEY_LENGTH_MAX
        ):
            raise Invalid(
                f"has to have 1 to {limits.IDEMPOTENCY_KEY_LENGTH_MAX} characters",
                code="field_invalid",
                where="Idempotency-Key",
            )
        body_hash = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        known = self._ledger.job_of_key(endpoint, idempotency_key, body_hash)
        if known is None:
            try:
                job, children = made()
                job, notice = self._webhooks.notice(job, webhook_url)
            except BatchpointError:
                # The same request, sent twice at once, may have made its job by now, and that may
                # even have written its output.
                known = self._ledger.job_of_key(endpoint, idempotency_key, body_hash)
                if known is None:
                    raise
            else:
                known = self._ledger.create_job(
                    job, idempotency_key, body_hash, notice, children=children
                )
        self._wake()
        return known

    def _name(self, given: str | None, told: str) -> str:
        if given is not None:
            return job_name(given)
        return job_name_from(self._clock.hexadecimal(_NAME_DIGITS), told)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.seconds(), UTC)
