"""Endpoints, deployments and computes: created, updated, and deleted when nothing needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from batchpoint.clock import Clock
from batchpoint.control.assets import Assets, EnvironmentResolver
from batchpoint.control.merge_patch import patched
from batchpoint.control.model_parameters import DEPLOYMENT_WHERE, fitted
from batchpoint.control.scoring_script import check_scoring_script
from batchpoint.control.scoring_settings import with_defaults
from batchpoint.domain import limits
from batchpoint.domain.asset import Model
from batchpoint.domain.compute import Compute
from batchpoint.domain.endpoint import (
    BatchEndpoint,
    CodeConfiguration,
    EndpointDefaults,
    ModelDeployment,
)
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.job_spec import ResolvedCode, ResolvedEnvironment, ResolvedModel
from batchpoint.domain.model_shape import Noun
from batchpoint.domain.references import named_reference
from batchpoint.ledger.ledger import Ledger, Record

LOCAL = "local"
"""The compute that is always there: this machine."""


class Resolution(Noun):
    """The files and the interpreter a deployment came down to when it was created."""

    model: ResolvedModel
    code: ResolvedCode | None
    environment: ResolvedEnvironment


class Deployed(NamedTuple):
    """A deployment with all that its jobs need."""

    deployment: ModelDeployment
    resolution: Resolution


class Registry:
    """Endpoints, deployments and computes."""

    def __init__(
        self, ledger: Ledger, assets: Assets, environments: EnvironmentResolver, clock: Clock
    ) -> None:
        """Keep them in a ledger; assets and environments are resolved by these."""
        self._ledger = ledger
        self._assets = assets
        self._environments = environments
        self._clock = clock

    # --- endpoints -------------------------------------------------------------------------

    def put_endpoint(self, endpoint: BatchEndpoint) -> tuple[BatchEndpoint, bool]:
        """Create or update an endpoint; return it and whether it is new.

        An update that does not mention `defaults` keeps the default deployment.
        Raises: NotFound (`deployment_not_found`) when the default does not exist.
        """
        with self._ledger.atomic():
            known = self._ledger.get_resource("endpoint", endpoint.name)
            kept: dict[str, object] = {"provisioning_state": "Succeeded", "scoring_uri": None}
            kept["created_at"] = self._now()
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
        deployment: ModelDeployment,
        log: Callable[[str], None],
        *,
        set_default: bool = False,
        kept: Deployed | None = None,
    ) -> tuple[ModelDeployment, bool]:
        """Create or update a deployment; return it and whether it is new.

        All that can be wrong with model, script, environment and settings is found here. Jobs that
        run keep what they were resolved to. References that are those of `kept` stay resolved as
        they were, whatever became of the assets. Raises: Invalid, NotFound, Conflict; see
        `docs/errors`.
        """
        self.get_endpoint(deployment.endpoint_name)
        deployment = with_defaults(deployment)
        compute = self.get_compute(named_reference(deployment.compute, "compute"))
        check_instances(deployment.resources.instance_count or 1, compute)
        code_configuration, code = self._code(deployment.code_configuration, kept)
        model_reference, model = self._model(deployment.model, kept)
        if code is None and model.type != "mlflow_model":
            raise Invalid(
                "is needed: a model of type custom_model is scored by your own script; give code "
                "and scoring_script, or register the model with type mlflow_model",
                code="model_invalid",
                where="code_configuration",
            )
        if code is None:
            deployment = _with_typed_parameters(deployment, Path(model.path))
        if kept is not None and (deployment.environment, model) == (
            kept.deployment.environment,
            kept.resolution.model,
        ):
            environment_reference, resolved = deployment.environment, kept.resolution.environment
        else:
            environment_reference, environment = self._assets.resolve_environment(
                deployment.environment
            )
            resolved = self._environments.resolve(Path(model.path), environment, log)
        deployment = deployment.model_copy(
            update={
                "model": model_reference,
                "code_configuration": code_configuration,
                "environment": environment_reference,
                "compute": compute.name,
                "provisioning_state": "Succeeded",
                "created_at": self._now(),
            }
        )
        resolution = Resolution(model=model, code=code, environment=resolved)
        return self._save_deployment(deployment, resolution, set_default=set_default)

    def update_deployment(
        self, endpoint: str, name: str, patch: Mapping[str, object], log: Callable[[str], None]
    ) -> ModelDeployment:
        """Change fields of a deployment by a JSON merge patch; checked as when it is created.

        What the patch does not name stays as it was resolved, also when the asset is gone.
        Raises: as `put_deployment`.
        """
        kept = self.deployed(endpoint, name)
        stored = kept.deployment
        settings = patch.get("settings")
        if isinstance(settings, dict) and "instance_count" in settings:
            # Stored under resources, whichever of its two names it was given by.
            count = stored.resources.model_copy(update={"instance_count": None})
            stored = stored.model_copy(update={"resources": count})
        return self.put_deployment(patched(stored, patch), log, kept=kept)[0]

    def get_deployment(self, endpoint: str, name: str) -> ModelDeployment:
        """Return a deployment.

        Raises: NotFound (`endpoint_not_found`, `deployment_not_found`).
        """
        return self.deployed(endpoint, name).deployment

    def deployed(self, endpoint: str, name: str | None) -> Deployed:
        """Return a deployment with its resolution; None: the endpoint's default.

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
        assert record.resolution is not None
        return Deployed(
            ModelDeployment.model_validate_json(record.document),
            Resolution.model_validate_json(record.resolution),
        )

    def list_deployments(
        self, endpoint: str, limit: int, after: str | None
    ) -> list[ModelDeployment]:
        """Return deployments of an endpoint by name. Raises: NotFound (`endpoint_not_found`)."""
        self.get_endpoint(endpoint)
        found = self._ledger.list_resources("deployment", scope=endpoint, limit=limit, after=after)
        return [ModelDeployment.model_validate_json(record.document) for record in found]

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

    # --- computes --------------------------------------------------------------------------

    def put_compute(self, compute: Compute) -> tuple[Compute, bool]:
        """Create or update a compute; return it and whether it is new."""
        if compute.min_instances > compute.max_instances:
            raise Invalid(
                f"{compute.min_instances} is more than max_instances {compute.max_instances}",
                code="field_invalid",
                where="min_instances",
            )
        with self._ledger.atomic():
            known = self._ledger.get_resource("compute", compute.name)
            created_at = self._now()
            if known is not None:
                stored = Compute.model_validate_json(known.document)
                created_at = stored.created_at or created_at
            compute = compute.model_copy(
                update={"provisioning_state": "Succeeded", "created_at": created_at}
            )
            self._ledger.put_resource(
                "compute", compute.name, compute.model_dump_json(), now=self._clock.seconds()
            )
        return compute, known is None and compute.name != LOCAL

    def update_compute(self, name: str, patch: Mapping[str, object]) -> Compute:
        """Change fields of a compute by a JSON merge patch.

        Raises: NotFound (`compute_not_found`); Invalid (`field_invalid`, `field_unknown`).
        """
        with self._ledger.atomic():
            return self.put_compute(patched(self.get_compute(name), patch))[0]

    def get_compute(self, name: str) -> Compute:
        """Return a compute. Raises: NotFound (`compute_not_found`)."""
        record = self._ledger.get_resource("compute", name)
        if record is not None:
            return Compute.model_validate_json(record.document)
        if name == LOCAL:
            return _this_machine()
        raise NotFound(
            f"there is no compute named {name!r}; create it, or use compute 'local', which is "
            "always there",
            code="compute_not_found",
        )

    def list_computes(self, limit: int, after: str | None) -> list[Compute]:
        """Return computes by name, beginning after the name `after`."""
        found = [
            Compute.model_validate_json(record.document)
            for record in self._ledger.list_resources("compute", limit=limit, after=after)
        ]
        if (after or "") < LOCAL and self._ledger.get_resource("compute", LOCAL) is None:
            found = sorted([*found, _this_machine()], key=lambda compute: compute.name)
        return found[:limit]

    def delete_compute(self, name: str) -> None:
        """Delete a compute; `local` only goes back to what it was.

        Raises: NotFound (`compute_not_found`); Conflict (`conflict`) when a deployment uses it.
        """
        with self._ledger.atomic():
            self.get_compute(name)
            if name != LOCAL:
                for record in self._ledger.all_in_kind("deployment"):
                    if ModelDeployment.model_validate_json(record.document).compute == name:
                        raise Conflict(
                            f"compute {name!r} is used by deployment {record.name!r} of endpoint "
                            f"{record.scope!r}: update or delete that first"
                        )
            self._ledger.delete_resource("compute", name)

    # --- shared ----------------------------------------------------------------------------

    def _code(
        self, given: CodeConfiguration | None, kept: Deployed | None
    ) -> tuple[CodeConfiguration | None, ResolvedCode | None]:
        if kept is not None and given == kept.deployment.code_configuration:
            return given, kept.resolution.code
        if given is None:
            return None, None
        reference, code = self._assets.resolve_code(given.code, given.scoring_script)
        check_scoring_script(code)
        return given.model_copy(update={"code": reference}), code

    def _model(self, given: str | Model, kept: Deployed | None) -> tuple[str, ResolvedModel]:
        if kept is not None and isinstance(given, str) and given == kept.deployment.model:
            return given, kept.resolution.model
        return self._assets.resolve_model(given)

    def _save_deployment(
        self, deployment: ModelDeployment, resolution: Resolution, *, set_default: bool
    ) -> tuple[ModelDeployment, bool]:
        with self._ledger.atomic():
            # Resolving may have taken minutes: the endpoint may be gone by now.
            owner = self.get_endpoint(deployment.endpoint_name)
            known = self._ledger.get_resource(
                "deployment", deployment.name, scope=deployment.endpoint_name
            )
            if known is not None:
                stored = ModelDeployment.model_validate_json(known.document)
                deployment = deployment.model_copy(update={"created_at": stored.created_at})
            self._ledger.put_resource(
                "deployment",
                deployment.name,
                deployment.model_dump_json(),
                scope=deployment.endpoint_name,
                resolution=resolution.model_dump_json(),
                now=self._clock.seconds(),
            )
            if set_default:
                defaults = EndpointDefaults(deployment_name=deployment.name)
                self._save_endpoint(owner.model_copy(update={"defaults": defaults}))
        return deployment, known is None

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

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.seconds(), UTC)


def _with_typed_parameters(deployment: ModelDeployment, model: Path) -> ModelDeployment:
    """Return a deployment of a model with no code, its parameters as the model declares them."""
    typed = fitted(deployment.settings.parameters, model, DEPLOYMENT_WHERE)
    settings = deployment.settings.model_copy(update={"parameters": typed})
    return deployment.model_copy(update={"settings": settings})


def check_instances(count: int, compute: Compute) -> None:
    """Refuse more nodes than a compute may have. Raises: Invalid (`field_invalid`)."""
    if count > compute.max_instances:
        raise Invalid(
            f"{count} nodes are more than the max_instances {compute.max_instances} of compute "
            f"{compute.name!r}; ask for fewer, or raise it",
            code="field_invalid",
            where="instance_count",
        )


def _this_machine() -> Compute:
    return Compute(name=LOCAL, max_instances=limits.INSTANCES_MAX, provisioning_state="Succeeded")
