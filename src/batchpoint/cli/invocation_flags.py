"""What the command line says of an invocation, put where its file would have said it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from batchpoint.cli.job_data import pointer
from batchpoint.cli.yaml_fields import Problem
from batchpoint.cli.yaml_files import Source
from batchpoint.cli.yaml_nodes import MapNode, Mark, Node, ScalarNode, kind_of, yaml_error
from batchpoint.cli.yaml_overrides import set_path, tree_of
from batchpoint.client.pointers import data_uri
from batchpoint.domain.component import DATA_TYPES
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake


@dataclass(frozen=True)
class InputFlags:
    """What the command line says about the input; it wins over the job file.

    `paths`: each `--input`; `file_list`: a file with one pointer a line, `-` for stdin.
    """

    paths: Sequence[str] = ()
    file_list: str | None = None
    kind: str | None = None
    pattern: str | None = None


def take_inputs(source: Source, given: InputFlags, open_types: frozenset[str]) -> frozenset[str]:
    """Take the input from flags; `--input-type` and `--input-pattern` alone change the file's.

    Data of flags takes the place of the only data that the file points at, under its name.
    """
    texts = [*given.paths, *_listed(given.file_list)]
    names, kind = _data_names(source.tree), snake(given.kind)
    if kind is not None and kind not in DATA_TYPES:
        mark = Mark("--input-type", 0, 0)
        sentence = f"expected {', '.join(DATA_TYPES[:-1])} or {DATA_TYPES[-1]}, got {given.kind!r}"
        source.problems.append(Problem(mark, "input.type", sentence))
        kind = None
    name = names[0] if len(names) == 1 else ""
    if texts:
        mark = Mark("--input" if given.paths else "--input-file-list", 0, 0)
        try:
            told = cast("str | None", kind)
            data = pointer(texts, source.cwd, kind=told, pattern=given.pattern)
        except Invalid as error:
            source.problems.append(Problem(mark, "input", error.message, error.code))
            return open_types
        set_path(source.tree, ["inputs", name] if name else ["input"], tree_of(data, mark))
        found = open_types - {name}
        return found if kind is not None else found | {name}
    for key, flag, value in (
        ("type", "--input-type", kind),
        ("pattern", "--input-pattern", given.pattern),
    ):
        if not isinstance(value, str):
            continue
        mark = Mark(flag, 0, 0)
        if not name:
            sentence = f"is about one input, and there are {len(names)}; say it in the file"
            source.problems.append(Problem(mark, "", sentence))
            continue
        set_path(source.tree, ["inputs", name, key], ScalarNode(mark, value))
    return open_types - {name} if kind is not None else open_types


def take_output(source: Source, text: str | None) -> None:
    """Take the place of the results from `--output-path`: of the only output that a file names."""
    if text is None:
        return
    mark = Mark("--output-path", 0, 0)
    try:
        uri = data_uri(text, source.cwd)
    except Invalid as error:
        source.problems.append(Problem(mark, "output", error.message, error.code))
        return
    outputs = source.tree.items.get("outputs")
    names = list(outputs.items) if isinstance(outputs, MapNode) else []
    if len(names) == 1:
        set_path(source.tree, ["outputs", names[0], "uri"], ScalarNode(mark, uri))
    else:
        source.tree.put("output", mark, tree_of({"uri": uri}, mark))


def _data_names(tree: MapNode) -> list[str]:
    """Give the names of inputs that point at data."""
    inputs = tree.items.get("inputs")
    entries = inputs.items if isinstance(inputs, MapNode) else {}
    return [name for name, node in entries.items() if isinstance(node, MapNode)]


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


def put_pairs(tree: MapNode, option: str, given: Sequence[str]) -> None:
    """Put each `NAME=VALUE` of an option where it belongs; parameters have YAML's types.

    Parameters are literal inputs, but for those that the file says below `parameters`.
    """
    from batchpoint.cli.yaml_tree import parse_tree

    for text in given:
        name, equals, value = text.partition("=")
        mark = Mark(f"{option} {name}" if name and equals else option, 0, 0)
        if not name or not equals:
            raise yaml_error(mark, f"expected NAME=VALUE, got {text[:60]!r}")
        node: Node = ScalarNode(mark, value)
        target = ["overrides", "environment_variables"]
        if option == "--param":
            overrides = tree.items.get("overrides")
            below = overrides.items.get("parameters") if isinstance(overrides, MapNode) else None
            is_there = isinstance(below, MapNode) and name in below.items
            target = ["overrides", "parameters"] if is_there else ["inputs"]
            node = parse_tree(value, str(mark)) or ScalarNode(mark, "")
            if isinstance(node, ScalarNode) and node.value is None:
                node.value = value  # `null` and `~` are text here
            elif not isinstance(node, ScalarNode):
                problem = f"expected text, a number or a bool, got {kind_of(node)}"
                raise yaml_error(mark, problem)
            node.mark = mark
        set_path(tree, [*target, name], node)
