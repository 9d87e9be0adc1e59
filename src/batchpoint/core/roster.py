"""The nodes of a running job: what each one holds, and how much work it should hold ahead."""

from __future__ import annotations

from collections.abc import Iterator

from batchpoint.domain import limits
from batchpoint.domain.minibatch import Task

# Handed to each slot before it is known how long a task takes.
_PREFETCH_PER_SLOT_FIRST = 4
# Weight of the newest duration in a node's moving mean.
_NEWEST = 0.2


class Node:
    """One node; `held` maps the tasks it was given to their attempt numbers, oldest first."""

    __slots__ = (
        "benched",
        "deadline",
        "held",
        "init_failures",
        "name",
        "seconds",
        "slots",
        "solitary",
    )

    def __init__(self, name: str, slots: int) -> None:
        self.name = name
        self.slots = slots
        self.held: dict[Task, int] = {}
        self.seconds = -1.0
        self.deadline = 0.0
        self.init_failures = 0
        self.benched = False
        self.solitary = False

    def learn(self, seconds: float) -> None:
        """Take the duration of a scored task into account."""
        known = self.seconds
        self.seconds = seconds if known < 0 else known + _NEWEST * (seconds - known)

    def prefetch_per_slot(self) -> int:
        """How many tasks each slot should have, running or waiting."""
        if self.seconds < 0:
            return _PREFETCH_PER_SLOT_FIRST
        if self.seconds * limits.PREFETCH_PER_SLOT_MAX <= limits.PREFETCH_SECONDS:
            return limits.PREFETCH_PER_SLOT_MAX
        return max(limits.PREFETCH_PER_SLOT_MIN, 1 + int(limits.PREFETCH_SECONDS / self.seconds))


class Roster:
    """All nodes by name, and those with a free slot (`hungry`, longest waiting first)."""

    def __init__(self, instance_count: int) -> None:
        self._instance_count = instance_count
        self._nodes: dict[str, Node] = {}
        self.hungry: dict[str, Node] = {}
        self.held = 0
        self._slots = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def get(self, name: str) -> Node | None:
        """Find a node that is not lost."""
        return self._nodes.get(name)

    def join(self, name: str, slots: int) -> Node:
        """Add a node, or take one off the bench."""
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = Node(name, slots)
            self._slots += slots
        elif node.benched:
            self._unbench(node)
        self.note_room(node)
        return node

    def leave(self, node: Node) -> list[Task]:
        """Remove a node; return what it held, oldest first."""
        if not node.benched:
            self._slots -= node.slots
        del self._nodes[node.name]
        self.hungry.pop(node.name, None)
        return self.empty(node)

    def bench(self, node: Node) -> list[Task]:
        """Give a node no more work; return what it held, oldest first."""
        if not node.benched:
            node.benched = True
            self._slots -= node.slots
        self.hungry.pop(node.name, None)
        return self.empty(node)

    def _unbench(self, node: Node) -> None:
        node.benched = False
        node.init_failures = 0
        self._slots += node.slots
        self.note_room(node)

    def unbench_if_none_is_left(self) -> None:
        """Give all nodes another chance when every one is on the bench."""
        if self._slots == 0:
            for node in self._nodes.values():
                self._unbench(node)

    def empty(self, node: Node) -> list[Task]:
        """Take everything a node holds away from it; return it, oldest first."""
        tasks = list(node.held)
        self.held -= len(tasks)
        node.held = {}
        node.solitary = False
        return tasks

    def room(self, node: Node, waiting: int) -> int:
        """How many more tasks a node may be given when `waiting` tasks wait.

        Enough for `PREFETCH_SECONDS`, but near the end no more than a fair share for each slot
        that there is or will be, so that no node hoards the tail.
        """
        if node.benched or node.solitary:
            return 0
        fair = waiting // max(self._slots, self._instance_count * node.slots, 1)
        return node.slots * min(node.prefetch_per_slot(), max(1, fair)) - len(node.held)

    def note_room(self, node: Node) -> None:
        """Remember whether a node has a free slot."""
        if len(node.held) < node.slots and not node.benched and not node.solitary:
            self.hungry[node.name] = node
        else:
            self.hungry.pop(node.name, None)
