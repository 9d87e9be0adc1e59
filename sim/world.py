"""What a seed stands for: input, poison, settings, and how unkind the infrastructure is."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from batchpoint.core.messages import AttemptError, Outcome, Policy
from batchpoint.domain.minibatch import Task
from sim import oracle

Poison = Literal["", "raises", "crashes", "hangs", "kills_worker", "kills_node"]
InitFails = Literal["", "sometimes", "one_node", "always"]

# How each poison looks to somebody who only sees what becomes of the items.
_SEEN_AS: dict[Poison, oracle.Failing] = {
    "": "",
    "raises": "raises",
    "crashes": "crashes",
    "hangs": "hangs",
    "kills_worker": "crashes",
    "kills_node": "crashes",
}
_LETHAL: tuple[Poison, ...] = ("kills_worker", "kills_node")


class SimSlice(NamedTuple):
    """A slice of an item: `rows` from number `row` on; `bad_rows` counts within the slice."""

    item: int
    name: str
    rows: tuple[str, ...]
    row: int = 0
    poison: Poison = ""
    bad_rows: frozenset[int] = frozenset()


class Scored(NamedTuple):
    """What a simulated worker made of a task; `entries` are failures that it isolated itself."""

    outcome: Outcome
    rows: tuple[oracle.Row, ...] = ()
    entries: tuple[oracle.Failed, ...] = ()
    failed_items: tuple[int, ...] = ()
    unattributed: int = 0
    slice_rows: int = -1
    error: AttemptError | None = None
    kills_node: bool = False


@dataclass(frozen=True, slots=True)
class Weather:
    """How unkind the infrastructure is: chances per event, and at which events the runner dies."""

    node_dies: float = 0.0
    worker_lost: float = 0.0
    report_lost: float = 0.0
    report_doubled: float = 0.0
    report_late: float = 0.0
    init_fails: InitFails = ""
    flaky: float = 0.0
    kills: frozenset[int] = frozenset()
    cancel_at: int = -1


@dataclass(slots=True)
class World:
    """Everything a simulated run depends on."""

    seed: int
    policy: Policy
    slots: int
    batches: list[list[SimSlice]]
    items: list[oracle.Item]
    settings: oracle.Settings
    weather: Weather
    durations: float
    grow_by: int = 4
    expected: oracle.Expected = field(init=False)

    def __post_init__(self) -> None:
        """Ask the oracle."""
        self.expected = oracle.expect(self.items, self.settings)

    def run(self, task: Task) -> Scored:
        """Do what a worker does with a task; depends on nothing but the task."""
        pieces = self.batches[task.mini_batch][task.start : task.stop]
        return self._table(task, pieces) if self.settings.tabular else self._script(pieces)

    def _script(self, pieces: list[SimSlice]) -> Scored:
        for piece in pieces:
            if piece.poison:
                return _ended(piece.poison)
        values = [value for piece in pieces for value in piece.rows]
        if len(values) == len(pieces):
            rows = [
                oracle.Row(piece.name, None, value)
                for piece, value in zip(pieces, values, strict=True)
            ]
        else:
            rows = [oracle.Row(None, None, value) for value in values]
        # What the agent does for a lone item, and what it leaves to `Dispatch`, look the same.
        entries = () if values or len(pieces) > 1 else (oracle.Failed(pieces[0].name, None),)
        return Scored("scored", tuple(rows), entries, (), max(0, len(pieces) - len(values)))

    def _table(self, task: Task, pieces: list[SimSlice]) -> Scored:
        slice_rows = len(pieces[0].rows) if len(pieces) == 1 else -1
        rows: list[oracle.Row] = []
        entries: list[oracle.Failed] = []
        failed: list[int] = []
        for piece in pieces:
            if piece.poison == "raises":
                # Does not fit the signature: the worker says so and scores the others.
                failed.append(piece.item)
                entries.append(oracle.Failed(piece.name, None))
                continue
            if piece.poison:
                return _ended(piece.poison)
            stop = len(piece.rows) if task.row_stop < 0 else task.row_stop
            for number in range(task.row_start, stop):
                if number in piece.bad_rows:
                    return _ended("crashes", slice_rows)
                rows.append(oracle.Row(piece.name, piece.row + number, piece.rows[number]))
        return Scored("scored", tuple(rows), tuple(entries), tuple(failed), 0, slice_rows)


def _ended(poison: Poison, slice_rows: int = -1) -> Scored:
    error = AttemptError("user", poison, "SimulatedError", f"the item {poison}")
    if poison == "kills_node":
        return Scored("lost", kills_node=True)
    outcomes: dict[Poison, Outcome] = {
        "raises": "failed",
        "crashes": "crashed",
        "hangs": "timed_out",
        "kills_worker": "lost",
    }
    return Scored(outcomes[poison], slice_rows=slice_rows, error=error)


def make_world(seed: int) -> World:
    """Build the world of a seed."""
    rng = random.Random(seed)
    tabular = rng.random() < 0.4
    poison = rng.choice((0.0, 0.0, 0.05, 0.2, 0.5, 1.0))
    kinds: list[Poison] = ["raises", "crashes", "hangs"]
    if rng.random() < 0.2:
        kinds.append(rng.choice(_LETHAL))
    if rng.random() < 0.4:
        kinds = [rng.choice(kinds)]
    count = rng.choice((0, 1, 2, 3, 5, 5, 8, 10, 10, 15, 20, 20, 30, 30, 40, 50))
    slices, items = _input(rng, count, poison, kinds, tabular=tabular)
    size = rng.choice((1, 1, 2, 3, 5, 8, 13))
    batches = [slices[start : start + size] for start in range(0, len(slices), size)]
    failing = oracle.expect(items, oracle.Settings(size, None, tabular=tabular)).failures
    # Near the number of failures, where one more or less decides.
    threshold = rng.choice((None, None, -1, 0, failing - 1, failing, failing + 1, 3))
    if threshold is not None and threshold < -1:
        threshold = -1
    return World(
        seed=seed,
        policy=Policy(
            instance_count=rng.choice((1, 1, 2, 3, 5)),
            max_retries=rng.choice((0, 1, 1, 3)),
            timeout_seconds=rng.choice((None, None, 30.0)),
            error_threshold=threshold,
            isolate_rows=tabular,
        ),
        slots=rng.choice((1, 1, 2, 4)),
        batches=batches,
        items=items,
        settings=oracle.Settings(size, threshold, tabular=tabular),
        weather=_weather(rng, kind=any(kind in _LETHAL for kind in kinds)),
        durations=rng.choice((0.001, 0.1, 1.0, 20.0)),
        grow_by=rng.choice((1, 2, 4, 100)),
    )


def _input(
    rng: random.Random, count: int, poison: float, kinds: list[Poison], *, tabular: bool
) -> tuple[list[SimSlice], list[oracle.Item]]:
    slices: list[SimSlice] = []
    items: list[oracle.Item] = []
    # One row per item is what most scripts return; the other shapes lose their source columns.
    shapes = rng.choice(((1,), (1,), (1,), (0, 1), (1, 2), (0, 1, 1, 2)))
    for number in range(count):
        name = f"item-{number:04}"
        kind = rng.choice(kinds) if rng.random() < poison else ""
        if not tabular:
            rows = tuple(f"{name}.{i}" for i in range(rng.choice(shapes)))
            slices.append(SimSlice(number, name, rows, poison=kind))
            items.append(oracle.Item(name, rows, _SEEN_AS[kind]))
            continue
        if kind in ("kills_worker", "kills_node"):
            kind = "raises"
        bad_rows = kind == "crashes"
        pieces = _cut_rows(rng, number, name, "" if bad_rows else kind)
        if bad_rows:
            pieces = [
                piece._replace(
                    bad_rows=frozenset(i for i in range(len(piece.rows)) if rng.random() < 0.4)
                )
                for piece in pieces
            ]
        slices += pieces
        items.append(
            oracle.Item(
                name,
                tuple(value for piece in pieces for value in piece.rows),
                "" if bad_rows else _SEEN_AS[kind],
                frozenset(piece.row + i for piece in pieces for i in piece.bad_rows),
                rows_crash=bad_rows,
            )
        )
    return slices, items


def _cut_rows(rng: random.Random, number: int, name: str, poison: Poison) -> list[SimSlice]:
    """Make a table; one that is whole and sound may be split into several slices."""
    parts = 1 if poison else rng.choice((1, 1, 1, 3))
    pieces: list[SimSlice] = []
    row = 0
    for _ in range(parts):
        length = rng.choice((0, 1, 2, 5, 9)) if parts == 1 else rng.choice((2, 3, 8))
        rows = tuple(f"{name}.{row + i}" for i in range(length))
        pieces.append(SimSlice(number, name, rows, row, poison))
        row += length
    return pieces


def _weather(rng: random.Random, *, kind: bool) -> Weather:
    """Make up the weather; where items kill nodes or workers, nothing else does.

    Being lost so often in a row is then no coincidence, and the oracle's word is exact.
    """
    if rng.random() < 0.2:
        return Weather()

    def chance(*values: float) -> float:
        value = rng.choice(values)
        return 0.0 if kind else value

    kills = frozenset(rng.randrange(1, 80) for _ in range(rng.choice((0, 0, 1, 3, 8))))
    init_fails: tuple[InitFails, ...] = ("sometimes", "sometimes", "one_node", "one_node", "always")
    return Weather(
        node_dies=chance(0.0, 0.0, 0.01, 0.04),
        worker_lost=chance(0.0, 0.0, 0.03, 0.1),
        report_lost=chance(0.0, 0.0, 0.0, 0.03),
        report_doubled=chance(0.0, 0.0, 0.2),
        report_late=chance(0.0, 0.2),
        init_fails=rng.choice(init_fails) if rng.random() < 0.25 else "",
        flaky=chance(0.0, 0.0, 0.0, 0.0, 0.1),
        kills=kills,
        cancel_at=rng.randrange(1, 60) if rng.random() < 0.05 else -1,
    )
