"""Loads model deployments, in the current and in the older layout of Azure ML's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from batchpoint.cli import azure_keys
from batchpoint.cli.yaml_fields import FieldErrors, Problem, refused
from batchpoint.cli.yaml_files import (
    Flags,
    Loaded,
    Source,
    check_environment,
    check_model,
    finished,
    open_source,
)
from batchpoint.cli.yaml_nodes import MapNode, ScalarNode
from batchpoint.client.pointers import found_at, local_path
from batchpoint.domain.endpoint import DeploymentSettings, ModelDeployment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake
from batchpoint.domain.references import (
    DatastorePath,
    JobOutputPath,
    Location,
    MlflowModel,
    MlflowRun,
    UploadReference,
    asset_reference,
    is_reference,
    is_uri,
    model_source,
    named_reference,
)


def load_deployment(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[ModelDeployment]:
    """Load a model deployment in its current (`type: model`) or legacy layout (no `type`)."""
    source = open_source(path, sets, flags or {}, existing=existing)
    tree = source.tree
    kind = tree.items.get("type")
    if isinstance(kind, ScalarNode) and snake(kind.value) == "pipeline":
        # The rest of such a file means nothing to a model deployment.
        sentence = (
            "pipeline deployments are not supported yet; deploy the model alone with `type: model`"
        )
        raise FieldErrors([refused(kind.mark, "type", sentence)])
    source.rules(tree, azure_keys.DEPLOYMENT)
    _settings(source, legacy=kind is None)
    _member(source, "resources", azure_keys.RESOURCES)
    _asset(source, "model", check_model)
    _asset(source, "environment", check_environment)
    _code(source)
    compute = tree.items.get("compute")
    if isinstance(compute, ScalarNode) and isinstance(compute.value, str):
        try:
            compute.value = named_reference(compute.value, "compute")
        except Invalid as error:
            source.refuse(compute, "compute", error.message, error.code)
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


def _asset(source: Source, key: str, inline: Callable[[Source, MapNode, str], None]) -> None:
    """Bring `model` or `environment` of a deployment to a reference or an inline asset."""
    node = source.tree.items.get(key)
    if isinstance(node, MapNode):
        inline(source, node, f"{key}.")
        return
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return
    if key == "model" and _means_a_path(node.value, source.folder_of(node)):
        asset = MapNode(node.mark)
        asset.put("path", node.mark, ScalarNode(node.mark, node.value))
        source.tree.put(key, source.tree.keys[key], asset)
        inline(source, asset, f"{key}.")
        return
    try:
        kind = "model" if key == "model" else "environment"
        node.value = str(asset_reference(node.value, kind))
    except Invalid as error:
        source.refuse(node, key, error.message, error.code)


def _means_a_path(text: str, folder: Path) -> bool:
    """Tell whether a deployment's `model` says where files lie, and not which model it is."""
    try:
        found = model_source(text)
    except Invalid:
        return False
    if isinstance(found, Location):
        return (
            is_uri(text)
            or text.startswith((".", "/", "~"))
            or "/" in text
            or found_at(local_path(text, folder)) is not None
        )
    return isinstance(
        found, DatastorePath | JobOutputPath | MlflowModel | MlflowRun | UploadReference
    )


def _inside(folder: Path, script: str) -> bool:
    """Tell whether a regular file is really (links followed) in a folder."""
    try:
        found = (folder / script).resolve()
        return found.is_relative_to(folder.resolve()) and found_at(found) == "file"
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return False


def _code(source: Source) -> None:
    """Check the scoring code and make its folder absolute, or its reference canonical."""
    code = source.tree.items.get("code_configuration")
    node = code.items.get("code") if isinstance(code, MapNode) else None
    if not isinstance(code, MapNode) or not isinstance(node, ScalarNode):
        return  # said by the validation of the noun
    name, text = "code_configuration.code", node.value
    if not isinstance(text, str) or text.startswith("upload:"):
        return
    if is_reference(text):
        try:
            node.value = str(asset_reference(text, "code"))
        except Invalid as error:
            source.refuse(node, name, error.message, error.code)
    elif is_uri(text):
        sentence = f"{text!r} is not supported: give a local folder or a registered code asset"
        source.problems.append(refused(node.mark, name, sentence))
    else:
        _code_folder(source, code, node)


def _code_folder(source: Source, code: MapNode, node: ScalarNode) -> None:
    folder, script = local_path(str(node.value), source.folder_of(node)), code.items.get(_SCRIPT)
    if found_at(folder) != "folder":
        sentence = f"no folder is at {str(folder)!r}"
        source.refuse(node, "code_configuration.code", sentence, "scoring_script_invalid")
        return
    node.value = str(folder)
    if not isinstance(script, ScalarNode) or not isinstance(script.value, str):
        return  # said by the validation of the noun
    if not _inside(folder, script.value):
        sentence = f"no file {script.value!r} is in the code folder {str(folder)!r}"
        source.refuse(script, f"code_configuration.{_SCRIPT}", sentence, "scoring_script_invalid")
