"""Loads what one invocation asks for: a job file (`--file`), `--set` overrides and flags."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from batchpoint.cli import azure_keys
from batchpoint.cli.job_data import read_inputs, read_outputs, stand_in, type_refused
from batchpoint.cli.yaml_fields import FieldErrors, Problem, type_problem, validated
from batchpoint.cli.yaml_files import Flags, Source, open_source
from batchpoint.cli.yaml_nodes import MapNode, Mark, Node, Scalar, ScalarNode, yaml_error
from batchpoint.cli.yaml_overrides import set_path, tree_of
from batchpoint.client.pointers import data_uri, job_input
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
    "properties.experiment_name": "experiment_name",
    "properties.experimentName": "experiment_name",
} | {
    f"{prefix}{key}": f"overrides.{key}"
    for prefix in ("", "settings.")
    for key in (
        "mini_batch_size",
        "max_concurrency_per_instance",
        "error_threshold",
        "logging_level",
        "output_file_name",
        "environment_variables",
        "parameters",
    )
}
# Mappings that hold nothing else: what is left in them is told key by key.
_HOLDERS = {
    "compute": azure_keys.JOB_COMPUTE,
    "resources": azure_keys.JOB_COMPUTE,
    "settings.retry_settings": azure_keys.KeyRules(),
    "settings": azure_keys.JOB_SETTINGS,
    "retry_settings": azure_keys.KeyRules(),
    "properties": azure_keys.JOB_PROPERTIES,
}

JOB_FILE_KEYS = (
    "inputs",
    "outputs",
    "deployment_name",
    "job_name",
    "experiment_name",
    "description",
    "tags",
    "webhook_url",
    "mini_batch_size",
    "error_threshold",
    "logging_level",
    "output_file_name",
    "max_concurrency_per_instance",
    "environment_variables",
    "parameters",
    "retry_settings",
    "compute.instance_count",
)


@dataclass(frozen=True)
class InputFlags:
    """What the command line says about the input; it wins over the job file.

    `paths`: each `--input`; `file_list`: a file with one pointer a line, `-` for stdin.
    """

    paths: Sequence[str] = ()
    file_list: str | None = None
    kind: str | None = None
    pattern: str | None = None


class LoadedInvocation(NamedTuple):
    """An invocation and what its author should know.

    `type_found`: nobody said whether the input is a file or a folder; it was found by looking.
    """

    noun: Invocation
    warnings: list[str]
    type_found: bool


def load_invocation(
    path: Path | None,
    sets: Sequence[str],
    flags: Flags,
    *,
    inputs: InputFlags = InputFlags(),
    output_path: str | None = None,
    pairs: Mapping[str, Sequence[str]] | None = None,
) -> LoadedInvocation:
    """Build an invocation; exactly one data input must come out of file and flags.

    `pairs`: options that say `NAME=VALUE`, as `--param` and `--env`, with where they belong.

    Raises:
        FieldErrors: With everything that is wrong.
        Invalid: `yaml_invalid` for a pair that is none; `input_unreadable` for a list of inputs.
    """
    source = open_source(path, sets, {})
    tree = source.tree
    source.rules(tree, azure_keys.JOB)
    moved = _move(source)
    type_found = read_inputs(source)
    type_found = (type_found or bool(inputs.paths)) and inputs.kind is None
    read_outputs(source)
    for target, (flag, value) in flags.items():
        if value is not None:
            moved[target] = flag
            set_path(tree, target.split("."), ScalarNode(Mark(flag, 0, 0), value))
    for option, given in (pairs or {}).items():
        _put_pairs(tree, option, given)
    _input_flags(source, inputs)
    _output_flag(source, output_path)
    _nothing_left(source)
    try:
        noun = validated(Invocation, tree, source.problems)
    except FieldErrors as error:
        raise FieldErrors([_as_written(problem, moved) for problem in error.problems]) from None
    return LoadedInvocation(noun, source.warnings, type_found)


def _input_flags(source: Source, given: InputFlags) -> None:
    """Take the input from flags; `--input-type` and `--input-pattern` alone change the file's."""
    texts = [*given.paths, *_listed(given.file_list)]
    before = source.tree.items.get("input")
    kind = snake(given.kind)
    if kind not in (None, "uri_file", "uri_folder"):
        mark = Mark("--input-type", 0, 0)
        sentence = type_refused(str(given.kind))
        sentence = sentence or f"expected uri_file or uri_folder, got {given.kind!r}"
        source.problems.append(Problem(mark, "input.type", sentence))
        kind = None
    if texts:
        mark = Mark("--input" if given.paths else "--input-file-list", 0, 0)
        try:
            found = job_input(texts, source.cwd, kind=kind, pattern=given.pattern)
        except Invalid as error:
            source.problems.append(Problem(mark, "input", error.message, error.code))
            source.tree.put("input", mark, stand_in("input", mark))
            return
        data = found.model_dump(mode="json", exclude_unset=True)
        source.tree.put("input", mark, tree_of(data, mark))
    elif isinstance(before, MapNode):
        for key, flag, value in (
            ("type", "--input-type", kind),
            ("pattern", "--input-pattern", given.pattern),
        ):
            if isinstance(value, str):
                mark = Mark(flag, 0, 0)
                before.put(key, mark, ScalarNode(mark, value))


def _output_flag(source: Source, text: str | None) -> None:
    """Take the folder for the results from `--output-path`."""
    if text is None:
        return
    mark = Mark("--output-path", 0, 0)
    try:
        uri = data_uri(text, source.cwd)
    except Invalid as error:
        source.problems.append(Problem(mark, "output", error.message, error.code))
        return
    source.tree.put("output", mark, tree_of({"uri": uri}, mark))


def _listed(name: str | None) -> list[str]:
    """Read a list of inputs, one a line. Raises: Invalid (`input_unreadable`)."""
    if name is None:
        return []
    option = "--input-file-list"
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Invalid(
            f"{name} cannot be read: {said}", code="input_unreadable", where=option
        ) from error
    found = [line for line in text.splitlines() if line.strip()]
    if not found:
        raise Invalid(f"{name} names no input", code="input_not_found", where=option)
    return found


def _put_pairs(tree: MapNode, option: str, given: Sequence[str]) -> None:
    """Put each `NAME=VALUE` of an option where it belongs; parameters have YAML's types."""
    from batchpoint.cli.yaml_tree import parse_tree

    for text in given:
        name, equals, value = text.partition("=")
        mark = Mark(f"{option} {name}" if name and equals else option, 0, 0)
        if not name or not equals:
            raise yaml_error(mark, f"expected NAME=VALUE, got {text[:60]!r}")
        node: Node = ScalarNode(mark, value)
        field = "environment_variables"
        if option == "--param":
            field = "parameters"
            node = parse_tree(value, str(mark)) or ScalarNode(mark, "")
            if isinstance(node, ScalarNode) and node.value is None:
                node.value = value  # `null` and `~` are text here
            node.mark = mark
        set_path(tree, ["overrides", field, name], node)


def _nothing_left(source: Source) -> None:
    """Report what is left of mappings from which everything known was taken."""
    for holder, rules in _HOLDERS.items():
        *above, key = holder.split(".")
        parent = source.tree.items.get(above[0]) if above else source.tree
        if not isinstance(parent, MapNode) or key not in parent.items:
            continue
        node = parent.items[key]
        if isinstance(node, MapNode):
            source.rules(node, rules, f"{holder}.")
            for left in node.items:
                sentence = "unknown field; remove it"
                problem = Problem(node.keys[left], f"{holder}.{left}", sentence, "field_unknown")
                source.problems.append(problem)
        elif not (isinstance(node, ScalarNode) and node.value is None):
            source.problems.append(type_problem(node.mark, holder, "a mapping", node))
        parent.take(key)


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


def _move(source: Source) -> dict[str, str]:
    """Bring keys to where an invocation has them; gives target to the key as written."""
    tree = source.tree
    moved: dict[str, str] = {}
    kept: dict[str, Node] = {}
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
            if taken is None:
                continue
            mark, node = taken
            _drop_empty(tree, parents)
            if target in kept and not _wins(source, mark, node, kept[target], moved[target]):
                continue
            if target == "overrides.timeout" and isinstance(node, ScalarNode):
                node.value = cast("Scalar", seconds(node.value))
            set_path(tree, target.split("."), node)
            moved[target], kept[target] = written, node
    return moved


def _wins(source: Source, mark: Mark, node: Node, before: Node, before_key: str) -> bool:
    """Decide between two spellings of one thing: `--set` wins, a file must say it once."""
    if node.mark.source.startswith("--"):
        return True
    if not before.mark.source.startswith("--"):
        sentence = f"is {before_key} by another name ({before.mark}); keep one"
        source.problems.append(Problem(mark, "", sentence))
    return False


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
