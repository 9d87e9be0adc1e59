"""Loads deployments: of models in both layouts of Azure ML's files, and of pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchpoint.cli import azure_keys
from batchpoint.cli.yaml_code import check_code, check_environment_field, check_model_field
from batchpoint.cli.yaml_fields import Problem
from batchpoint.cli.yaml_files import Flags, Loaded, Source, check_named, finished, open_source
from batchpoint.cli.yaml_nodes import MapNode, ScalarNode
from batchpoint.domain.endpoint import DeploymentSettings, ModelDeployment
from batchpoint.domain.model_shape import snake
from batchpoint.domain.pipeline import PipelineDeployment

LoadedDeployment = Loaded[ModelDeployment] | Loaded[PipelineDeployment]
_OF_PIPELINES = ("component", "job_definition")


def load_deployment(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> LoadedDeployment:
    """Load a deployment of a pipeline, or of a model in its current or legacy (no `type`) layout.

    Without a type, what holds a component or a job definition and no model is one of a pipeline.
    """
    source = open_source(path, sets, flags or {}, existing=existing)
    tree = source.tree
    kind = tree.items.get("type")
    is_pipeline = isinstance(kind, ScalarNode) and snake(kind.value) == "pipeline"
    if kind is None and "model" not in tree.items:
        is_pipeline = any(key in tree.items for key in _OF_PIPELINES)
    if is_pipeline:
        from batchpoint.cli.yaml_pipeline import read_pipeline_deployment

        return read_pipeline_deployment(source, path)
    source.rules(tree, azure_keys.DEPLOYMENT)
    _settings(source, legacy=kind is None)
    _member(source, "resources", azure_keys.RESOURCES)
    check_model_field(source, tree, "")
    check_environment_field(source, tree, "")
    _code(source)
    check_named(source, tree, "compute", "compute", "")
    return finished(ModelDeployment, source)


_SCRIPT = "scoring_script"
_LEGACY_SETTINGS = tuple(DeploymentSettings.model_fields)
_INHERITED_AT_ROOT = ("environment_variables", "error_threshold")


def _settings(source: Source, *, legacy: bool) -> None:
    """Move settings from the root to `settings`; check what only makes sense together."""
    tree = source.tree
    settings = tree.items.get("settings")
    for key in _LEGACY_SETTINGS:
        if key not in tree.items:
            continue
        if not (legacy or key in _INHERITED_AT_ROOT):
            sentence = "stands at the root: with `type: model` it belongs below `settings`"
            source.problems.append(Problem(tree.keys[key], key, sentence))
            tree.take(key)
            continue
        if settings is None:
            settings = MapNode(tree.keys[key])
            tree.put("settings", tree.keys[key], settings)
        if not isinstance(settings, MapNode):
            return  # said by the validation of the noun
        mark, node = tree.keys[key], tree.items[key]
        tree.take(key)
        if key in settings.items:
            source.refuse(
                node, key, f"stands below `settings` too ({settings.keys[key]}); keep one"
            )
        else:
            settings.put(key, mark, node)
    if isinstance(settings, MapNode):
        source.rules(settings, azure_keys.SETTINGS, "settings.")
        _settings_together(source, settings)


def _settings_together(source: Source, settings: MapNode) -> None:
    resources = source.tree.items.get("resources")
    count = settings.items.get("instance_count")
    if (
        count is not None
        and isinstance(resources, MapNode)
        and "instance_count" in resources.items
        and not (isinstance(count, ScalarNode) and count.value is None)
    ):
        source.refuse(
            count,
            "settings.instance_count",
            "is resources.instance_count by another name; keep one",
        )
    action = settings.items.get("output_action")
    name = settings.items.get("output_file_name")
    if (
        isinstance(action, ScalarNode)
        and snake(action.value) == "summary_only"
        and isinstance(name, ScalarNode)
        and name.value is not None
    ):
        source.refuse(
            name,
            "settings.output_file_name",
            "means nothing with output_action: summary_only, which writes no predictions file; "
            "remove one of the two",
        )


def _member(source: Source, key: str, rules: azure_keys.KeyRules) -> None:
    node = source.tree.items.get(key)
    if isinstance(node, MapNode):
        source.rules(node, rules, f"{key}.")


def _code(source: Source) -> None:
    """Check the scoring code and make its folder absolute, or its reference canonical."""
    code = source.tree.items.get("code_configuration")
    if isinstance(code, MapNode):
        check_code(
            source, code, "code_configuration.", script=_SCRIPT, code="scoring_script_invalid"
        )
