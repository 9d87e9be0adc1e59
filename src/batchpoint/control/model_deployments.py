"""Deployments of models: all that can be wrong with one is found when it is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from batchpoint.control.assets import Assets, EnvironmentResolver
from batchpoint.control.computes import Computes, check_instances
from batchpoint.control.model_parameters import DEPLOYMENT_WHERE, fitted
from batchpoint.control.scoring_script import check_scoring_script
from batchpoint.control.scoring_settings import with_defaults
from batchpoint.domain.asset import Model
from batchpoint.domain.endpoint import CodeConfiguration, ModelDeployment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_spec import ResolvedCode, ResolvedEnvironment, ResolvedModel
from batchpoint.domain.model_shape import Noun
from batchpoint.domain.references import named_reference


class Resolution(Noun):
    """The files and the interpreter a deployment came down to when it was created."""

    model: ResolvedModel
    code: ResolvedCode | None
    environment: ResolvedEnvironment


class DeployedModel(NamedTuple):
    """A deployment of a model with all that its jobs need."""

    deployment: ModelDeployment
    resolution: Resolution


class ModelDeployments:
    """Resolves what deployments of models name."""

    def __init__(
        self, assets: Assets, environments: EnvironmentResolver, computes: Computes
    ) -> None:
        """Look things up in these."""
        self._assets = assets
        self._environments = environments
        self._computes = computes

    def resolved(
        self, deployment: ModelDeployment, log: Callable[[str], None], kept: DeployedModel | None
    ) -> DeployedModel:
        """Return a deployment with every default applied and every reference canonical.

        References that are those of `kept` stay resolved as they were, whatever became of the
        assets. Raises: Invalid, NotFound, Conflict; see `docs/errors`.
        """
        deployment = with_defaults(deployment)
        compute = self._computes.get_compute(named_reference(deployment.compute, "compute"))
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
            }
        )
        return DeployedModel(deployment, Resolution(model=model, code=code, environment=resolved))

    def _code(
        self, given: CodeConfiguration | None, kept: DeployedModel | None
    ) -> tuple[CodeConfiguration | None, ResolvedCode | None]:
        if kept is not None and given == kept.deployment.code_configuration:
            return given, kept.resolution.code
        if given is None:
            return None, None
        reference, code = self._assets.resolve_code(given.code, given.scoring_script)
        check_scoring_script(code)
        return given.model_copy(update={"code": reference}), code

    def _model(self, given: str | Model, kept: DeployedModel | None) -> tuple[str, ResolvedModel]:
        if kept is not None and isinstance(given, str) and given == kept.deployment.model:
            return given, kept.resolution.model
        return self._assets.resolve_model(given)


def _with_typed_parameters(deployment: ModelDeployment, model: Path) -> ModelDeployment:
    """Return a deployment of a model with no code, its parameters as the model declares them."""
    typed = fitted(deployment.settings.parameters, model, DEPLOYMENT_WHERE)
    settings = deployment.settings.model_copy(update={"parameters": typed})
    return deployment.model_copy(update={"settings": settings})
