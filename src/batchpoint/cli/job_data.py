"""The `inputs` and `outputs` of a job file: one pointer to data, one to results, and literals."""

from __future__ import annotations

import math
import re
from typing import cast

from batchpoint.cli.yaml_fields import Problem, closest, refused, type_problem
from batchpoint.cli.yaml_files import Source
from batchpoint.cli.yaml_nodes import (
    ListNode,
    MapNode,
    Mark,
    Node,
    Scalar,
    ScalarNode,
    plain,
    shown,
)
from batchpoint.cli.yaml_overrides import set_path, tree_of
from batchpoint.client.pointers import data_uri, job_input
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake
from batchpoint.domain.references import InputKind

_MODEL = "the model belongs to the deployment, and an input points at data"
_DATA_TYPES_REFUSED = {
    "mltable": "tables are not supported: point at the folder of files",
    "ml_table": "tables are not supported: point at the folder of files",
    "custom_model": _MODEL,
    "mlflow_model": _MODEL,
    "triton_model": _MODEL,
}
_WORDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
_LITERALS = ("string", "number", "integer", "boolean", "literal")
# Spellings of Azure's REST bodies and of its SDK's dictionaries.
_SPELLINGS = {"job_input_type": "type", "job_output_type": "type", "uri": "path"}
_INPUT_KEYS = ("type", "path", "pattern", "default", "value", "mode", "description")
_OUTPUT_KEYS = ("type", "path", "mode", "description")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_FILE_NAME = re.compile(r"(?P<folder>.*)/(?P<name>[^/]+\.[A-Za-z0-9]{1,8})", re.DOTALL)

# Takes the place of a pointer that was found wrong, so that nothing else is said about it.
_STAND_IN = {"input": {"type": "uri_folder", "uri": "file:///"}, "output": {"uri": "file:///"}}


def stand_in(key: str, mark: Mark) -> Node:
    """Give what takes the place of an `input` or `output` that was found wrong."""
    return tree_of(_STAND_IN[key], mark)


def type_refused(kind: str) -> str | None:
    """Say why data of a type cannot be scored; None for those that nobody knows."""
    why = _DATA_TYPES_REFUSED.get(str(snake(kind)))
    return None if why is None else f"{kind!r} cannot be scored: {why}"


def read_inputs(source: Source) -> bool:
    """Turn `inputs` into `input` and parameters; tell whether the input's type was left open."""
    taken = _taken(source, "inputs", "input_data", "input")
    if taken is None:
        return True
    name, mark, entries = taken
    data: list[tuple[str, MapNode]] = []
    for key, node in entries.items.items():
        field = f"{name}.{key}"
        entry = _entry(source, field, entries.keys[key], node)
        if entry is None:
            source.tree.put("input", mark, stand_in("input", mark))
        elif _is_literal(entry):
            _literal(source, key, field, entry)
        else:
            data.append((field, entry))
    if len(data) != 1:
        if "input" not in source.tree.items and (data or not entries.items):
            sentence = f"has {len(data)} entries: a model deployment takes exactly one"
            source.problems.append(Problem(mark, name, sentence))
            source.tree.put("input", mark, stand_in("input", mark))
        return True
    return _data(source, *data[0])


def read_outputs(source: Source) -> None:
    """Turn `outputs` (or the older `output_dataset`) into `output` and a file name."""
    _output_dataset(source)
    taken = _taken(source, "outputs", "output_data", "output")
    if taken is None:
        return
    name, mark, entries = taken
    if len(entries.items) != 1:
        sentence = f"has {len(entries.items)} entries: a model deployment takes exactly one"
        source.problems.append(Problem(mark, name, sentence))
        source.tree.put("output", mark, stand_in("output", mark))
        return
    [(key, node)] = entries.items.items()
    field = f"{name}.{key}"
    entry = _entry(source, field, entries.keys[key], node)
    if entry is not None:
        _known_keys(source, field, entry, _OUTPUT_KEYS)
        _output(source, field, entry)


def _taken(
    source: Source, name: str, other: str, singular: str
) -> tuple[str, Mark, MapNode] | None:
    for key in (name, other):
        taken = source.tree.take(key)
        if taken is None or (isinstance(taken[1], ScalarNode) and taken[1].value is None):
            continue
        mark, node = taken
        if isinstance(node, MapNode):
            return key, mark, node
        source.problems.append(type_problem(mark, key, "a mapping of names to data", node))
        source.tree.put(singular, mark, stand_in(singular, mark))
    return None


def _entry(source: Source, field: str, mark: Mark, node: Node) -> MapNode | None:
    if not isinstance(node, MapNode):
        source.problems.append(type_problem(mark, field, "a mapping with type and path", node))
        return None
    for written, meant in _SPELLINGS.items():
        taken = node.take(written)
        if taken is not None:
            node.put(meant, *taken)
    return node


def _is_literal(entry: MapNode) -> bool:
    kind = entry.items.get("type")
    if isinstance(kind, ScalarNode) and snake(kind.value) in _LITERALS:
        return True
    return "path" not in entry.items and ("default" in entry.items or "value" in entry.items)


def _has_parameters(source: Source) -> bool:
    overrides = source.tree.items.get("overrides")
    return isinstance(overrides, MapNode) and "parameters" in overrides.items


def _literal(source: Source, name: str, field: str, entry: MapNode) -> None:
    """Take a literal input as a parameter of the job."""
    _known_keys(source, field, entry, ("type", "default", "value", "description"))
    node = entry.items.get("value") or entry.items.get("default")
    if node is None:
        source.problems.append(Problem(entry.mark, field, "is missing a value: give `default`"))
        return
    if not _NAME.fullmatch(name):
        sentence = "is not a name: expected letters, digits and '_'"
        source.problems.append(Problem(entry.mark, field, sentence))
        return
    if not isinstance(node, ScalarNode) or node.value is None:
        source.problems.append(type_problem(node.mark, field, "text, a number or a bool", node))
        return
    kind = entry.items.get("type")
    told = snake(kind.value) if isinstance(kind, ScalarNode) else "literal"
    value = _of_type(node.value, str(told))
    if value is None:
        source.problems.append(type_problem(node.mark, field, _WORDS[str(told)], node))
        return
    if _has_parameters(source):
        overrides = cast("MapNode", source.tree.items["overrides"])
        parameters = overrides.items["parameters"]
        if isinstance(parameters, MapNode) and name in parameters.items:
            sentence = f"stands below `parameters` too ({parameters.keys[name]}); keep one"
            source.problems.append(Problem(entry.mark, field, sentence))
            return
    set_path(source.tree, ["overrides", "parameters", name], ScalarNode(node.mark, value))


def _of_type(value: Scalar, kind: str) -> Scalar:
    """Bring a value to the declared type; None when it is of another."""
    if kind == "string":
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "boolean":
        spelled = (
            {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
        )
        return spelled if isinstance(spelled, bool) else None
    if kind in ("number", "integer"):
        return None if isinstance(value, bool) or value is None else _number(value, kind)
    return value


def _number(value: str | float, kind: str) -> int | float | None:
    try:
        number = float(value) if isinstance(value, str) else value
        if kind == "integer":
            return int(number) if math.isfinite(number) and number == int(number) else None
    except (ValueError, OverflowError):
        return None
    return number


def _known_keys(source: Source, field: str, entry: MapNode, known: tuple[str, ...]) -> None:
    """Report keys that an entry cannot have; name those that have no effect."""
    for key in list(entry.items):
        if key in known and key != "mode":
            continue
        mark, _ = cast("tuple[Mark, Node]", entry.take(key))
        if key == "mode" and key in known:
            why = "how data reaches a node is decided by its size and place"
            source.warnings.append(
                f"{mark}: {field}.mode has no effect here and was ignored: {why}"
            )
        else:
            sentence = f"unknown field; {closest(key, known)}"
            source.problems.append(Problem(mark, f"{field}.{key}", sentence, "field_unknown"))


def _data(source: Source, field: str, entry: MapNode) -> bool:
    """Take the one pointer to data."""
    _known_keys(source, field, entry, _INPUT_KEYS)
    source.tree.put("input", entry.mark, stand_in("input", entry.mark))
    kind, pattern, node = (entry.items.get(key) for key in ("type", "pattern", "path"))
    told = snake(kind.value) if isinstance(kind, ScalarNode) else None
    if isinstance(kind, ScalarNode) and (sentence := type_refused(str(kind.value))):
        source.problems.append(refused(kind.mark, f"{field}.type", sentence))
        return False
    if kind is not None and told not in ("uri_file", "uri_folder"):
        what = "uri_file, uri_folder, or string, number, integer, boolean for a literal"
        source.problems.append(type_problem(kind.mark, f"{field}.type", what, kind))
        return False
    texts = _texts(node)
    if node is None or texts is None:
        found = entry if node is None else node
        what = "is missing; expected" if node is None else "expected"
        got = "" if node is None else f", got {shown(plain(node))}"
        sentence = f"{what} a path or URI{got}"
        source.problems.append(Problem(found.mark, field, sentence))
        return False
    if pattern is not None and not (
        isinstance(pattern, ScalarNode) and isinstance(pattern.value, str)
    ):
        source.problems.append(type_problem(pattern.mark, f"{field}.pattern", "text", pattern))
        return False
    try:
        found_input = job_input(
            texts,
            source.folder_of(node),
            kind=cast("InputKind | None", told),
            pattern=str(pattern.value) if pattern is not None else None,
        )
    except Invalid as error:
        source.problems.append(Problem(node.mark, field, error.message, error.code))
        return False
    data = found_input.model_dump(mode="json", exclude_unset=True)
    source.tree.put("input", node.mark, tree_of(data, node.mark))
    return kind is None


def _texts(node: Node | None) -> list[str] | None:
    items = node.items if isinstance(node, ListNode) else [node]
    texts = [item.value for item in items if isinstance(item, ScalarNode)]
    if len(texts) != len(items) or not texts or not all(isinstance(t, str) and t for t in texts):
        return None
    return cast("list[str]", texts)


def _output(source: Source, field: str, entry: MapNode) -> None:
    """Take the folder for the results; of a file's path, its folder and its name."""
    kind, node = entry.items.get("type"), entry.items.get("path")
    told = snake(kind.value) if isinstance(kind, ScalarNode) else None
    if kind is not None and told not in ("uri_file", "uri_folder"):
        what = "uri_file or uri_folder (results are files)"
        source.problems.append(type_problem(kind.mark, f"{field}.type", what, kind))
    if node is None or (isinstance(node, ScalarNode) and node.value is None):
        return  # where results go without being told
    source.tree.put("output", node.mark, stand_in("output", node.mark))
    texts = _texts(node)
    if texts is None or len(texts) != 1:
        source.problems.append(type_problem(node.mark, field, "a path or URI", node))
        return
    try:
        uri = data_uri(texts[0], source.folder_of(node))
    except Invalid as error:
        source.problems.append(Problem(node.mark, field, error.message, error.code))
        return
    named = _FILE_NAME.fullmatch(uri) if told == "uri_file" else None
    if named is not None:
        uri = f"{named['folder']}/"
        _file_name(source, field, ScalarNode(node.mark, named["name"]))
    source.tree.put("output", node.mark, tree_of({"uri": uri}, node.mark))


def _file_name(source: Source, field: str, node: ScalarNode) -> None:
    overrides = source.tree.items.get("overrides")
    before = overrides.items.get("output_file_name") if isinstance(overrides, MapNode) else None
    if isinstance(before, ScalarNode) and before.value not in (None, node.value):
        sentence = f"ends with another name than output_file_name ({before.mark}); keep one"
        source.problems.append(Problem(node.mark, field, sentence))
        return
    set_path(source.tree, ["overrides", "output_file_name"], node)


def _output_dataset(source: Source) -> None:
    """Take Azure's older form of an output: a datastore and a path in it."""
    taken = source.tree.take("output_dataset")
    if taken is None:
        return
    mark, node = taken
    if not isinstance(node, MapNode):
        expected = "a mapping with datastore_id and path"
        source.problems.append(type_problem(mark, "output_dataset", expected, node))
        return
    if "outputs" in source.tree.items or "output_data" in source.tree.items:
        sentence = "is outputs by another name; keep one"
        source.problems.append(Problem(mark, "output_dataset", sentence))
        return
    _known_keys(source, "output_dataset", node, ("datastore_id", "path"))
    store, path = node.items.get("datastore_id"), node.items.get("path")
    if not isinstance(store, ScalarNode) or not isinstance(store.value, str) or not store.value:
        sentence = "is missing; expected the name of a datastore"
        source.problems.append(Problem(mark, "output_dataset.datastore_id", sentence))
        return
    name = store.value.removeprefix("azureml:").rstrip("/").rpartition("/")[2]
    below = str(path.value).lstrip("/") if isinstance(path, ScalarNode) and path.value else ""
    uri = f"azureml://datastores/{name}/paths/{below}"
    source.tree.put("output", mark, tree_of({"uri": uri}, mark))
