"""Rows on their way to the model, each with the item and the row number it came from."""

from __future__ import annotations

import importlib
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from batchpoint_worker.failures import plain_error
from batchpoint_worker.scorer import Error


class Text(NamedTuple):
    """The text of an item or of a slice of it.

    `place` is the item's position in the task, `name` the path people know it by, `row` the number
    of its first row in the original file. `header` is the first line with its line end, empty for
    formats without one; `body` all that follows.
    """

    place: int
    name: str
    row: int
    header: bytes
    body: bytes


class Bad(NamedTuple):
    """An item (`row` is None) or a row of it (its number in the original file) that has failed."""

    place: int
    row: Optional[int]
    error: Error


class Batch:
    """A pandas frame and, for each of its rows, the item's place in the task and the row number.

    `place` and `row` are integer arrays as long as `frame`; `places` names the items the batch was
    read from, those without rows included.
    """

    __slots__ = ("frame", "place", "places", "row")

    def __init__(self, frame: Any, place: Any, row: Any, places: Sequence[int] = ()) -> None:
        self.frame = frame
        self.place = place
        self.row = row
        self.places = places

    def __len__(self) -> int:
        return len(self.row)

    def part(self, start: int, stop: int) -> Batch:
        """Return rows `start` to `stop`, with an index that counts from 0 as a fresh read has."""
        frame = self.frame.iloc[start:stop].reset_index(drop=True)
        return Batch(frame, self.place[start:stop], self.row[start:stop])

    def edges(self) -> List[int]:
        """Return where the rows of each item begin, and the number of rows after them."""
        np: Any = importlib.import_module("numpy")
        begins = np.flatnonzero(self.place[1:] != self.place[:-1]) + 1
        return [0, *begins.tolist(), len(self)]

    def chosen(self, which: Any) -> Batch:
        """Return the rows that an index array or a mask chooses."""
        frame = self.frame.iloc[which].reset_index(drop=True)
        return Batch(frame, self.place[which], self.row[which])


class Reading(NamedTuple):
    """What reading items gave: batches of rows, failures, and rows found per place (bad or not)."""

    batches: List[Batch]
    bad: List[Bad]
    counts: Dict[int, int]


def unreadable(place: int, sentence: str) -> Bad:
    """Return the failure of a whole item that could not be read."""
    return Bad(place, None, plain_error("input_unreadable", sentence, "input"))


def invalid_row(place: int, row: int, sentence: str) -> Bad:
    """Return the failure of one row whose values do not fit."""
    return Bad(place, row, plain_error("input_row_invalid", sentence, "input"))


def batch_of(frame: Any, texts: Sequence[Text], counts: Sequence[int]) -> Batch:
    """Return the batch of a frame that holds the rows of several texts one after the other.

    Args:
        frame: the rows of all texts.
        texts: where they come from.
        counts: how many rows each of the texts has.
    """
    np: Any = importlib.import_module("numpy")
    lengths = np.asarray(counts, dtype=np.int64)
    starts = np.asarray([text.row for text in texts], dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    return Batch(
        frame,
        np.repeat(np.asarray([text.place for text in texts], dtype=np.int32), lengths),
        np.arange(len(frame), dtype=np.int64) + np.repeat(starts - before, lengths),
        [text.place for text in texts],
    )


def merged(batches: Sequence[Batch]) -> Batch:
    """Return one batch of several whose frames have the same columns, in the order of the items."""
    if len(batches) == 1:
        return batches[0]
    np: Any = importlib.import_module("numpy")
    pd: Any = importlib.import_module("pandas")
    whole = Batch(
        pd.concat([batch.frame for batch in batches], ignore_index=True),
        np.concatenate([batch.place for batch in batches]),
        np.concatenate([batch.row for batch in batches]),
    )
    if (whole.place[1:] >= whole.place[:-1]).all():
        return whole
    return whole.chosen(np.argsort(whole.place, kind="stable"))
