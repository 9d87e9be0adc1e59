"""Where the fields of a noun were written: what a server finds wrong is told at its place."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from batchpoint.cli.yaml_fields import FieldErrors, Problem
from batchpoint.cli.yaml_nodes import ListNode, MapNode, Mark, Node
from batchpoint.domain.component import Step
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, NotFound

_COMPONENT = "component"


@dataclass(frozen=True)
class Places:
    """A tree in the layout of its noun, whose nodes know where they were written.

    `files` are the roots of files that the tree's own file mentions, `inline` the components made
    of steps that were written without one (both by `id`): fields are named as they stand there.
    """

    tree: MapNode
    files: frozenset[int] = field(default_factory=frozenset[int])
    inline: frozenset[int] = field(default_factory=frozenset[int])

    def find(self, name: str) -> tuple[Mark, str] | None:
        """Tell where a field of the noun stands, and its name there; None for no field of it."""
        steps = name.split(".")
        walk = _Walk(self)
        for depth, step in enumerate(steps):
            if walk.enter(step):
                continue
            if depth == 0:
                return None
            return walk.mark, ".".join([*walk.shown, *steps[depth:]])
        return walk.mark, ".".join(walk.shown)


class _Walk:
    """A way from the root of a tree down along the names of a field."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._node: Node = places.tree
        self.mark = places.tree.mark
        self.shown: list[str] = []

    def enter(self, step: str) -> bool:
        """Go one step down; false when there is no such node."""
        node = self._node
        if isinstance(node, ListNode):
            is_there = step.isdecimal() and int(step) < len(node.items)
            if is_there:
                self._go(step, node.items[int(step)], node.items[int(step)].mark)
            return is_there
        return isinstance(node, MapNode) and self._enter_mapping(node, step)

    def _enter_mapping(self, node: MapNode, step: str) -> bool:
        if step in node.items:
            below = node.items[step]
            is_whole = isinstance(below, MapNode | ListNode)
            self._go(step, below, node.keys[step] if is_whole else below.mark)
            return True
        above, slash, rest = step.partition("/")  # a step of a pipeline in a pipeline
        if slash and above in node.items:
            return self.enter(above) and self.enter("jobs") and self.enter(rest)
        component = node.items.get(_COMPONENT)
        # What a step leaves out is missing there, also where its component has a field so named.
        inside = isinstance(component, MapNode) and step in component.items
        if inside and step not in Step.model_fields:
            return self.enter(_COMPONENT) and self.enter(step)
        return False

    def _go(self, step: str, below: Node, mark: Mark) -> None:
        self._node, self.mark = below, mark
        if id(below) in self._places.files:
            self.shown = []
            self.mark = below.mark
        elif id(below) not in self._places.inline:
            is_pointer = step in ("uri", "uris") and self.shown[:1] in (["inputs"], ["outputs"])
            self.shown.append("path" if is_pointer else step)  # as files of jobs say it


@contextmanager
def told_at_places(places: Places | None) -> Generator[None]:
    """Tell what the server finds wrong with a noun at the places where that was written.

    Raises:
        FieldErrors: For an error that names fields of the noun; others stay as they are.
    """
    try:
        yield
    except (Invalid, NotFound, Conflict) as error:
        found = None if places is None else _placed(error, places)
        if found is None:
            raise
        raise found from error


def _placed(error: BatchpointError, places: Places) -> FieldErrors | None:
    if isinstance(error, FieldErrors):
        return None
    findings: Sequence[tuple[str, str, str]] = error.findings
    if not findings and error.where:
        findings = [(error.where, error.message, error.code)]
    told = [(places.find(where), where, said, code) for where, said, code in findings]
    if not any(found for found, *_ in told):
        return None
    return FieldErrors(
        [
            _problem(*(found or (places.tree.mark, where)), said, code)
            for found, where, said, code in told
        ]
    )


def _problem(mark: Mark, name: str, said: str, code: str) -> Problem:
    """Name the field, but for what an option says: that names it itself."""
    return Problem(mark, "" if mark.source.startswith("--") else name, said, code)
