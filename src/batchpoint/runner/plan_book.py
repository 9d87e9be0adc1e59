"""The plan as the runner holds it: four numbers per mini-batch, packed, whatever the job's size."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from batchpoint.domain.minibatch import MiniBatch
from batchpoint.formats.manifest import segment_of


class PlanBook:
    """Maps the index of a mini-batch to its place in the manifest (about 4 bytes each)."""

    def __init__(self) -> None:
        """Begin with an empty plan."""
        self._firsts = array("Q")
        self._bounds: list[array[int]] = []
        self.mini_batches = 0
        self.items = 0

    def grow(self, first: int, cuts: Sequence[int], slices: int, items: int) -> tuple[int, ...]:
        """Add the next segment: `cuts` are the starts of its mini-batches, `slices` its length.

        Returns the number of slices of each new mini-batch. `items` counts items that begin here.
        """
        assert first == self.mini_batches, (first, self.mini_batches)
        bounds = array("I", cuts)
        bounds.append(slices)
        self._firsts.append(first)
        self._bounds.append(bounds)
        self.mini_batches += len(cuts)
        self.items += items
        return tuple(bounds[i + 1] - bounds[i] for i in range(len(cuts)))

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self._bounds)

    def mini_batch(self, index: int) -> MiniBatch:
        """Find a mini-batch by its index."""
        segment = segment_of(self._firsts, index)
        at = index - self._firsts[segment]
        bounds = self._bounds[segment]
        return MiniBatch(index, segment, bounds[at], bounds[at + 1])
