"""Loads what one invocation asks for: a job file (`--file`), `--set` overrides and flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from batchpoint.cli.asset_references import data_type, data_uri
from batchpoint.cli.yaml_fields import FieldErrors, Problem, refused, type_problem, validated
from batchpoint.cli.yaml_files import Flags, Loaded, Source, open_source
from batchpoint.cli.yaml_nodes import MapNode, Mark, Node, Scalar, ScalarNode
from batchpoint.cli.yaml_overrides import set_path, tree_of
from batchpoint.domain.endpoint import seconds
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Invocation
from batchpoint.domain.model_shape import snake

# Where a job file (or `--set`) says it, and where an invocation keeps it.
_PLACES = {
    "name": "job_name",
    "compute.instance_count": "overrides.instance_count",
    "resources.instance_count": "overrides.instance_count",
    "settings.instance_count": "overrides.instance_count",
    "instance_count": "overrides.instance_count",
    "retry_settings.max_retries": "overrides.max_retries",
    "retry_settings.timeout": "overrides.timeout",
    "settings.retry_settings.max_retries": "overrides.max_retries",
    "settings.retry_settings.timeout": "overrides.timeout",
    "max_retries": "overrides.max_retries",
    "timeout": "overrides.timeout",
} | {
    f"{prefix}{key}": f"overrides.{key}"
    for prefix in ("", "settings.")
    for key in (
        "mini_batch_size",
        "max_concurrency_per_instance",
        "error_threshold",
        "output_file_name",
        "environment_variables",
    )
}
_DATA_TYPES_REFUSED = {
    "mltable": "tables are not supported: point at the folder of files",
    "literal": "literal inputs belong to pipelines, which are not supported yet",
    "number": "literal inputs belong to pipelines, which are not supported yet",
    "integer": "literal inputs belong to pipelines, which are not supported yet",
    "boolean": "literal inputs belong to pipelines, which are not supported yet",
    "string": "literal inputs belong to pipelines, which are not supported yet",
    "custom_model": "the model belongs to the deployment",
    "mlflow_model": "the model belongs to the deployment",
    "triton_model": "the model belongs to the deployment",
}
_REFUSED = {
    "compute": "a job runs on its deployment's compute; only compute.instance_count can be set",
    "settings": "what can be changed for one job: mini_batch_size, error_threshold, "
    "output_file_name, max_concurrency_per_instance, environment_variables, retry_settings and "
    "instance_count",
    "jobs": "pipeline jobs are not supported yet",
    "component": "pipeline jobs are not supported yet",
    "logging_level": "it is a setting of the deployment",
    "output_action": "it is a setting of the deployment",
    "output_format": "it is a setting of the deployment",
}


JOB_FILE_KEYS = (
    "inputs",
    "outputs",
    "deployment_name",
    "job_name",
    "experiment_name",
    "description",
    "tags",
    "mini_batch_size",
    "error_threshold",
    "output_file_name",
    "max_concurrency_per_instance",
    "environment_variables",
    "retry_settings",
    "compute.instance_count",
)


# Takes the place of a pointer that was found wrong, so that nothing else is said about it.
_STAND_IN = {"input": {"type": "uri_folder", "uri": "file:///"}, "output": {"uri": "file:///"}}


def load_invocation(path: Path | None, sets: Sequence[str], flags: Flags) -> Loaded[Invocation]:
    """Build an invocation; exactly one data input must come out of file and flags.

    Raises:
        FieldErrors: With everything that is wrong.
    """
    source = open_source(path, sets, {})
    tree = source.tree
    moved = _move(tree)
    _single_data(source)
    for target, (flag, value) in flags.items():
        if value is None:
            continue
        node = ScalarNode(Mark(flag, 0, 0), value)
        moved[target] = flag
        set_path(tree, target.split("."), node)
    _resolve(source)
    for key in list(tree.items):
        if key in _REFUSED:
            source.problems.append(
                refused(tree.keys[key], key, f"is not supported: {_REFUSED[key]}")
            )
            tree.take(key)
    try:
        return Loaded(validated(Invocation, tree, source.problems), source.warnings)
    except FieldErrors as error:
        raise FieldErrors([_as_written(problem, moved) for problem in error.problems]) from None


def _as_written(problem: Problem, moved: dict[str, str]) -> Problem:
    """Tell a problem in its author's words: the key as written, none where a flag says it."""
    if problem.field == "input" and problem.sentence.startswith("is missing"):
        sentence = "is missing: say with --input which file or folder (or URI) to score"
        return problem._replace(sentence=sentence)
    if problem.code == "field_unknown" and "." not in problem.field:
        return problem._replace(
            sentence=f"unknown field; a job file has {', '.join(JOB_FILE_KEYS)}"
        )
    written = moved.get(problem.field, problem.field)
    return problem._replace(field="" if problem.mark.source.startswith("--") else written)


def _move(tree: MapNode) -> dict[str, str]:
    """Bring keys to where an invocation has them; gives target to the key as written."""
    moved: dict[str, str] = {}
    for written, target in _PLACES.items():
        *parents, key = written.split(".")
        holder = tree
        for parent in parents:
            below = holder.items.get(parent)
            if not isinstance(below, MapNode):
                break
            holder = below
        else:
            taken = holder.take(key)
            if taken is not None:
                if target == "overrides.timeout" and isinstance(taken[1], ScalarNode):
                    taken[1].value = cast("Scalar", seconds(taken[1].value))
                set_path(tree, target.split("."), taken[1])
                moved[target] = written
                _drop_empty(tree, parents)
    return moved


def _drop_empty(tree: MapNode, parents: Sequence[str]) -> None:
    """Remove mappings that moving has emptied."""
    for depth in range(len(parents), 0, -1):
        holder = tree
        for parent in parents[: depth - 1]:
            below = holder.items[parent]
            assert isinstance(below, MapNode)
            holder = below
        last = holder.items[parents[depth - 1]]
        if isinstance(last, MapNode) and not last.items:
            holder.take(parents[depth - 1])


def _single_data(source: Source) -> None:
    """Turn `inputs` and `outputs` with one entry each into `input` and `output`."""
    for plural, singular in (("inputs", "input"), ("outputs", "output")):
        taken = source.tree.take(plural)
        if taken is None:
            continue
        mark, node = taken
        source.tree.put(singular, mark, tree_of(_STAND_IN[singular], mark))
        data = _only_entry(source, plural, mark, node)
        if data is None:
            continue
        data.take("mode")  # how data reaches a node is the engine's choice
        path = data.take("path")
        if path is not None:
            data.put("uri", *path)
        if singular == "output":
            data.take("type")  # results are always a folder
        source.tree.put(singular, mark, data)


def _only_entry(source: Source, plural: str, mark: Mark, node: Node) -> MapNode | None:
    """Give the one pointer to data that `inputs` or `outputs` holds, or note what is wrong."""
    if not isinstance(node, MapNode):
        source.problems.append(type_problem(mark, plural, "a mapping of names to data", node))
        return None
    if len(node.items) != 1:
        sentence = f"has {len(node.items)} entries: a model deployment takes exactly one"
        source.problems.append(Problem(mark, plural, sentence))
        return None
    [(name, data)] = node.items.items()
    named = f"{plural}.{name}"
    if not isinstance(data, MapNode):
        expected = "a mapping with type and path"
        source.problems.append(type_problem(node.keys[name], named, expected, data))
        return None
    if "default" in data.items:
        why = "literal inputs belong to pipelines, which are not supported yet; give a path"
        source.problems.append(refused(data.keys["default"], f"{named}.default", why))
        return None
    return data


def _resolve(source: Source) -> None:
    """Make local paths absolute and fill in the type of the input."""
    for key in ("input", "output"):
        data = source.tree.items.get(key)
        uri = data.items.get("uri") if isinstance(data, MapNode) else None
        if not isinstance(data, MapNode) or not isinstance(uri, ScalarNode):
            continue
        if not isinstance(uri.value, str) or not uri.value:
            source.problems.append(type_problem(uri.mark, key, "a path or URI", uri))
            source.tree.put(key, uri.mark, tree_of(_STAND_IN[key], uri.mark))
            continue
        try:
            uri.value = data_uri(uri.value, source.folder_of(uri))
        except Invalid as error:
            source.problems.append(Problem(uri.mark, key, error.message, error.code))
            source.tree.put(key, uri.mark, tree_of(_STAND_IN[key], uri.mark))
            continue
        if key == "input":
            _input_type(source, data, uri.value)


def _input_type(source: Source, data: MapNode, uri: str) -> None:
    kind = data.items.get("type")
    if kind is None:
        data.put("type", data.mark, ScalarNode(data.mark, data_type(uri)))
    elif isinstance(kind, ScalarNode) and (spelled := snake(kind.value)) in _DATA_TYPES_REFUSED:
        sentence = f"{kind.value!r} cannot be scored: {_DATA_TYPES_REFUSED[str(spelled)]}"
        source.problems.append(refused(kind.mark, "input.type", sentence))
        kind.value = "uri_folder"  # nothing more is to be said about it
