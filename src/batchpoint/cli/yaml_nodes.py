"""What a YAML file becomes: a tree whose every node knows where it stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from batchpoint.domain.errors import Invalid

_SHOWN_CHARS = 60


class Mark(NamedTuple):
    """Where something stands: a source (a file as the user named it) with line and column from 1.

    `line` 0 means that the source has no lines (`--set a.b=1`).
    """

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class WrittenInt(int):
    """A whole number that remembers how it was written (`version: 010` is the text "010")."""

    written: str = ""

    def __str__(self) -> str:
        return self.written


class WrittenFloat(float):
    """A number that remembers how it was written (`version: 1.10` is the text "1.10")."""

    written: str = ""

    def __str__(self) -> str:
        return self.written


Scalar = str | int | float | bool | None


@dataclass(slots=True)
class ScalarNode:
    """One value."""

    mark: Mark
    value: Scalar
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class ListNode:
    """A sequence."""

    mark: Mark
    items: list[Node] = field(default_factory=list["Node"])
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class MapNode:
    """A mapping from text to nodes, with the place of each key."""

    mark: Mark
    items: dict[str, Node] = field(default_factory=dict[str, "Node"])
    keys: dict[str, Mark] = field(default_factory=dict[str, Mark])
    size: int = 1
    height: int = 1

    def take(self, key: str) -> tuple[Mark, Node] | None:
        """Remove an entry and return the place of its key and its node; None if absent."""
        if key not in self.items:
            return None
        return self.keys.pop(key), self.items.pop(key)

    def put(self, key: str, mark: Mark, node: Node) -> None:
        """Set an entry whose key stands at `mark`."""
        self.items[key] = node
        self.keys[key] = mark


Node = ScalarNode | ListNode | MapNode


def yaml_error(mark: Mark | str, message: str) -> Invalid:
    """Build the error for text that is not the YAML we read."""
    return Invalid(message, code="yaml_invalid", where=str(mark))


def shown(value: object) -> str:
    """Quote a value for a message: as Python writes it, cut when long."""
    text = str(value) if isinstance(value, (WrittenInt, WrittenFloat)) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def kind_of(node: Node) -> str:
    """Name what a node is, for messages."""
    if isinstance(node, MapNode):
        return "a mapping"
    if isinstance(node, ListNode):
        return "a list"
    if isinstance(node.value, float) and not math.isfinite(node.value):
        return f"{shown(node.value)}, which is not finite"
    return "nothing" if node.value is None else shown(node.value)


def plain(
    node: Node, *, written: bool = False, built: Mapping[int, object] | None = None
) -> object:
    """Turn a tree into dicts, lists and scalars; numbers keep their spelling if `written`.

    `built` holds what stands in the place of nodes (by `id`) that are nouns already.
    """
    if built and id(node) in built:
        return built[id(node)]
    if isinstance(node, MapNode):
        return {key: plain(n, written=written, built=built) for key, n in node.items.items()}
    if isinstance(node, ListNode):
        return [plain(item, written=written, built=built) for item in node.items]
    if written:
        return node.value
    if isinstance(node.value, WrittenInt):
        return int(node.value)
    return float(node.value) if isinstance(node.value, WrittenFloat) else node.value
