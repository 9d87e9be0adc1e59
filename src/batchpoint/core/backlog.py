"""Work that waits: fresh mini-batches as one byte each, tasks to repeat as a queue."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

from batchpoint.core.isolation import is_narrowed, remaining
from batchpoint.core.messages import Recovered
from batchpoint.domain.minibatch import Task

_FRESH = 0
_OPEN = 1
_DONE = 2


class Backlog:
    """Every planned mini-batch in one of three states (fresh, open, done), and the order of work.

    Tasks to repeat come first, then fresh mini-batches in plan order, then parked pieces, longest
    parked first. Memory is five bytes per mini-batch plus the tasks that wait to be repeated.
    """

    def __init__(self, recovered: Recovered) -> None:
        """Start from what is recorded."""
        self._recorded = {index: list(tasks) for index, tasks in recovered.pieces.items()}
        self._heads = recovered.heads
        self._states = bytearray()
        self._slices = array("I")
        self._cursor = 0
        self._fresh = 0
        self._urgent: deque[Task] = deque()
        self._parked: deque[Task] = deque()
        self._open_pieces: dict[int, int] = {}
        self.planned: int = 0
        self.resolved: int = 0

    @property
    def waiting(self) -> int:
        """How many tasks can be taken now."""
        return len(self._urgent) + self._fresh + len(self._parked)

    def grow(self, first: int, slices: Sequence[int]) -> None:
        """Plan the mini-batches from `first` on, `slices[i]` slices each."""
        assert first == self.planned, f"mini-batch {first} planned after {self.planned}"
        stop = first + len(slices)
        self._slices.extend(slices)
        if stop > len(self._states):
            self._states.extend(bytes(stop - len(self._states)))
        self.planned = stop
        for index in range(first, min(stop, len(self._heads))):
            if self._heads[index] == self._slices[index]:
                self._states[index] = _DONE
            elif self._heads[index]:
                head = Task(index, 0, self._heads[index])
                self._recorded.setdefault(index, []).append(head)
        if self._recorded:
            for index in range(first, stop):
                if index in self._recorded:
                    self._resume(index, self._recorded.pop(index))
        self.resolved += self._states.count(_DONE, first, stop)
        self._fresh += self._states.count(_FRESH, first, stop)

    def _resume(self, index: int, recorded: list[Task]) -> None:
        left = remaining(index, self._slices[index], recorded)
        self._states[index] = _OPEN if left else _DONE
        if left:
            self._open_pieces[index] = len(left)
            self._urgent.extend(left)

    def is_whole(self, task: Task) -> bool:
        """Tell whether a task is all of its mini-batch."""
        return (
            task.start == 0 and task.stop == self._slices[task.mini_batch] and not is_narrowed(task)
        )

    def take(self) -> Task | None:
        """Take the next task out; None when none waits."""
        if self._urgent:
            return self._urgent.popleft()
        if self._fresh:
            index = self._states.find(_FRESH, self._cursor, self.planned)
            self._states[index] = _OPEN
            self._cursor = index + 1
            self._fresh -= 1
            return Task(index, 0, self._slices[index])
        return self._parked.popleft() if self._parked else None

    def put_back(self, task: Task) -> None:
        """Let a task be the next to be taken."""
        self._urgent.appendleft(task)

    def split(self, task: Task, pieces: tuple[Task, Task], *, park: bool) -> None:
        """Put two pieces in the place of a task: both next, or the second one parked."""
        index = task.mini_batch
        self._open_pieces[index] = self._open_pieces.get(index, 1) + 1
        if park:
            self._parked.append(pieces[1])
        else:
            self._urgent.appendleft(pieces[1])
        self._urgent.appendleft(pieces[0])

    def unpark(self) -> None:
        """Let parked pieces be taken before fresh mini-batches, in plan order."""
        self._urgent.extend(sorted(self._parked))
        self._parked.clear()

    def resolve(self, task: Task) -> None:
        """Note that a task is scored or given up; its mini-batch is done when nothing is left."""
        index = task.mini_batch
        left = self._open_pieces.get(index, 1) - 1
        if left:
            self._open_pieces[index] = left
            return
        self._open_pieces.pop(index, None)
        assert self._states[index] == _OPEN, f"mini-batch {index} was resolved twice"
        self._states[index] = _DONE
        self.resolved += 1
