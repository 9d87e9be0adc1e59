"""Loads the YAML files of Azure ML's command line (and ours) into nouns.

Every loader takes a path (or none), `--set` overrides and flags, in this order of weight, and gives
the noun with warnings, or raises `FieldErrors` with everything that is wrong and where. Local paths
come out absolute: those of a file against its folder, those of flags against the current one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from batchpoint.cli import azure_keys
from batchpoint.cli.yaml_fields import Problem, refused, validated
from batchpoint.cli.yaml_nodes import (
    ListNode,
    MapNode,
    Mark,
    Node,
    Scalar,
    ScalarNode,
)
from batchpoint.cli.yaml_overrides import apply_flags, apply_sets
from batchpoint.cli.yaml_places import Places
from batchpoint.client.pointers import found_at, local_path
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.compute import Compute
from batchpoint.domain.endpoint import BatchEndpoint
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake
from batchpoint.domain.references import (
    Location,
    NamedKind,
    is_uri,
    model_source,
    named_reference,
)

N = TypeVar("N", bound=BaseModel)
Flags = Mapping[str, tuple[str, Scalar]]


class Loaded(NamedTuple, Generic[N]):
    """A noun and what its author should know (each a whole sentence with its place).

    `places` knows where each field of the noun was written.
    """

    noun: N
    warnings: list[str]
    places: Places


@dataclass
class Source:
    """A tree on its way to a noun: where it came from and what was found wrong so far.

    `folders` holds where other files lie of which nodes are in the tree, by the files' names.
    """

    tree: MapNode
    name: str
    folder: Path
    cwd: Path
    folders: dict[str, Path] = field(default_factory=dict[str, Path])
    problems: list[Problem] = field(default_factory=list[Problem])
    warnings: list[str] = field(default_factory=list[str])

    def folder_of(self, node: Node) -> Path:
        """Tell against which folder a relative path at this node resolves."""
        if node.mark.source == self.name:
            return self.folder
        return self.folders.get(node.mark.source, self.cwd)

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
    return finished(BatchEndpoint, source)


def load_model(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Model]:
    """Load a model; without a type, a folder with an MLmodel file is an `mlflow_model`."""
    source = open_source(path, sets, flags or {}, existing=existing)
    check_model(source, source.tree, "")
    return finished(Model, source)


def load_environment(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Environment]:
    """Load an environment; the conda or requirements file it names is read into it."""
    source = open_source(path, sets, flags or {}, existing=existing)
    check_environment(source, source.tree, "")
    return finished(Environment, source)


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
    return finished(Compute, source)


def finished(noun: type[N], source: Source) -> Loaded[N]:
    """Build the noun. Raises: FieldErrors with everything that is wrong."""
    made = validated(noun, source.tree, source.problems)
    return Loaded(made, source.warnings, Places(source.tree))


def check_named(source: Source, tree: MapNode, key: str, kind: NamedKind, prefix: str) -> None:
    """Bring a reference to a compute, datastore or job to its plain name."""
    node = tree.items.get(key)
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return
    try:
        found = named_reference(node.value, kind)
    except Invalid as error:
        source.refuse(node, f"{prefix}{key}", error.message, error.code)
    else:
        tree.put(key, tree.keys[key], ScalarNode(node.mark, found))


def check_model(source: Source, tree: MapNode, prefix: str) -> None:
    """Check a model and make its path absolute."""
    source.rules(tree, azure_keys.MODEL, prefix)
    kind, path = tree.items.get("type"), tree.items.get("path")
    if isinstance(kind, ScalarNode) and snake(kind.value) == "triton_model":
        tree.take("type")
        sentence = "triton_model is not supported: write a scoring script that loads the model"
        source.problems.append(refused(kind.mark, f"{prefix}type", sentence))
    if not isinstance(path, ScalarNode) or not isinstance(path.value, str):
        return  # said by the validation of the noun
    try:
        place = model_source(path.value)
    except Invalid as error:
        source.refuse(path, f"{prefix}path", error.message, error.code)
        return
    if not isinstance(place, Location) or is_uri(path.value):
        path.value = str(place)
        return
    found = local_path(path.value, source.folder_of(path))
    if found_at(found) is None:
        source.refuse(path, f"{prefix}path", f"nothing is at {str(found)!r}", "model_invalid")
        return
    path.value = str(found)
    if kind is None and found_at(found / "MLmodel") == "file":
        tree.put("type", path.mark, ScalarNode(path.mark, "mlflow_model"))


def check_environment(source: Source, tree: MapNode, prefix: str) -> None:
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
