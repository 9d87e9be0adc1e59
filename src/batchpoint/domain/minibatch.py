"""Slices, mini-batches and tasks: the units that are planned, handed out and counted."""

from __future__ import annotations

from typing import NamedTuple


class Slice(NamedTuple):
    """One row of the manifest: an item (input file), or a part of one.

    `item` is the ordinal of the item in listing order, from 0. `start` and `stop` bound bytes of a
    text file (`unit` = "bytes", after the header and on record boundaries) or row groups of a
    Parquet file (`unit` = "row_groups"); a whole item has `unit` = "". `row` is the number, within
    the item, of the slice's first row. `name` is the path below the input's root, the value of
    `_file`.
    """

    item: int
    uri: str
    name: str
    size: int
    etag: str
    unit: str = ""
    start: int = 0
    stop: int = 0
    row: int = 0


class MiniBatch(NamedTuple):
    """Slices `start` to `stop` (exclusive) of a manifest segment, given to `run` at once.

    `number` counts the mini-batches of a job from 0, `segment` its manifest segments.
    """

    number: int
    segment: int
    start: int
    stop: int


class Task(NamedTuple):
    """A mini-batch or a bisected piece of one: slices `start` to `stop` of it, from its beginning.

    A piece of a lone slice may be narrowed to rows `row_start` to `row_stop` of that slice
    (`row_stop` = -1: to the last row).
    """

    mini_batch: int
    start: int
    stop: int
    row_start: int = 0
    row_stop: int = -1
