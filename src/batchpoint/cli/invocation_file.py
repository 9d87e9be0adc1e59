"""Loads what one invocation asks for: a job file (`--file`), `--set` overrides and flags."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from batchpoint.cli import azure_keys
from batchpoint.cli.invocation_flags import InputFlags, put_pairs, take_inputs, take_output
from batchpoint.cli.job_data import read_inputs, read_output_dataset, read_outputs
from batchpoint.cli.yaml_fields import FieldErrors, Problem, type_problem, validated
from batchpoint.cli.yaml_files import Flags, Source, check_named, open_source
from batchpoint.cli.yaml_nodes import (
    MapNode,
    Mark,
    Node,
    Scalar,
    ScalarNode,
)
from batchpoint.cli.yaml_overrides import set_path
from batchpoint.cli.yaml_places import Places, told_at_places
from batchpoint.domain.component import PipelineComponent
from batchpoint.domain.endpoint import seconds
from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.job import Invocation
from batchpoint.domain.job_pointers import JobInput

if TYPE_CHECKING:
    from batchpoint.client.client import Client

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
    "settings.default_compute": "default_compute",
    "settings.continue_on_step_failure": "continue_on_step_failure",
    "settings.force_rerun": "force_rerun",
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
    "display_name",
    "settings.default_compute",
    "settings.continue_on_step_failure",
    "settings.force_rerun",
)


class LoadedInvocation(NamedTuple):
    """An invocation and what its author should know.

    `open_types` names the data of which nobody said whether it is a file or a folder ("": what has
    no name): it was found by looking. `places` knows where each field was written.
    """

    noun: Invocation
    warnings: list[str]
    open_types: frozenset[str]
    places: Places


def load_invocation(
    path: Path | None,
    sets: Sequence[str],
    flags: Flags,
    *,
    inputs: InputFlags = InputFlags(),
    output_path: str | None = None,
    pairs: Mapping[str, Sequence[str]] | None = None,
    declared: Callable[[str | None], PipelineComponent | None] = lambda _: None,
) -> LoadedInvocation:
    """Build an invocation. How many inputs there have to be is the deployment's affair.

    `pairs`: options that say `NAME=VALUE`, as `--param` and `--env`, with where they belong.
    `declared` finds the pipeline of a deployment (None: the default one): asked when something is
    wrong, so that names which it does not have are told with the rest.

    Raises:
        FieldErrors: With everything that is wrong.
        Invalid: `yaml_invalid` for a pair that is none; `input_unreadable` for a list of inputs.
    """
    source = open_source(path, sets, {})
    tree = source.tree
    source.rules(tree, azure_keys.JOB)
    moved = _move(source)
    open_types = read_inputs(source, also="input_data")
    read_output_dataset(source)
    read_outputs(source, also="output_data")
    for target, (flag, value) in flags.items():
        if value is not None:
            moved[target] = flag
            set_path(tree, target.split("."), ScalarNode(Mark(flag, 0, 0), value))
    check_named(source, tree, "default_compute", "compute", "")
    _said_once(source)
    for option, given in (pairs or {}).items():
        put_pairs(tree, option, given)
    open_types = take_inputs(source, inputs, open_types)
    take_output(source, output_path)
    _nothing_left(source)
    try:
        noun = validated(Invocation, tree, source.problems)
    except FieldErrors as error:
        from batchpoint.cli.declared_names import undeclared

        component = declared(_text_of(tree, "deployment_name"))
        more = [] if component is None else undeclared(component, tree, error.problems)
        told = [_as_written(problem, moved) for problem in (*error.problems, *more)]
        raise FieldErrors(told) from None
    return LoadedInvocation(noun, source.warnings, open_types, Places(tree))


@contextmanager
def told_as_asked(places: Places) -> Generator[None]:
    """Tell what is wrong with an invocation where it was written, or how to write it."""
    try:
        with told_at_places(places):
            yield
    except Invalid as error:
        if error.where != "input" or not error.message.startswith("is missing"):
            raise
        sentence = "is missing: say with --input which file or folder (or URI) to score"
        raise Invalid(sentence, code=error.code, where=error.where) from error


def with_found_types(client: Client, body: Invocation, names: Collection[str]) -> Invocation:
    """Return the invocation in which data of open types has those that its assets have.

    Raises: Invalid (`field_invalid`) when the types of several assets differ.
    """
    changes: dict[str, object] = {}
    if "" in names and body.input is not None:
        changes["input"] = _with_type(client, body.input)
    named = {
        name: _with_type(client, value)
        for name, value in body.inputs.items()
        if name in names and isinstance(value, JobInput)
    }
    if named:
        changes["inputs"] = {**body.inputs, **named}
    return body.model_copy(update=changes) if changes else body


def _with_type(client: Client, source: JobInput) -> JobInput:
    try:
        return client.with_type_of_asset(source)
    except NotFound:
        return source  # a model, perhaps: the server knows what it is to be


def _said_once(source: Source) -> None:
    """Refuse a literal that stands below `parameters`, too."""
    overrides, inputs = (source.tree.items.get(key) for key in ("overrides", "inputs"))
    parameters = overrides.items.get("parameters") if isinstance(overrides, MapNode) else None
    if not isinstance(parameters, MapNode) or not isinstance(inputs, MapNode):
        return
    for name, node in inputs.items.items():
        if name in parameters.items and isinstance(node, ScalarNode):
            sentence = f"stands below `parameters` too ({parameters.keys[name]}); keep one"
            source.problems.append(Problem(inputs.keys[name], f"inputs.{name}", sentence))


def _text_of(tree: MapNode, key: str) -> str | None:
    node = tree.items.get(key)
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, str) else None


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
