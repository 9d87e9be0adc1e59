"""Loads the YAML files of data assets, code assets and datastores into nouns.

What a datastore's credentials hold is never part of an error: values that are wrong are named by
their field alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batchpoint.cli import azure_keys
from batchpoint.cli.yaml_fields import FieldErrors, Problem, closest, refused
from batchpoint.cli.yaml_files import Flags, Loaded, Source, finished, open_source
from batchpoint.cli.yaml_nodes import MapNode, ScalarNode
from batchpoint.client.pointers import data_uri, found_at, is_local, local_path
from batchpoint.domain.asset import Code, Data
from batchpoint.domain.datastore import TYPES_REFUSED, Credentials, Datastore
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake

if TYPE_CHECKING:
    from batchpoint.cli.yaml_nodes import Mark

_CREDENTIALS = "credentials"
_KEY_FILE = "service_account_key"


def load_data(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Data]:
    """Load a data asset; the type of what is local is found by looking."""
    source = open_source(path, sets, flags or {}, existing=existing)
    source.rules(source.tree, azure_keys.DATA)
    place, kind = source.tree.items.get("path"), source.tree.items.get("type")
    if not isinstance(place, ScalarNode) or not isinstance(place.value, str):
        return finished(Data, source)  # which says what is wrong
    try:
        place.value = data_uri(place.value, source.folder_of(place))
    except Invalid as error:
        source.refuse(place, "path", error.message, error.code)
        return finished(Data, source)
    if not is_local(place.value):
        return finished(Data, source)
    found = found_at(Path(place.value))
    if found not in ("file", "folder"):
        source.refuse(place, "path", f"no file or folder is at {place.value!r}", "input_not_found")
    elif kind is None:
        node = ScalarNode(place.mark, f"uri_{found}")
        source.tree.put("type", place.mark, node)
    elif (
        isinstance(kind, ScalarNode)
        and (told := snake(kind.value)) in ("uri_file", "uri_folder")
        and told != f"uri_{found}"
    ):
        source.refuse(kind, "type", f"{place.value} is a {found}; write uri_{found}")
    return finished(Data, source)


def load_code(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Code]:
    """Load a code asset: a folder of scoring code."""
    source = open_source(path, sets, flags or {}, existing=existing)
    source.rules(source.tree, azure_keys.CODE)
    place = source.tree.items.get("path")
    if isinstance(place, ScalarNode) and isinstance(place.value, str) and is_local(place.value):
        folder = local_path(place.value, source.folder_of(place))
        if found_at(folder) != "folder":
            source.refuse(place, "path", f"no folder is at {str(folder)!r}", "input_not_found")
        place.value = str(folder)
    return finished(Code, source)


def load_datastore(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[Datastore]:
    """Load a datastore with its credentials."""
    source = open_source(path, sets, flags or {}, existing=existing)
    tree = source.tree
    kind = tree.items.get("type")
    if isinstance(kind, ScalarNode) and str(snake(kind.value)) in TYPES_REFUSED:
        # The rest of such a file means nothing to another type.
        sentence = f"{kind.value!r} is not supported: {TYPES_REFUSED[str(snake(kind.value))]}"
        raise FieldErrors([refused(kind.mark, "type", sentence)])
    source.rules(tree, azure_keys.DATASTORE)
    place = tree.items.get("path")
    if isinstance(place, ScalarNode) and isinstance(place.value, str) and is_local(place.value):
        place.value = str(local_path(place.value, source.folder_of(place)))
    _credentials(source)
    return finished(Datastore, source)


def _credentials(source: Source) -> None:
    """Check credentials here, so that no value of theirs can get into a message."""
    taken = source.tree.items.get(_CREDENTIALS)
    if taken is None or (isinstance(taken, ScalarNode) and taken.value is None):
        return
    if not isinstance(taken, MapNode):
        source.tree.take(_CREDENTIALS)
        known = ", ".join(Credentials.model_fields)
        source.refuse(taken, _CREDENTIALS, f"expected a mapping with some of {known}")
        return
    source.rules(taken, azure_keys.CREDENTIALS, f"{_CREDENTIALS}.")
    for key in list(taken.items):
        node, name = taken.items[key], f"{_CREDENTIALS}.{key}"
        if key not in Credentials.model_fields:
            source.problems.append(_unknown(taken.keys[key], key, name))
            taken.take(key)
        elif not isinstance(node, ScalarNode):
            source.refuse(node, name, "expected text")
            taken.take(key)
        elif node.value is not None:
            node.value = _as_written(node.value)
            if key == _KEY_FILE and not node.value.lstrip().startswith("{"):
                _read_key_file(source, node, name)


def _as_written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)  # numbers keep their spelling


def _unknown(mark: Mark, key: str, name: str) -> Problem:
    advice = closest(key, Credentials.model_fields)
    return Problem(mark, name, f"unknown field; {advice}", "field_unknown")


def _read_key_file(source: Source, node: ScalarNode, name: str) -> None:
    """Read the JSON file of a Google service account that a field names."""
    from batchpoint.cli.yaml_tree import read_bounded

    path = local_path(str(node.value), source.folder_of(node))
    try:
        node.value = read_bounded(path, "the file")
    except Invalid:
        sentence = "expected the JSON text of the key, or the path of a file with it"
        source.refuse(node, name, sentence)
