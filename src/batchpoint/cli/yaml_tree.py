"""Reads YAML that may be hostile into a tree whose every node knows its line and column.

The tree is built from the parser's events, so nothing recurses on the text's nesting, and depth,
nodes and bytes are bounded while reading (`batchpoint.domain.limits.YAML_*`). Refused, each with
one sentence: tags, duplicate keys, aliases that multiply or contain themselves, keys that are not
scalars, several documents, text that is not UTF-8. Scalars mean what YAML 1.1 says (`no` is false),
except that dates stay text: nothing here takes a date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from batchpoint.cli.yaml_nodes import (
    ListNode,
    MapNode,
    Mark,
    Node,
    Scalar,
    ScalarNode,
    WrittenFloat,
    WrittenInt,
    kind_of,
    shown,
    yaml_error,
)
from batchpoint.client.pointers import found_at
from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"


def read_bounded(path: Path, shown_as: str | None = None) -> str:
    """Read a text file of at most `YAML_BYTES_MAX` bytes of UTF-8.

    Raises:
        Invalid: `yaml_invalid`, naming the file, when it is missing, too big or not UTF-8.
    """
    name = shown_as or str(path)
    kind = found_at(path)
    if kind != "file":  # a pipe or a device would be read for ever
        what = "is a folder" if kind == "folder" else "does not exist or is not a regular file"
        raise yaml_error(name, f"{what}: expected the path of a YAML file")
    try:
        with path.open("rb") as file:
            data = file.read(limits.YAML_BYTES_MAX + 1)
    except OSError as error:
        raise yaml_error(name, f"cannot be read: {error.strerror}") from error
    if len(data) > limits.YAML_BYTES_MAX:
        raise yaml_error(name, f"is larger than {limits.YAML_BYTES_MAX:,} bytes; split or trim it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise yaml_error(
            name, f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error


def parse_tree(text: str, source: str) -> Node | None:
    """Parse one YAML document; None when it is empty.

    Raises:
        Invalid: `yaml_invalid` with the place, see the module's docstring.
    """
    if len(text) > limits.YAML_BYTES_MAX:
        raise yaml_error(source, f"is larger than {limits.YAML_BYTES_MAX:,} characters")
    try:
        return _Builder(text, source).build()
    except UnicodeError as error:
        raise yaml_error(source, "is not text: it holds half of a character") from error
    except yaml.YAMLError as error:
        raise _syntax_error(error, source) from error


def parse_mapping(text: str, source: str) -> MapNode:
    """Parse a document that must be a mapping (the shape of every file we read)."""
    node = parse_tree(text, source)
    if node is None:
        raise yaml_error(source, "is empty: expected a mapping of keys to values")
    if not isinstance(node, MapNode):
        raise yaml_error(node.mark, f"expected a mapping of keys to values, got {kind_of(node)}")
    return node


class _Builder:
    """Builds the tree from parser events, with an explicit stack."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.loader = _Loader(text)
        self.anchors: dict[str, Node | None] = {}
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.nodes = 0

    def build(self) -> Node | None:
        documents = 0
        while (event := self.loader.get_event()) is not None:
            mark = self.mark(event)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise yaml_error(mark, "holds a second document: give each its own file")
            elif isinstance(event, yaml.AliasEvent):
                self.add(self.aliased(cast("str", event.anchor), mark), mark)
            elif isinstance(event, yaml.ScalarEvent):
                self.scalar(event, mark)
            elif isinstance(event, yaml.CollectionStartEvent):
                self.open(event, mark)
            elif isinstance(event, yaml.CollectionEndEvent):
                self.close()
        return self.root

    def mark(self, event: Any) -> Mark:
        start = event.start_mark
        return Mark(self.source, start.line + 1, start.column + 1)

    def scalar(self, event: Any, mark: Mark) -> None:
        self.refuse_tag(event, mark)
        opened = self.stack[-1] if self.stack else None
        if isinstance(opened, _OpenMap) and opened.key is None:
            if event.anchor is not None:
                raise yaml_error(mark, "a key cannot be an anchor")
            self.count(1, mark)
            # Keys are text: `on:`, `no:` and `1:` mean what is written.
            merges = event.value == "<<" and event.implicit[0]
            opened.name(cast("str", event.value), mark, merges=merges)
            return
        node = ScalarNode(mark, self.value_of(event, mark))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self.add(node, mark)

    def value_of(self, event: Any, mark: Mark) -> Scalar:
        text = cast("str", event.value)
        tag = self.loader.resolve(yaml.ScalarNode, text, event.implicit).removeprefix(_PREFIX)
        node = yaml.ScalarNode(_PREFIX + tag, text)
        try:
            if tag == "null":
                return None
            if tag == "bool":
                return bool(self.loader.construct_yaml_bool(node))
            if tag == "int":
                whole = WrittenInt(self.loader.construct_yaml_int(node))
                whole.written = text
                return whole
            if tag == "float":
                number = WrittenFloat(self.loader.construct_yaml_float(node))
                number.written = text
                return number
        except (ValueError, OverflowError) as error:
            raise yaml_error(mark, f"{shown(text)} is not a number we can read") from error
        return text

    def open(self, event: Any, mark: Mark) -> None:
        self.refuse_tag(event, mark)
        if len(self.stack) >= limits.YAML_DEPTH_MAX:
            raise yaml_error(mark, f"is nested deeper than {limits.YAML_DEPTH_MAX} levels")
        parent = self.stack[-1] if self.stack else None
        if isinstance(parent, _OpenMap) and parent.key is None:
            raise yaml_error(
                mark,
                "a key must be text, not a list or a mapping; a binding begins with '$': ${{…}}, "
                "and other text that begins with '{' needs quotes around it",
            )
        if event.anchor is not None:
            self.anchors[event.anchor] = None  # until it is closed: an alias to it is a cycle
        if isinstance(event, yaml.MappingStartEvent):
            self.stack.append(_OpenMap(MapNode(mark), event.anchor))
        else:
            self.stack.append(_OpenList(ListNode(mark), event.anchor))

    def close(self) -> None:
        opened = self.stack.pop()
        if isinstance(opened, _OpenMap):
            opened.merge()
        if opened.anchor is not None:
            self.anchors[opened.anchor] = opened.node
        self.add(opened.node, opened.node.mark)

    def aliased(self, anchor: str, mark: Mark) -> Node:
        opened = self.stack[-1] if self.stack else None
        if isinstance(opened, _OpenMap) and opened.key is None:
            raise yaml_error(mark, "a key must be text, not an alias")
        if anchor not in self.anchors:
            raise yaml_error(
                mark,
                "an alias has no anchor before it; put quotes around text that begins with '*'",
            )
        node = self.anchors[anchor]
        if node is None:
            raise yaml_error(mark, "an alias contains itself")
        self.count(node.size - 1, mark)
        return node

    def add(self, node: Node, mark: Mark) -> None:
        # A closed collection's members are counted already; an alias counts its whole subtree.
        self.count(1, mark)
        if len(self.stack) + node.height > limits.YAML_DEPTH_MAX:
            raise yaml_error(mark, f"is nested deeper than {limits.YAML_DEPTH_MAX} levels")
        if self.stack:
            self.stack[-1].add(node)
        else:
            self.root = node

    def count(self, nodes: int, mark: Mark) -> None:
        self.nodes += nodes
        if self.nodes > limits.YAML_NODES_MAX:
            raise yaml_error(
                mark,
                f"holds more than {limits.YAML_NODES_MAX:,} values, aliases counted as what they "
                "stand for",
            )

    def refuse_tag(self, event: Any, mark: Mark) -> None:
        if event.tag is not None:
            raise yaml_error(
                mark,
                "a tag is not allowed: write a plain value, in quotes if it begins with '!'",
            )


class _OpenList:
    """A sequence whose end has not been read."""

    def __init__(self, node: ListNode, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor

    def add(self, node: Node) -> None:
        self.node.items.append(node)
        self.node.size += node.size
        self.node.height = max(self.node.height, node.height + 1)


class _OpenMap:
    """A mapping whose end has not been read; `key` waits for its value."""

    def __init__(self, node: MapNode, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: str | None = None
        self.key_mark = node.mark
        self.merging = False
        self.merged: list[MapNode] = []

    def name(self, key: str, mark: Mark, *, merges: bool) -> None:
        if key in self.node.items:
            first = self.node.keys[key]
            raise yaml_error(
                mark, f"duplicate key {shown(key)}: it stands on line {first.line} too"
            )
        self.key, self.key_mark, self.merging = key, mark, merges

    def add(self, node: Node) -> None:
        self.node.size += node.size + 1
        self.node.height = max(self.node.height, node.height + 1)
        if self.merging:
            sources = node.items if isinstance(node, ListNode) else [node]
            for source in sources:
                if not isinstance(source, MapNode):
                    raise yaml_error(self.key_mark, "'<<' merges mappings and nothing else")
                self.merged.append(source)
        else:
            self.node.put(cast("str", self.key), self.key_mark, node)
        self.key, self.merging = None, False

    def merge(self) -> None:
        """Add what `<<` brings: own keys win, then the mapping named first."""
        for source in self.merged:
            for key, node in source.items.items():
                if key not in self.node.items:
                    self.node.put(key, source.keys[key], node)


_Open = _OpenList | _OpenMap


def _syntax_error(error: yaml.YAMLError, source: str) -> Invalid:
    """Say what the parser stumbled on, in its words, with the place in ours."""
    if isinstance(error, yaml.MarkedYAMLError):
        found = error.problem_mark or error.context_mark
        mark = Mark(source, found.line + 1, found.column + 1) if found else Mark(source, 0, 0)
        said = " ".join(str(error.problem or error.context or "not YAML").split())
        return yaml_error(mark, f"is not YAML here: {said[:200]}")
    said = str(getattr(error, "reason", "") or "a character that YAML does not allow")
    place = getattr(error, "position", None)
    at = "" if place is None else f" at position {place}"
    return yaml_error(source, f"is not YAML: {said[:200]}{at}")
