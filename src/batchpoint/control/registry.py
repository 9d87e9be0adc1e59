"""Endpoints, deployments and computes: created, updated, and deleted when nothing needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from batchpoint.clock import Clock
from batchpoint.control.computes import Computes, read_deployment
from batchpoint.control.merge_patch import patched
from batchpoint.control.model_deployments import DeployedModel, ModelDeployments, Resolution
from batchpoint.control.prepared_pipeline import DeployedPipeline, PreparedPipeline
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import BatchEndpoint, EndpointDefaults, ModelDeployment
from batchpoint.domain.errors import Conflict, NotFound
from batchpoint.domain.model_shape import snake
from batchpoint.domain.pipeline import PipelineDeployment
from batchpoint.ledger.ledger import Ledger, Record

if TYPE_CHECKING:  # whoever deploys models alone pays for no graphs
    from batchpoint.control.pipeline_deployments import PipelineDeployments

_OfKind = TypeVar("_OfKind", bound=ModelDeployment | PipelineDeployment)
Deployed = DeployedModel | DeployedPipeline
"""A deployment of either kind with all that its jobs need."""


class Registry(Computes):
    """Endpoints, deployments of both kinds, and computes."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        models: ModelDeployments,
        pipelines: Callable[[], PipelineDeployments],
    ) -> None:
        """Keep them in a ledger; what deployments name is resolved by these.

        `pipelines` is called when the first deployment of one is made.
        """
        super().__init__(ledger, clock)
        self._models = models
        self._pipelines = pipelines

    # --- endpoints -------------------------------------------------------------------------

    def put_endpoint(self, endpoint: BatchEndpoint) -> tuple[BatchEndpoint, bool]:
        """Create or update an endpoint; return it and whether it is new.

        An update that does not mention `defaults` keeps the default deployment.
        Raises: NotFound (`deployment_not_found`) when the default does not exist.
        """
        with self._ledger.atomic():
            known = self._ledger.get_resource("endpoint", endpoint.name)
            kept: dict[str, object] = {"provisioning_state": "Succeeded", "scoring_uri": None}
            kept["created_at"] = self.now()
            if known is not None:
                stored = BatchEndpoint.model_validate_json(known.document)
                kept["created_at"] = stored.created_at
                if "defaults" not in endpoint.model_fields_set:
                    kept["defaults"] = stored.defaults
            endpoint = endpoint.model_copy(update=kept)
            default = endpoint.defaults.deployment_name
            if default is not None:
                self._deployment_record(endpoint.name, default)
            self._save_endpoint(endpoint)
        return endpoint, known is None

    def update_endpoint(self, name: str, patch: Mapping[str, object]) -> BatchEndpoint:
        """Change fields of an endpoint by a JSON merge patch; the default switches atomically.

        Raises: NotFound (`endpoint_not_found`, `deployment_not_found`); Invalid (`field_invalid`,
        `field_unknown`).
        """
        with self._ledger.atomic():
            changed = patched(self.get_endpoint(name), patch)
            return self.put_endpoint(changed)[0]

    def get_endpoint(self, name: str) -> BatchEndpoint:
        """Return an endpoint. Raises: NotFound (`endpoint_not_found`)."""
        record = self._ledger.get_resource("endpoint", name)
        if record is None:
            raise NotFound(
                f"there is no endpoint named {name!r}; `batchpoint endpoint list` shows those "
                "there are",
                code="endpoint_not_found",
            )
        return BatchEndpoint.model_validate_json(record.document)

    def list_endpoints(self, limit: int, after: str | None) -> list[BatchEndpoint]:
        """Return endpoints by name, beginning after the name `after`."""
        found = self._ledger.list_resources("endpoint", limit=limit, after=after)
        return [BatchEndpoint.model_validate_json(record.document) for record in found]

    def delete_endpoint(self, name: str, *, force: bool = False) -> None:
        """Delete an endpoint and its deployments; jobs that run go on with what they have.

        Raises: NotFound (`endpoint_not_found`); Conflict (`endpoint_in_use`) when jobs run, unless
        `force`.
        """
        with self._ledger.atomic():
            self.get_endpoint(name)
            if not force:
                self._refuse_if_running(name, None, "endpoint_in_use")
            self._ledger.delete_scope("deployment", name)
            self._ledger.delete_resource("endpoint", name)

    # --- deployments -----------------------------------------------------------------------

    def put_deployment(
        self,
        deployment: _OfKind,
        log: Callable[[str], None],
        *,
        set_default: bool = False,
        kept: Deployed | None = None,
    ) -> tuple[_OfKind, bool]:
        """Create or update a deployment; return it and whether it is new.

        All that can be wrong with what it names is found here. Jobs that run keep what they were
        resolved to. References that are those of `kept` stay resolved as they were, whatever
        became of the assets. Raises: Invalid, NotFound, Conflict; see `docs/errors`.
        """
        self.get_endpoint(deployment.endpoint_name)
        made: Deployed
        if isinstance(deployment, ModelDeployment):
            kept = kept if isinstance(kept, DeployedModel) else None
            made = self._models.resolved(deployment, log, kept)
        else:
            if None not in (deployment.component, deployment.job_definition) and kept is None:
                kept = self._stored(deployment)  # sent back as it was shown
            kept = kept if isinstance(kept, DeployedPipeline) else None
            made = self._pipelines().resolved(deployment, log, kept)
        stored, is_new = self._save_deployment(made, set_default=set_default)
        return cast("_OfKind", stored), is_new

    def update_deployment(
        self, endpoint: str, name: str, patch: Mapping[str, object], log: Callable[[str], None]
    ) -> Deployment:
        """Change fields of a deployment by a JSON merge patch; checked as when it is created.

        What the patch does not name stays as it was resolved, also when the asset is gone.
        Raises: as `put_deployment`; Conflict (`conflict`) when it would become one of another type.
        """
        kept = self.deployed(endpoint, name)
        stored = kept.deployment
        if patch.get("type") is not None and snake(patch["type"]) != stored.type:
            raise Conflict(
                f"deployment {name!r} is of type {stored.type} and stays so: make another one of "
                f"type {snake(patch['type'])} and make it the default",
                where="type",
            )
        if isinstance(stored, PipelineDeployment):
            changed: Deployment = patched(stored, _one_source(patch))
        else:
            changed = patched(_one_count(stored, patch), patch)
        return self.put_deployment(changed, log, kept=kept)[0]

    def get_deployment(self, endpoint: str, name: str) -> Deployment:
        """Return a deployment.

        Raises: NotFound (`endpoint_not_found`, `deployment_not_found`).
        """
        return self.deployed(endpoint, name).deployment

    def deployed(self, endpoint: str, name: str | None) -> Deployed:
        """Return a deployment of either kind with its resolution; None: the endpoint's default.

        Raises: NotFound (`endpoint_not_found`, `deployment_not_found`); Conflict
        (`default_deployment_unset`).
        """
        with self._ledger.reading():
            default = self.get_endpoint(endpoint).defaults.deployment_name
            wanted = default if name is None else name
            if wanted is None:
                raise Conflict(
                    f"endpoint {endpoint!r} has no default deployment: name a deployment, or set "
                    f"one with `batchpoint endpoint update --name {endpoint} --set "
                    "defaults.deployment_name=NAME`",
                    code="default_deployment_unset",
                )
            record = self._deployment_record(endpoint, wanted)
        return _deployed(record)

    def list_deployments(self, endpoint: str, limit: int, after: str | None) -> list[Deployment]:
        """Return deployments of an endpoint by name. Raises: NotFound (`endpoint_not_found`)."""
        self.get_endpoint(endpoint)
        found = self._ledger.list_resources("deployment", scope=endpoint, limit=limit, after=after)
        return [read_deployment(record.document) for record in found]

    def delete_deployment(self, endpoint: str, name: str, *, force: bool = False) -> None:
        """Delete a deployment; jobs that run go on with what they have.

        Raises: NotFound; Conflict (`deployment_in_use`) when it is the endpoint's default or its
        jobs run, unless `force`, which also unsets the default.
        """
        with self._ledger.atomic():
            owner = self.get_endpoint(endpoint)
            self._deployment_record(endpoint, name)
            is_default = owner.defaults.deployment_name == name
            if is_default and not force:
                raise Conflict(
                    f"deployment {name!r} is the default of endpoint {endpoint!r}: make another "
                    "one the default first, or delete it by force",
                    code="deployment_in_use",
                )
            if not force:
                self._refuse_if_running(endpoint, name, "deployment_in_use")
            if is_default:
                self._save_endpoint(owner.model_copy(update={"defaults": EndpointDefaults()}))
            self._ledger.delete_resource("deployment", name, scope=endpoint)

    # --- shared ----------------------------------------------------------------------------

    def _save_deployment(self, made: Deployed, *, set_default: bool) -> tuple[Deployment, bool]:
        told: dict[str, object] = {"provisioning_state": "Succeeded", "created_at": self.now()}
        with self._ledger.atomic():
            # Resolving may have taken minutes: the endpoint may be gone by now.
            owner = self.get_endpoint(made.deployment.endpoint_name)
            known = self._ledger.get_resource(
                "deployment", made.deployment.name, scope=made.deployment.endpoint_name
            )
            if known is not None:
                told["created_at"] = read_deployment(known.document).created_at
            deployment = made.deployment.model_copy(update=told)
            self._ledger.put_resource(
                "deployment",
                deployment.name,
                deployment.model_dump_json(),
                scope=deployment.endpoint_name,
                resolution=made.resolution.model_dump_json(),
                now=self._clock.seconds(),
            )
            if set_default:
                defaults = EndpointDefaults(deployment_name=deployment.name)
                self._save_endpoint(owner.model_copy(update={"defaults": defaults}))
        return deployment, known is None

    def _stored(self, deployment: PipelineDeployment) -> Deployed | None:
        record = self._ledger.get_resource(
            "deployment", deployment.name, scope=deployment.endpoint_name
        )
        return None if record is None else _deployed(record)

    def _save_endpoint(self, endpoint: BatchEndpoint) -> None:
        self._ledger.put_resource(
            "endpoint", endpoint.name, endpoint.model_dump_json(), now=self._clock.seconds()
        )

    def _deployment_record(self, endpoint: str, name: str) -> Record:
        record = self._ledger.get_resource("deployment", name, scope=endpoint)
        if record is None:
            raise NotFound(
                f"endpoint {endpoint!r} has no deployment named {name!r}; `batchpoint deployment "
                f"list --endpoint-name {endpoint}` shows those there are",
                code="deployment_not_found",
            )
        return record

    def _refuse_if_running(self, endpoint: str, deployment: str | None, code: str) -> None:
        running = self._ledger.open_jobs(endpoint, deployment, limit=3)
        if running:
            what = f"endpoint {endpoint!r}"
            if deployment is not None:
                what = f"deployment {deployment!r} of {what}"
            raise Conflict(
                f"{what} has jobs that have not ended ({', '.join(running)}): wait for them, "
                "cancel them, or delete it by force, and they go on without it",
                code=code,
            )


def _deployed(record: Record) -> Deployed:
    assert record.resolution is not None
    deployment = read_deployment(record.document)
    if isinstance(deployment, ModelDeployment):
        return DeployedModel(deployment, Resolution.model_validate_json(record.resolution))
    return DeployedPipeline(deployment, PreparedPipeline.model_validate_json(record.resolution))


def _one_source(patch: Mapping[str, object]) -> dict[str, object]:
    """Return a patch of a deployment in which a new component takes the place of its job.

    And the other way round: a stored deployment holds both, and only one can be meant.
    """
    both = ("component", "job_definition")
    named = [field for field in both if patch.get(field) is not None]
    if len(named) != 1:
        return dict(patch)
    other = both[1 - both.index(named[0])]
    return {**patch, other: None}


def _one_count(stored: ModelDeployment, patch: Mapping[str, object]) -> ModelDeployment:
    """Return a deployment without the count of its nodes, when a patch gives that by another name.

    It is stored under resources, whichever of its two names it was given by.
    """
    settings = patch.get("settings")
    if not isinstance(settings, dict) or "instance_count" not in settings:
        return stored
    count = stored.resources.model_copy(update={"instance_count": None})
    return stored.model_copy(update={"resources": count})
