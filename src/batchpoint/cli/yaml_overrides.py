"""`--set key.path=value` and flags: values that replace what a file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from batchpoint.cli.yaml_nodes import (
    ListNode,
    MapNode,
    Mark,
    Node,
    Scalar,
    ScalarNode,
    kind_of,
    shown,
    yaml_error,
)

_SEALED = "credentials"


def tree_of(value: object, mark: Mark) -> Node:
    """Build a tree from plain data (a resource as the server has it), all of it at one place."""
    if isinstance(value, Mapping):
        node = MapNode(mark)
        for key, item in cast("Mapping[str, object]", value).items():
            node.put(key, mark, tree_of(item, mark))
        return node
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        return ListNode(mark, [tree_of(item, mark) for item in items])
    return ScalarNode(mark, cast("Scalar", value))


def apply_sets(tree: MapNode, sets: Sequence[str]) -> None:
    """Apply each `a.b=value` in turn; the value is YAML, nothing means null (unset).

    What is set below `credentials` is text as it stands: secrets are full of YAML's marks.

    Raises:
        Invalid: `yaml_invalid`, naming the option, for what is not `key=value` or not YAML.
    """
    for text in sets:
        from batchpoint.cli.yaml_tree import parse_tree

        path, equals, value = text.partition("=")
        mark = Mark(f"--set {path}" if path else "--set", 0, 0)
        steps = path.split(".")
        if not equals or not all(steps):
            got = "" if text.startswith(_SEALED) else f", got {shown(text)}"
            mark = Mark("--set", 0, 0) if got == "" else mark
            raise yaml_error(mark, f"expected KEY=VALUE with a dotted key{got}")
        if steps[0] == _SEALED and len(steps) > 1:
            set_path(tree, steps, ScalarNode(mark, value or None))
            continue
        node = parse_tree(value, str(mark)) or ScalarNode(mark, None)
        set_path(tree, steps, _placed(node, mark))


def set_path(tree: MapNode, steps: Sequence[str], node: Node) -> None:
    """Put `node` at a dotted path, making mappings on the way.

    Raises:
        Invalid: `yaml_invalid` when the path leads through something that is not a mapping.
    """
    here: Node = tree
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if isinstance(here, ListNode):
            if not step.isdecimal() or int(step) >= len(here.items):
                raise yaml_error(
                    node.mark, f"{'.'.join(steps[:depth])} is a list: no item {shown(step)}"
                )
            if last:
                here.items[int(step)] = node
                return
            here = here.items[int(step)]
            continue
        if not isinstance(here, MapNode):
            raise yaml_error(
                node.mark, f"{'.'.join(steps[:depth])} is {kind_of(here)}, not a mapping"
            )
        if last:
            here.put(step, node.mark, node)
            return
        below = here.items.get(step)
        if below is None or (isinstance(below, ScalarNode) and below.value is None):
            below = MapNode(node.mark)
            here.put(step, node.mark, below)
        here = below


def apply_flags(tree: MapNode, flags: Mapping[str, tuple[str, Scalar]]) -> None:
    """Put the values of flags (`{"compute": ("--compute", "local")}`); None was not given."""
    for path, (flag, value) in flags.items():
        if value is not None:
            set_path(tree, path.split("."), ScalarNode(Mark(flag, 0, 0), value))


def _placed(node: Node, mark: Mark) -> Node:
    """Say of every node of a `--set` value that it came from that option."""
    node.mark = mark
    if isinstance(node, ListNode):
        for item in node.items:
            _placed(item, mark)
    elif isinstance(node, MapNode):
        for key, item in node.items.items():
            node.keys[key] = mark
            _placed(item, mark)
    return node
