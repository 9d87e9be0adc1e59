"""The rulings of docs/semantics.md as one pure function: what a job must come to.

From the items, the settings and what `run` does with each item follow the predictions in order, the
failed items, the final state and the exit code. It knows nothing of dispatching; every end-to-end,
kill and property test compares with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from batchpoint.domain.job import JobState

Failing = Literal["", "raises", "crashes", "hangs"]


@dataclass(frozen=True, slots=True)
class Item:
    """One input file and what becomes of it.

    `rows`: what `run` returns for it, row by row. `fails`: how `run` ends on any list with it
    ("": it does not). `bad_rows`: rows of tabular input that cannot be scored; with `rows_crash`
    they take the worker down, else they raise. A file of one row that crashes fails as a file.
    """

    name: str
    rows: tuple[str, ...]
    fails: Failing = ""
    bad_rows: frozenset[int] = frozenset()
    rows_crash: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that decide what a job comes to.

    `tabular`: a model without code, whose rows carry file and row and are isolated one by one.
    """

    mini_batch_size: int
    error_threshold: int | None = None
    tabular: bool = False


class Row(NamedTuple):
    """One row of the predictions; `file` and `row` are None where our columns are empty."""

    file: str | None
    row: int | None
    value: str


class Failed(NamedTuple):
    """One entry of the list of failed items: a whole file (`row` is None) or a row of one."""

    name: str
    row: int | None


@dataclass(slots=True)
class Expected:
    """What the job must come to.

    `rows` and `failed` bind only a job that is `COMPLETED`. `failures` is the number compared with
    the threshold: distinct failed items, and items short without a name. With `systemic_possible`
    a job may also end as `FAILED` with `systemic_failure`, if nothing was scored before the first
    mini-batches had failed.
    """

    rows: list[Row] = field(default_factory=list[Row])
    failed: list[Failed] = field(default_factory=list[Failed])
    unnamed: int = 0
    failures: int = 0
    state: JobState = JobState.COMPLETED
    code: str = ""
    exit_code: int = 0
    systemic_possible: bool = False


def expect(items: Sequence[Item], settings: Settings) -> Expected:
    """Tell what a job over `items`, in listing order, must come to."""
    expected = Expected()
    failing_batches = 0
    scored = False
    for start in range(0, len(items), settings.mini_batch_size):
        batch = items[start : start + settings.mini_batch_size]
        before = len(expected.failed)
        if settings.tabular:
            scored |= _score_table(batch, expected)
        else:
            scored |= _score_list(batch, expected)
        failing_batches += len(expected.failed) > before
    expected.failures = len({entry.name for entry in expected.failed}) + expected.unnamed
    expected.systemic_possible = failing_batches >= 3 or len(expected.failed) >= 100
    threshold = settings.error_threshold
    if not items:
        _fail(expected, "no_input_items")
    elif threshold is not None and 0 <= threshold < expected.failures:
        _fail(expected, "error_threshold_exceeded")
    elif not scored:
        _fail(expected, "nothing_scored")
    elif expected.failures:
        expected.exit_code = 3
    return expected


def _fail(expected: Expected, code: str) -> None:
    expected.state = JobState.FAILED
    expected.code = code
    expected.exit_code = 1


def _score_table(batch: Sequence[Item], expected: Expected) -> bool:
    scored = False
    for item in batch:
        if item.fails:
            expected.failed.append(Failed(item.name, None))
            continue
        # A valid file without rows is scored.
        scored |= len(item.rows) > len(item.bad_rows) or not item.rows
        for number, value in enumerate(item.rows):
            if number in item.bad_rows:
                lone = item.rows_crash and len(item.rows) == 1
                expected.failed.append(Failed(item.name, None if lone else number))
            else:
                expected.rows.append(Row(item.name, number, value))
    return scored


def _score_list(batch: Sequence[Item], expected: Expected) -> bool:
    if any(item.fails for item in batch):
        if len(batch) == 1:
            expected.failed.append(Failed(batch[0].name, None))
            return False
        middle = len(batch) // 2
        left = _score_list(batch[:middle], expected)
        return _score_list(batch[middle:], expected) or left
    values = [value for item in batch for value in item.rows]
    if len(values) == len(batch):
        expected.rows += [
            Row(item.name, None, value) for item, value in zip(batch, values, strict=True)
        ]
    else:
        expected.rows += [Row(None, None, value) for value in values]
    if not values and len(batch) == 1:
        expected.failed.append(Failed(batch[0].name, None))
    else:
        expected.unnamed += max(0, len(batch) - len(values))
    return bool(values)
