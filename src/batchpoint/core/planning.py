"""Cutting a stream of slices into manifest segments and mini-batches, always the same way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from batchpoint.domain import limits
from batchpoint.domain.minibatch import Slice

# Of what is left, this fraction for each worker goes into the next mini-batch (see `Cutter`).
_SHARES_PER_WORKER = 2
# Slices this much smaller than the target are small: for them `mini_batch_size` is a minimum.
_SMALL_FRACTION = 10
_PACKED = (".parquet", ".parq", ".pqt", ".gz")
_PACKED_FACTOR = 4
# What a model without code is given one by one, each file in a call of its own.
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")


class Segment(NamedTuple):
    """A manifest segment: its slices, and where in them each mini-batch begins.

    `first_mini_batch` is the index of its first mini-batch; mini-batch `first_mini_batch + i` has
    the slices `cuts[i]` to `cuts[i + 1]` (the last one: to the end).
    """

    first_mini_batch: int
    slices: tuple[Slice, ...]
    cuts: tuple[int, ...]


def slice_bytes(piece: Slice) -> int:
    """Count the input bytes of a slice; for packed formats, about those of the same rows as text.

    Time and memory go with rows, and a Parquet file has several times the rows of a CSV file of its
    size.
    """
    if piece.unit == "bytes":
        return piece.stop - piece.start
    return piece.size * (_PACKED_FACTOR if piece.name.lower().endswith(_PACKED) else 1)


class Cutter:
    """Cuts slices, pushed one by one in listing order, into segments of whole mini-batches.

    Without coalescing (scripts) each mini-batch has exactly `mini_batch_size` slices; the last one
    of the input may have fewer. With `mini_batch_bytes` it has as many slices as fit into so many
    bytes instead, one at least, coalescing or not.

    With coalescing (models without code) mini-batches shrink towards the end, so that all workers
    finish at about the same time (guided self-scheduling, Polychronopoulos and Kuck, IEEE
    Transactions on Computers 1987): each takes the bytes that are left, divided by twice the number
    of `workers`, kept between `COALESCE_BYTES_MIN` and `COALESCE_BYTES_MAX`. What is left is known
    when the listing ends within `LISTING_LOOKAHEAD_ITEMS` slices; a longer one is cut evenly, by
    its first so many. `mini_batch_size` is then a minimum for small slices only, those below a
    tenth of that target on average, and never takes a mini-batch past `COALESCE_BYTES_MAX`: gluing
    bigger ones together would leave workers idle. A slice of the target's size or more is a
    mini-batch of its own. Images are not coalesced: a mini-batch of them has `mini_batch_size`
    files, at most a segment's, and nothing else in it.

    A segment has up to `SEGMENT_SLICES_MAX` slices, or `mini_batch_size` if that is more. Nothing
    depends on time or on how the listing was paged.
    """

    def __init__(
        self,
        mini_batch_size: int,
        *,
        coalesce: bool,
        workers: int,
        mini_batch_bytes: int | None = None,
    ) -> None:
        """Cut for `workers` workers in all (1 or more)."""
        self._size = mini_batch_size
        self._bytes = mini_batch_bytes
        self._workers = workers
        self._coalesce = coalesce
        self._ahead: list[Slice] = []
        self._target = 0
        self._left = -1  # bytes that are not yet in a mini-batch; -1: not known
        self._batch: list[Slice] = []
        self._batch_bytes = 0
        self._images = False  # what the open mini-batch holds
        self._segment: list[Slice] = []
        self._cuts: list[int] = []
        self._first = 0
        self._segment_max = limits.SEGMENT_SLICES_MAX
        if not coalesce and mini_batch_bytes is None:
            self._segment_max = max(self._segment_max, mini_batch_size)

    def push(self, piece: Slice) -> list[Segment]:
        """Take the next slice; return the segments it completes."""
        if self._bytes is not None:
            return self._by_bytes(piece, self._bytes)
        if not self._coalesce:
            return self._exact(piece)
        if self._target:
            return self._coalesced(piece)
        self._ahead.append(piece)
        if len(self._ahead) < limits.LISTING_LOOKAHEAD_ITEMS:
            return []
        return self._end_lookahead(ended=False)

    def extend(self, pieces: Iterable[Slice]) -> list[Segment]:
        """Take several slices; return the segments they complete."""
        return [segment for piece in pieces for segment in self.push(piece)]

    def close(self) -> list[Segment]:
        """Return the segments that are left; the listing has ended."""
        done: list[Segment] = []
        if self._ahead:
            done += self._end_lookahead(ended=True)
        done += self._close_batch()
        if self._segment:
            done.append(self._close_segment())
        return done

    def _exact(self, piece: Slice) -> list[Segment]:
        self._batch.append(piece)
        return self._close_batch() if len(self._batch) == self._size else []

    def _by_bytes(self, piece: Slice, most: int) -> list[Segment]:
        size = piece.stop - piece.start if piece.unit == "bytes" else piece.size
        done = self._close_batch() if self._batch_bytes + size > most else []
        self._batch.append(piece)
        self._batch_bytes += size
        if self._batch_bytes >= most or len(self._batch) == limits.SEGMENT_SLICES_MAX:
            done += self._close_batch()
        return done

    def _end_lookahead(self, *, ended: bool) -> list[Segment]:
        ahead, self._ahead = self._ahead, []
        total = sum(slice_bytes(piece) for piece in ahead)
        self._aim(total)
        if ended:
            self._left = total
        return [segment for piece in ahead for segment in self._coalesced(piece)]

    def _aim(self, left: int) -> None:
        share = left // (self._workers * _SHARES_PER_WORKER)
        self._target = min(max(share, limits.COALESCE_BYTES_MIN), limits.COALESCE_BYTES_MAX)

    def _coalesced(self, piece: Slice) -> list[Segment]:
        done: list[Segment] = []
        size = slice_bytes(piece)
        images = piece.name.lower().endswith(IMAGES)
        too_large = size >= self._target or self._batch_bytes + size > limits.COALESCE_BYTES_MAX
        if images != self._images or (too_large and not images):
            done += self._close_batch()
            self._images = images
        self._batch.append(piece)
        self._batch_bytes += size
        if self._full():
            done += self._close_batch()
        return done

    def _full(self) -> bool:
        count = len(self._batch)
        if self._images:
            return count >= min(self._size, self._segment_max)
        if count == self._segment_max or self._batch_bytes >= limits.COALESCE_BYTES_MAX:
            return True
        if self._batch_bytes < self._target:
            return False
        small = self._batch_bytes * _SMALL_FRACTION <= self._target * count
        return not small or count >= self._size

    def _close_batch(self) -> list[Segment]:
        """Move the open mini-batch into the segment, which is closed first if there is no room."""
        batch, self._batch = self._batch, []
        if self._left >= 0:
            self._left -= self._batch_bytes
            self._aim(self._left)
        self._batch_bytes = 0
        done: list[Segment] = []
        if not batch:
            return done
        if self._segment and len(self._segment) + len(batch) > self._segment_max:
            done.append(self._close_segment())
        self._cuts.append(len(self._segment))
        self._segment += batch
        if len(self._segment) == self._segment_max:
            done.append(self._close_segment())
        return done

    def _close_segment(self) -> Segment:
        segment = Segment(self._first, tuple(self._segment), tuple(self._cuts))
        self._first += len(self._cuts)
        self._segment, self._cuts = [], []
        return segment
