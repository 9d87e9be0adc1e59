"""The `inputs` and `outputs` of jobs as files say them: pointers to data and literals, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from batchpoint.cli.azure_keys import MODES_REFUSED
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
from batchpoint.cli.yaml_overrides import tree_of
from batchpoint.client.pointers import data_uri, job_input
from batchpoint.domain.component import DATA_TYPES, TYPES_REFUSED
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake
from batchpoint.domain.references import (
    MlflowModel,
    MlflowRun,
    asset_reference,
    is_reference,
    model_source,
)

# Spellings of Azure's REST bodies and of its SDK's dictionaries.
SPELLINGS = {"job_input_type": "type", "job_output_type": "type", "uri": "path"}
_WORDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
_LITERALS = ("string", "number", "integer", "boolean", "literal")
_MODELS = ("mlflow_model", "custom_model")
_INPUT_KEYS = ("type", "path", "pattern", "default", "value", "mode", "description")
_OUTPUT_KEYS = ("type", "path", "mode", "description", "name", "version")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_ONE_OF_THEM = f"{', '.join(DATA_TYPES[:-1])} or {DATA_TYPES[-1]}"


def stand_in(mark: Mark) -> Node:
    """Give what takes the place of a pointer that was found wrong: nothing else is said of it."""
    return tree_of({"type": "uri_folder", "uri": "file:///"}, mark)


def read_inputs(source: Source, *, also: str | None = None) -> frozenset[str]:
    """Bring `inputs` to names with literals and pointers to data.

    `also` is another spelling of `inputs`. Returns the names of data whose type nobody said.
    """
    entries = _taken(source, "inputs", also)
    open_types: set[str] = set()
    for key, node in list(entries.items.items()) if entries is not None else ():
        assert entries is not None
        mark, field = entries.keys[key], f"inputs.{key}"
        if isinstance(node, ScalarNode):
            if node.value is not None:
                _named(source, key, field, mark)
            continue
        entry = _entry(source, field, mark, node)
        if entry is None:
            entries.put(key, mark, stand_in(mark))
        elif is_literal_entry(entry):
            _named(source, key, field, mark)
            value = literal_of(source, field, entry)
            entries.put(key, mark, value or ScalarNode(mark, None))
        else:
            found = _data(source, field, entry)
            entries.put(key, mark, found or stand_in(mark))
            if found is not None and "type" not in entry.items:
                open_types.add(key)
    return frozenset(open_types)


def read_outputs(source: Source, *, also: str | None = None) -> None:
    """Bring `outputs` to names with the places where they shall appear."""
    entries = _taken(source, "outputs", also)
    for key, node in list(entries.items.items()) if entries is not None else ():
        assert entries is not None
        mark, field = entries.keys[key], f"outputs.{key}"
        if is_null(node):
            continue
        entry = _entry(source, field, mark, _spelled_out(node))
        found = None if entry is None else _output(source, field, entry)
        entries.put(key, mark, found or tree_of({"uri": "file:///"}, mark))


def _spelled_out(node: Node) -> Node:
    """Give the mapping that a bare path stands for."""
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return node
    entry = MapNode(node.mark)
    entry.put("path", node.mark, ScalarNode(node.mark, node.value))
    return entry


def is_null(node: Node) -> bool:
    """Tell whether nothing was written."""
    return isinstance(node, ScalarNode) and node.value is None


def is_literal_entry(entry: MapNode) -> bool:
    """Tell whether an entry of `inputs` says a literal and points at no data."""
    kind = entry.items.get("type")
    if isinstance(kind, ScalarNode) and snake(kind.value) in _LITERALS:
        return True
    return "path" not in entry.items and ("default" in entry.items or "value" in entry.items)


def literal_of(source: Source, field: str, entry: MapNode) -> ScalarNode | None:
    """Read the value of a literal as its declared type; None after saying what is wrong."""
    _known_keys(source, field, entry, ("type", "default", "value", "description"))
    node = entry.items.get("value") or entry.items.get("default")
    if node is None:
        source.problems.append(Problem(entry.mark, field, "is missing a value: give `default`"))
        return None
    if not isinstance(node, ScalarNode) or node.value is None:
        source.problems.append(type_problem(node.mark, field, "text, a number or a bool", node))
        return None
    kind = entry.items.get("type")
    told = str(snake(kind.value)) if isinstance(kind, ScalarNode) else "literal"
    value = _of_type(node.value, told)
    if value is None:
        source.problems.append(type_problem(node.mark, field, _WORDS[told], node))
        return None
    return ScalarNode(node.mark, value)


def refuse_types(source: Source, entry: MapNode, prefix: str) -> None:
    """Refuse a type or a mode that only Azure has, and put the usual one in its place."""
    rules: Mapping[str, Mapping[str, str]] = {"type": TYPES_REFUSED, "mode": MODES_REFUSED}
    for key, refusals in rules.items():
        node = entry.items.get(key)
        word = str(snake(node.value)) if isinstance(node, ScalarNode) else ""
        if node is not None and word in refusals:
            sentence = f"{word!r} is not supported: {refusals[word]}"
            source.problems.append(refused(node.mark, f"{prefix}{key}", sentence))
            entry.take(key)
            if key == "type":
                entry.put("type", node.mark, ScalarNode(node.mark, "uri_folder"))


def model_or_data_uri(text: str, folder: Path, kind: str | None) -> str:
    """Bring a pointer to its canonical form, one of a model when that is its type.

    Raises: Invalid (`reference_invalid`).
    """
    if kind not in _MODELS:
        return data_uri(text, folder)
    if is_reference(text) and not text.startswith(("azureml://", "upload:")):
        return str(asset_reference(text, "model"))
    found = model_source(text)
    return str(found) if isinstance(found, MlflowModel | MlflowRun) else data_uri(text, folder)


def _taken(source: Source, name: str, other: str | None) -> MapNode | None:
    """Give the mapping below one of two spellings of it, under the first one."""
    for key in (name, other):
        node = source.tree.items.get(key) if key is not None else None
        if key is None or node is None:
            continue
        mark, _ = cast("tuple[Mark, Node]", source.tree.take(key))
        if is_null(node):
            continue
        if isinstance(node, MapNode):
            source.tree.put(name, mark, node)
            return node
        source.problems.append(type_problem(mark, key, "a mapping of names to data", node))
    return None


def _named(source: Source, name: str, field: str, mark: Mark) -> None:
    if not _NAME.fullmatch(name):
        sentence = "is not a name: expected letters, digits and '_'"
        source.problems.append(Problem(mark, field, sentence))


def _entry(source: Source, field: str, mark: Mark, node: Node) -> MapNode | None:
    if not isinstance(node, MapNode):
        source.problems.append(type_problem(mark, field, "a mapping with type and path", node))
        return None
    for written, meant in SPELLINGS.items():
        taken = node.take(written)
        if taken is not None:
            node.put(meant, *taken)
    refuse_types(source, node, f"{field}.")
    return node


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
    """Report keys that an entry cannot have."""
    for key in list(entry.items):
        if key not in known:
            mark, _ = cast("tuple[Mark, Node]", entry.take(key))
            sentence = f"unknown field; {closest(key, known)}"
            source.problems.append(Problem(mark, f"{field}.{key}", sentence, "field_unknown"))


def _data_type(source: Source, field: str, entry: MapNode) -> tuple[str | None, bool]:
    """Give the type of data that was said, and whether it is one."""
    kind = entry.items.get("type")
    told = str(snake(kind.value)) if isinstance(kind, ScalarNode) else None
    if kind is None or told in DATA_TYPES:
        return told, True
    what = f"{_ONE_OF_THEM}; or string, number, integer, boolean for a literal"
    source.problems.append(type_problem(kind.mark, f"{field}.type", what, kind))
    return None, False


def _data(source: Source, field: str, entry: MapNode) -> Node | None:
    """Read one pointer to data; None after saying what is wrong."""
    _known_keys(source, field, entry, _INPUT_KEYS)
    told, is_type = _data_type(source, field, entry)
    if not is_type:
        return None
    pattern, node = entry.items.get("pattern"), entry.items.get("path")
    texts = _texts(node)
    if node is None or texts is None:
        found = entry if node is None else node
        what = "is missing; expected" if node is None else "expected"
        got = "" if node is None else f", got {shown(plain(node))}"
        source.problems.append(Problem(found.mark, field, f"{what} a path or URI{got}"))
        return None
    if pattern is not None and not (
        isinstance(pattern, ScalarNode) and isinstance(pattern.value, str)
    ):
        source.problems.append(type_problem(pattern.mark, f"{field}.pattern", "text", pattern))
        return None
    wildcard = str(pattern.value) if pattern is not None else None
    try:
        data = pointer(texts, source.folder_of(node), kind=told, pattern=wildcard)
    except Invalid as error:
        source.problems.append(Problem(node.mark, field, error.message, error.code))
        return None
    return _with_rest(tree_of(data, node.mark), entry, ("mode",))


def pointer(
    texts: list[str], folder: Path, *, kind: str | None, pattern: str | None
) -> dict[str, object]:
    """Give the fields of a `JobInput` of any type of data. Raises: Invalid."""
    if kind in _MODELS and len(texts) == 1 and pattern is None:
        return {"type": kind, "uri": model_or_data_uri(texts[0], folder, kind)}
    shape = "uri_file" if kind == "uri_file" else "uri_folder"
    found = job_input(texts, folder, kind=shape if kind else None, pattern=pattern)
    data: dict[str, object] = found.model_dump(mode="json", exclude_unset=True)
    if kind is not None:
        data["type"] = kind
    return data


def _with_rest(made: Node, entry: MapNode, keys: tuple[str, ...]) -> Node:
    assert isinstance(made, MapNode)
    for key in keys:
        if key in entry.items:
            made.put(key, entry.keys[key], entry.items[key])
    return made


def _texts(node: Node | None) -> list[str] | None:
    items = node.items if isinstance(node, ListNode) else [node]
    texts = [item.value for item in items if isinstance(item, ScalarNode)]
    if len(texts) != len(items) or not texts or not all(isinstance(t, str) and t for t in texts):
        return None
    return cast("list[str]", texts)


def _output(source: Source, field: str, entry: MapNode) -> Node | None:
    """Read where an output shall appear; None after saying what is wrong."""
    _known_keys(source, field, entry, _OUTPUT_KEYS)
    kind, node = entry.items.get("type"), entry.items.get("path")
    told = snake(kind.value) if isinstance(kind, ScalarNode) else None
    if kind is not None and told not in DATA_TYPES:
        source.problems.append(type_problem(kind.mark, f"{field}.type", _ONE_OF_THEM, kind))
        return None
    made = _with_rest(MapNode(entry.mark), entry, ("type", "mode", "name", "version"))
    assert isinstance(made, MapNode)
    if node is None or is_null(node):
        return made  # where results go without being told
    texts = _texts(node)
    if texts is None or len(texts) != 1:
        source.problems.append(type_problem(node.mark, field, "a path or URI", node))
        return None
    try:
        uri = data_uri(texts[0], source.folder_of(node))
    except Invalid as error:
        source.problems.append(Problem(node.mark, field, error.message, error.code))
        return None
    made.put("uri", node.mark, ScalarNode(node.mark, uri))
    return made


def read_output_dataset(source: Source) -> None:
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
