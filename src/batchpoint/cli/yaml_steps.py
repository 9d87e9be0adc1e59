"""Reads the steps of a pipeline: components they name, and those that are written in the step.

A step without `component` holds one itself: its nodes move below a component whose interface is
told by what the step's inputs and outputs are bound to. Nodes keep their places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchpoint.cli import azure_keys
from batchpoint.cli.job_data import (
    SPELLINGS,
    is_literal_entry,
    is_null,
    literal_of,
    model_or_data_uri,
    refuse_types,
)
from batchpoint.cli.yaml_code import check_environment_field
from batchpoint.cli.yaml_fields import Problem, refused, type_problem
from batchpoint.cli.yaml_files import check_named
from batchpoint.cli.yaml_nodes import ListNode, MapNode, Mark, Node, ScalarNode
from batchpoint.client.pointers import data_type, is_asset, is_local
from batchpoint.core.binding import ParentInput, ParentOutput, StepOutputRef, read_binding
from batchpoint.domain.component import DATA_TYPES, LITERAL_TYPES
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake

if TYPE_CHECKING:
    from batchpoint.cli.yaml_component import ComponentReading
    from batchpoint.cli.yaml_files import Source

# What a step says of its use of a component; in a step without one all else is the component's.
_OF_THE_STEP = frozenset(
    {"type", "component", "display_name", "description", "inputs", "outputs", "compute", "settings"}
)
_FIELDS_OF_COMPONENTS = {"command": "command", "parallel": "task", "pipeline": "jobs"}
_TYPES = {*LITERAL_TYPES, *DATA_TYPES}


def read_steps(reading: ComponentReading, tree: MapNode, prefix: str) -> None:
    """Bring all of `jobs` to the layout of steps, and build the components in them.

    `tree` is a pipeline component or a pipeline job; `prefix` stands before its fields.
    """
    jobs = tree.items["jobs"]
    assert isinstance(jobs, MapNode)
    steps = {key: step for key, step in jobs.items.items() if isinstance(step, MapNode)}
    fresh: dict[str, MapNode] = {}
    for key, step in steps.items():
        before = f"{prefix}jobs.{key}."
        made = _with_component(reading, step, jobs.keys[key], before)
        if made is not None:
            fresh[key] = made
        _data_of(reading.source, step, before)
    scope = _Scope(tree, steps)
    for key, component in fresh.items():
        _derive_outputs(scope, steps[key], component)
    for key, component in fresh.items():
        _derive_inputs(reading.source, scope, steps[key], component, f"{prefix}jobs.{key}.")
    for key, step in steps.items():
        reading.built_of(step, f"{prefix}jobs.{key}.component")


def _with_component(
    reading: ComponentReading, step: MapNode, mark: Mark, before: str
) -> MapNode | None:
    """Bring the component of a step to its place; return one that was written in the step."""
    source = reading.source
    step.take("$schema")
    if not _type_known(source, step, before):
        return None
    _compute(source, step, before)
    if "component" in step.items:
        for key in _FIELDS_OF_COMPONENTS.values():
            taken = step.take(key)
            if taken is not None:
                sentence = "stands beside `component`, which has its own; keep one of the two"
                source.problems.append(Problem(taken[0], f"{before}{key}", sentence))
        source.rules(step, azure_keys.STEP, before)
        resources = step.items.get("resources")
        if isinstance(resources, MapNode):
            source.rules(resources, azure_keys.RESOURCES, f"{before}resources.")
        check_environment_field(source, step, before)
        reading.mentioned(step, f"{before}component")
        return None
    kind = step.items.get("type")
    told = [t for t, key in _FIELDS_OF_COMPONENTS.items() if key in step.items]
    if len(told) != 1:
        sentence = "says not what to run: give `component`, or `command`, `task` or `jobs`"
        if told:
            keys = " and ".join(f"`{_FIELDS_OF_COMPONENTS[word]}`" for word in told)
            sentence = f"holds {keys}: a step is one of them"
        source.problems.append(Problem(mark, before.rstrip("."), sentence))
        step.put("component", mark, ScalarNode(mark, "azureml:unknown:1"))
        for word in told:
            step.take(_FIELDS_OF_COMPONENTS[word])
        return None
    return _moved(reading, step, mark, kind, told[0])


def _moved(
    reading: ComponentReading, step: MapNode, mark: Mark, kind: Node | None, told: str
) -> MapNode:
    """Move what a step says of a component into one."""
    component = MapNode(mark)
    word = kind if isinstance(kind, ScalarNode) and kind.value is not None else None
    component.put("type", word.mark if word else mark, word or ScalarNode(mark, told))
    for key in list(step.items):
        if key not in _OF_THE_STEP:
            taken = step.take(key)
            assert taken is not None
            component.put(key, *taken)
    step.put("component", mark, component)
    reading.inline.add(id(component))
    return component


def _type_known(source: Source, step: MapNode, before: str) -> bool:
    node = step.items.get("type")
    word = str(snake(node.value)) if isinstance(node, ScalarNode) else ""
    if word not in azure_keys.STEP_TYPES_REFUSED:
        return True
    assert node is not None
    sentence = f"{word!r} is not supported: {azure_keys.STEP_TYPES_REFUSED[word]}"
    source.problems.append(refused(node.mark, f"{before}type", sentence))
    # The rest of such a step means nothing here.
    step.items, step.keys = {}, {}
    step.put("component", node.mark, ScalarNode(node.mark, "azureml:unknown:1"))
    return False


def _compute(source: Source, step: MapNode, before: str) -> None:
    node = step.items.get("compute")
    if isinstance(node, ScalarNode) and "${{" in str(node.value):
        return  # a binding, checked with all others
    check_named(source, step, "compute", "compute", before)


def _data_of(source: Source, step: MapNode, before: str) -> None:
    """Bring data that stands in a step to canonical pointers, and literals to their values."""
    for side in ("inputs", "outputs"):
        entries = step.items.get(side)
        for key, entry in list(entries.items.items()) if isinstance(entries, MapNode) else ():
            assert isinstance(entries, MapNode)
            name = f"{before}{side}.{key}"
            if isinstance(entry, ListNode):
                what = "a value, a binding, or a mapping with type and path"
                source.problems.append(type_problem(entry.mark, name, what, entry))
                entries.put(key, entries.keys[key], ScalarNode(entry.mark, None))
            elif isinstance(entry, MapNode):
                for written, meant in SPELLINGS.items():
                    taken = entry.take(written)
                    if taken is not None:
                        entry.put(meant, *taken)
                if side == "inputs" and is_literal_entry(entry):
                    value = literal_of(source, name, entry)
                    entries.put(key, entries.keys[key], value or ScalarNode(entry.mark, None))
                    continue
                refuse_types(source, entry, f"{name}.")
                _pointer(source, entry, name, is_input=side == "inputs")


def _pointer(source: Source, entry: MapNode, name: str, *, is_input: bool) -> None:
    node = entry.items.get("path")
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or "${{" in node.value:
        return
    kind = entry.items.get("type")
    told = str(snake(kind.value)) if isinstance(kind, ScalarNode) else None
    try:
        uri = model_or_data_uri(node.value, source.folder_of(node), told)
    except Invalid as error:
        source.refuse(node, f"{name}.path", error.message, error.code)
        return
    entry.put("path", entry.keys["path"], ScalarNode(node.mark, uri))
    if told is None and is_input and is_local(uri) and not is_asset(uri):
        entry.put("type", node.mark, ScalarNode(node.mark, data_type(uri)))


@dataclass(frozen=True)
class _Type:
    """The type of what something is bound to, and whether it may be absent."""

    word: str
    optional: bool = False


class _Scope:
    """What bindings in a step can mean: inputs and outputs of the pipeline, and other steps'."""

    def __init__(self, tree: MapNode, steps: Mapping[str, MapNode]) -> None:
        self._tree = tree
        self._steps = steps

    def parent(self, side: str, name: str) -> _Type | None:
        """Tell the type of an input or output of the pipeline."""
        entry = _below(self._tree, side, name)
        if entry is None or is_null(entry):
            return _Type("uri_folder") if entry is not None and side == "outputs" else None
        if isinstance(entry, ScalarNode):
            return _Type(_literal_type(entry)) if side == "inputs" else _Type("uri_folder")
        if not isinstance(entry, MapNode):
            return None
        optional = entry.items.get("optional")
        is_optional = isinstance(optional, ScalarNode) and optional.value is True
        word = _word(entry.items.get("type"))
        if word is None:
            return _Type("uri_folder") if side == "outputs" else None
        return _Type(word, is_optional and "default" not in entry.items)

    def output(self, step: str, name: str) -> _Type | None:
        """Tell the type of an output of another step, when its component is known here."""
        component = self._steps[step].items.get("component") if step in self._steps else None
        if not isinstance(component, MapNode):
            return None
        entry = _below(component, "outputs", name)
        if entry is None:
            return None
        return _Type(_word(_below_map(entry, "type")) or "uri_folder")

    def of(self, text: str) -> _Type | None:
        """Tell the type of what a text is bound to; None when that is not known."""
        try:
            found = read_binding(text)
        except Invalid:
            return None  # said by the server, and by every check of the whole
        if isinstance(found, ParentInput):
            return self.parent("inputs", found.name)
        if isinstance(found, ParentOutput):
            return self.parent("outputs", found.name)
        return self.output(found.step, found.output) if isinstance(found, StepOutputRef) else None


def _derive_outputs(scope: _Scope, step: MapNode, component: MapNode) -> None:
    entries = step.items.get("outputs")
    if "outputs" in component.items or not isinstance(entries, MapNode):
        return
    made = MapNode(entries.mark)
    for key, entry in entries.items.items():
        path = entry if isinstance(entry, ScalarNode) else _below_map(entry, "path")
        text = path.value if isinstance(path, ScalarNode) else None
        bound = scope.of(text) if isinstance(text, str) else None
        word = _word(_below_map(entry, "type")) or (bound.word if bound else "uri_folder")
        made.put(key, entries.keys[key], _typed(entries.keys[key], word))
    component.put("outputs", step.keys["outputs"], made)


def _derive_inputs(
    source: Source, scope: _Scope, step: MapNode, component: MapNode, before: str
) -> None:
    entries = step.items.get("inputs")
    if "inputs" in component.items or not isinstance(entries, MapNode):
        return
    made = MapNode(entries.mark)
    for key, entry in entries.items.items():
        mark = entries.keys[key]
        found = _input_type(scope, entry)
        if found is None and is_null(entry):
            sentence = (
                "has no value, and a step written without a component has no other place to say "
                "its type; remove it, or bind it to something"
            )
            source.problems.append(Problem(mark, f"{before}inputs.{key}", sentence))
        word = found.word if found else "uri_folder"
        made.put(key, mark, _typed(mark, word, optional=found is not None and found.optional))
    component.put("inputs", step.keys["inputs"], made)


def _input_type(scope: _Scope, entry: Node) -> _Type | None:
    if isinstance(entry, MapNode):
        word = _word(entry.items.get("type"))
        path = entry.items.get("path")
        text = path.value if isinstance(path, ScalarNode) else None
        bound = scope.of(text) if isinstance(text, str) else None
        return _Type(word, bound is not None and bound.optional) if word else bound
    if not isinstance(entry, ScalarNode) or entry.value is None:
        return None
    if isinstance(entry.value, str) and "${{" in entry.value:
        return scope.of(entry.value)
    return _Type(_literal_type(entry))


def _typed(mark: Mark, word: str, *, optional: bool = False) -> MapNode:
    made = MapNode(mark)
    made.put("type", mark, ScalarNode(mark, word))
    if optional:
        made.put("optional", mark, ScalarNode(mark, value=True))
    return made


def _word(node: Node | None) -> str | None:
    word = str(snake(node.value)) if isinstance(node, ScalarNode) and node.value else None
    return word if word in _TYPES else None


def _literal_type(node: ScalarNode) -> str:
    if isinstance(node.value, bool):
        return "boolean"
    if isinstance(node.value, int):
        return "integer"
    return "number" if isinstance(node.value, float) else "string"


def _below(tree: MapNode, side: str, name: str) -> Node | None:
    entries = tree.items.get(side)
    return entries.items.get(name) if isinstance(entries, MapNode) else None


def _below_map(node: Node, key: str) -> Node | None:
    return node.items.get(key) if isinstance(node, MapNode) else None
