"""The settings a job scores with: what was given, the server's defaults, and what excludes what."""

from __future__ import annotations

import re

from batchpoint.control.model_parameters import DEPLOYMENT_WHERE, check_names, merged
from batchpoint.domain.endpoint import DeploymentSettings, ModelDeployment, Resources
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Overrides
from batchpoint.domain.job_spec import ScoringSettings

INSTANCE_COUNT = 1
CONCURRENCY_PER_INSTANCE = 1
MINI_BATCH_SIZE = 10
MAX_RETRIES = 3
OUTPUT_FILE_NAME = "predictions.csv"
OUTPUT_SUFFIXES = (".csv", ".parquet", ".jsonl")

_FILE_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def with_defaults(deployment: ModelDeployment) -> ModelDeployment:
    """Fill in what a deployment leaves unset, and check that its settings go together.

    `timeout` stays unset (adaptive) and so does `error_threshold` (quarantine).
    Raises: Invalid (`field_invalid`) naming the field.
    """
    given = deployment.settings
    counts = (deployment.resources.instance_count, given.instance_count)
    if None not in counts:
        raise Invalid(
            "is given here and in resources.instance_count; give it once",
            code="field_invalid",
            where="settings.instance_count",
        )
    if given.output_action == "summary_only" and given.output_file_name is not None:
        raise Invalid(
            "means nothing with output_action summary_only, which writes no predictions file; "
            "remove one of them",
            code="field_invalid",
            where="settings.output_file_name",
        )
    retry = given.retry_settings
    filled: dict[str, object] = {
        "instance_count": None,
        "max_concurrency_per_instance": given.max_concurrency_per_instance
        or CONCURRENCY_PER_INSTANCE,
        "mini_batch_size": given.mini_batch_size or MINI_BATCH_SIZE,
        "retry_settings": retry.model_copy(
            update={"max_retries": MAX_RETRIES if retry.max_retries is None else retry.max_retries}
        ),
        "logging_level": given.logging_level or "info",
        "output_action": given.output_action or "append_row",
        "output_format": given.output_format or "batchpoint",
    }
    if filled["output_action"] == "append_row":
        filled["output_file_name"] = given.output_file_name or OUTPUT_FILE_NAME
    settings = given.model_copy(update=filled)
    _check(settings)
    resources: Resources = deployment.resources.model_copy(
        update={"instance_count": counts[0] or counts[1] or INSTANCE_COUNT}
    )
    return deployment.model_copy(update={"settings": settings, "resources": resources})


def effective(deployment: ModelDeployment, overrides: Overrides) -> ScoringSettings:
    """Merge a deployment (as from `with_defaults`) with what one job changes.

    Raises: Invalid (`field_invalid`) naming the field.
    """
    own = deployment.settings
    retry = own.retry_settings
    scripted = deployment.code_configuration is not None
    if overrides.output_file_name is not None and own.output_action == "summary_only":
        raise Invalid(
            "means nothing here: the deployment's output_action is summary_only, which writes no "
            "predictions file",
            code="field_invalid",
            where="overrides.output_file_name",
        )
    named = own.model_copy(
        update={
            "output_file_name": overrides.output_file_name or own.output_file_name,
            "environment_variables": own.environment_variables | overrides.environment_variables,
        }
    )
    _check(named)
    return ScoringSettings(
        instance_count=overrides.instance_count
        or deployment.resources.instance_count
        or INSTANCE_COUNT,
        max_concurrency_per_instance=overrides.max_concurrency_per_instance
        or own.max_concurrency_per_instance
        or CONCURRENCY_PER_INSTANCE,
        mini_batch_size=overrides.mini_batch_size or own.mini_batch_size or MINI_BATCH_SIZE,
        max_retries=_first(overrides.max_retries, retry.max_retries, MAX_RETRIES),
        timeout_seconds=overrides.timeout or retry.timeout,
        error_threshold=own.error_threshold
        if overrides.error_threshold is None
        else overrides.error_threshold,
        logging_level=overrides.logging_level or own.logging_level or "info",
        output_action=own.output_action or "append_row",
        output_file_name=named.output_file_name or OUTPUT_FILE_NAME,
        output_format=own.output_format or "batchpoint",
        environment_variables=named.environment_variables,
        parameters=merged(own.parameters, overrides.parameters),
        split_files=(not scripted) if own.split_files is None else own.split_files,
        coalesce_files=(not scripted) if own.coalesce_files is None else own.coalesce_files,
    )


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _check(settings: DeploymentSettings) -> None:
    name = settings.output_file_name
    if name is not None:
        _check_file_name(name, settings.output_format == "azure")
    check_names(settings.parameters, DEPLOYMENT_WHERE)
    for variable in settings.environment_variables:
        if not is_variable(variable):
            raise Invalid(
                f"{variable!r} is not the name of an environment variable: expected letters, "
                "digits and '_', not beginning with a digit",
                code="field_invalid",
                where="settings.environment_variables",
            )


def is_variable(name: str) -> bool:
    """Tell whether a text can be the name of an environment variable."""
    return _VARIABLE.fullmatch(name) is not None


def _check_file_name(name: str, azure: bool) -> None:  # noqa: FBT001
    where = "settings.output_file_name"
    if _FILE_NAME.fullmatch(name) is None or name in (".", "..") or name.startswith("_"):
        raise Invalid(
            f"{name!r} is not a file name: expected a plain name without folders, not beginning "
            "with '_'",
            code="field_invalid",
            where=where,
        )
    if not azure and not name.lower().endswith(OUTPUT_SUFFIXES):
        raise Invalid(
            f"{name!r} does not tell the format: expected a name that ends in "
            f"{', '.join(OUTPUT_SUFFIXES)}, or output_format azure for any name",
            code="field_invalid",
            where=where,
        )
