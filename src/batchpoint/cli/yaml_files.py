"""Loads the YAML files of Azure ML's command line (and ours) into nouns.

Every loader takes a path (or none), `--set` overrides and flags, in this order of weight, and gives
the noun with warnings, or raises `FieldErrors` with everything that is wrong and where. Local paths
come out absolute: those of a file against its folder, those of flags against the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from batchpoint.cli import azure_keys
from batchpoint.cli.asset_references import (
    asset_reference,
    compute_name,
    found_at,
    is_reference,
    is_uri,
    local_path,
)
from batchpoint.cli.yaml_fields import FieldErrors, Problem, refused, validated
from batchpoint.cli.yaml_nodes import (
    ListNode,
    MapNode,
    Mark,
    Node,
    Scalar,
    ScalarNode,
)
from batchpoint.cli.yaml_overrides import apply_flags, apply_sets
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.compute import Compute
from batchpoint.domain.endpoint import BatchDeployment, BatchEndpoint, DeploymentSettings
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake

N = TypeVar("N", bound=BaseModel)
Flags = Mapping[str, tuple[str, Scalar]]


class Loaded(NamedTuple, Generic[N]):
    """A noun and what its author should know (each a whole sentence with its place)."""

    noun: N
    warnings: list[str]


@dataclass
class Source:
    """A tree on its way to a noun: where it came from and what was found wrong so far."""

    tree: MapNode
    name: str
    folder: Path
    cwd: Path
    problems: list[Problem] = field(default_factory=list[Problem])
    warnings: list[str] = field(default_factory=list[str])

    def folder_of(self, node: Node) -> Path:
        """Tell against which folder a relative path at this node resolves."""
        return self.folder if node.mark.source == self.name else self.cwd

    def refuse(self, node: Node, name: str, sentence: str, code: str = "field_invalid") -> None:
        self.problems.append(Problem(node.mark, name, sentence, code))

    def rules(self, tree: MapNode, rules: azure_keys.KeyRules, prefix: str = "") -> None:
        azure_keys.apply_rules(tree, rules, self.problems, self.warnings, prefix)


def open_source(
    path: Path | None, sets: Sequence[str], flags: Flags, *, existing: MapNode | None = None
) -> Source:
    """Read a file (none: start from `existing`, or from nothing) and apply overrides and flags."""
    cwd = Path.cwd()
    if path is not None:
        from batchpoint.cli.yaml_tree import parse_mapping, read_bounded

        tree = parse_mapping(read_bounded(path), str(path))
        source = Source(tree, str(path), path.resolve().parent, cwd)
    else:
        source = Source(existing or MapNode(Mark("command line", 0, 0)), "", cwd, cwd)
    source.tree.take("$schema")
    apply_sets(source.tree, sets)
    apply_flags(source.tree, flags)
    return source


def load_endpoint(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[BatchEndpoint]:
    """Load a batch endpoint."""
    source = open_source(path, sets, flags or {}, existing=existing)
    source.rules(source.tree, azure_keys.ENDPOINT)
    mode = source.tree.items.get("auth_mode")
    if isinstance(mode, ScalarNode) and snake(mode.value) in ("key", "aml_token"):
        source.tree.take("auth_mode")
        source.problems.append(
            refused(mode.mark, "auth_mode", "is not supported: batch endpoints know aad_token only")
        )
    return _finish(BatchEndpoint, source)


def load_model(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Model]:
    """Load a model; without a type, a folder with an MLmodel file is an `mlflow_model`."""
    source = open_source(path, sets, flags or {}, existing=existing)
    _model(source, source.tree, "")
    return _finish(Model, source)


def load_environment(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Environment]:
    """Load an environment; the conda or requirements file it names is read into it."""
    source = open_source(path, sets, flags or {}, existing=existing)
    _environment(source, source.tree, "")
    return _finish(Environment, source)


def load_compute(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Compute]:
    """Load a compute cluster."""
    source = open_source(path, sets, flags or {}, existing=existing)
    source.rules(source.tree, azure_keys.COMPUTE)
    kind = source.tree.items.get("type")
    if isinstance(kind, ScalarNode) and isinstance(kind.value, str):
        spelled = kind.value.replace("_", "").replace("-", "").lower()
        if spelled in azure_keys.COMPUTE_TYPES_REFUSED:
            source.tree.take("type")
            why = azure_keys.COMPUTE_TYPES_REFUSED[spelled]
            sentence = f"{kind.value!r} is not supported: {why}; write local or amlcompute"
            source.problems.append(refused(kind.mark, "type", sentence))
        elif spelled == "amlcompute":
            kind.value = spelled
    return _finish(Compute, source)


def load_deployment(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[BatchDeployment]:
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
    _asset(source, "model", _model)
    _asset(source, "environment", _environment)
    _code(source)
    compute = tree.items.get("compute")
    if isinstance(compute, ScalarNode) and isinstance(compute.value, str):
        compute.value = compute_name(compute.value)
    return _finish(BatchDeployment, source)


def _finish(noun: type[N], source: Source) -> Loaded[N]:
    return Loaded(validated(noun, source.tree, source.problems), source.warnings)


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
        node.value = asset_reference(node.value, "model" if key == "model" else "environment")
    except Invalid as error:
        source.refuse(node, key, error.message, error.code)


def _means_a_path(text: str, folder: Path) -> bool:
    if is_reference(text):
        return False
    return (
        is_uri(text)
        or text.startswith((".", "/", "~"))
        or "/" in text
        or found_at(local_path(text, folder)) is not None
    )


def _model(source: Source, tree: MapNode, prefix: str) -> None:
    """Check a model and make its path absolute."""
    source.rules(tree, azure_keys.MODEL, prefix)
    kind, path = tree.items.get("type"), tree.items.get("path")
    if isinstance(kind, ScalarNode) and snake(kind.value) == "triton_model":
        tree.take("type")
        sentence = "triton_model is not supported: write a scoring script that loads the model"
        source.problems.append(refused(kind.mark, f"{prefix}type", sentence))
    if not isinstance(path, ScalarNode) or not isinstance(path.value, str) or is_uri(path.value):
        return
    if path.value.startswith("upload:"):  # as the server shows it
        return
    found = local_path(path.value, source.folder_of(path))
    if found_at(found) is None:
        source.refuse(path, f"{prefix}path", f"nothing is at {str(found)!r}", "model_invalid")
        return
    path.value = str(found)
    if kind is None and found_at(found / "MLmodel") == "file":
        tree.put("type", path.mark, ScalarNode(path.mark, "mlflow_model"))


def _environment(source: Source, tree: MapNode, prefix: str) -> None:
    """Check an environment and read the files it names into it."""
    from batchpoint.cli.yaml_tree import parse_mapping

    source.rules(tree, azure_keys.ENVIRONMENT, prefix)
    conda = tree.items.get("conda_file")
    if isinstance(conda, ScalarNode) and isinstance(conda.value, str):
        read = _named_file(source, conda, f"{prefix}conda_file")
        if read is not None:
            try:
                tree.put("conda_file", conda.mark, parse_mapping(*read))
            except Invalid as error:
                source.refuse(conda, f"{prefix}conda_file", str(error), error.code)
    requirements = tree.items.get("requirements")
    if isinstance(requirements, ScalarNode) and isinstance(requirements.value, str):
        read = _named_file(source, requirements, f"{prefix}requirements")
        if read is not None:
            lines = [line.strip() for line in read[0].splitlines()]
            items: list[Node] = [
                ScalarNode(requirements.mark, line)
                for line in lines
                if line and not line.startswith("#")
            ]
            tree.put("requirements", requirements.mark, ListNode(requirements.mark, items))


def _named_file(source: Source, node: ScalarNode, name: str) -> tuple[str, str] | None:
    """Read a file that a field names; gives (text, path as shown) or notes the problem."""
    from batchpoint.cli.yaml_tree import read_bounded

    text = str(node.value)
    if is_uri(text):
        sentence = f"{text!r} is a URI: expected a local path or the file's content"
        source.problems.append(refused(node.mark, name, sentence))
        return None
    path = local_path(text, source.folder_of(node))
    try:
        return read_bounded(path, text), text
    except Invalid as error:
        source.refuse(node, name, str(error), error.code)
        return None


def _inside(folder: Path, script: str) -> bool:
    """Tell whether a regular file is really (links followed) in a folder."""
    try:
        found = (folder / script).resolve()
        return found.is_relative_to(folder.resolve()) and found_at(found) == "file"
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return False


def _code(source: Source) -> None:
    """Check the scoring code and make its folder absolute."""
    code = source.tree.items.get("code_configuration")
    if not isinstance(code, MapNode):
        return
    node, script = code.items.get("code"), code.items.get("scoring_script")
    name = "code_configuration.code"
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return  # said by the validation of the noun
    if node.value.startswith("upload:"):
        return
    if is_reference(node.value) or is_uri(node.value):
        sentence = f"{node.value!r} is not supported: give the path of a local folder"
        source.problems.append(refused(node.mark, name, sentence))
        return
    folder = local_path(node.value, source.folder_of(node))
    if found_at(folder) != "folder":
        source.refuse(node, name, f"no folder is at {str(folder)!r}", "scoring_script_invalid")
        return
    node.value = str(folder)
    if not isinstance(script, ScalarNode) or not isinstance(script.value, str):
        return  # said by the validation of the noun
    if not _inside(folder, script.value):
        sentence = f"no file {script.value!r} is in the code folder {str(folder)!r}"
        name = "code_configuration.scoring_script"
        source.refuse(script, name, sentence, "scoring_script_invalid")
