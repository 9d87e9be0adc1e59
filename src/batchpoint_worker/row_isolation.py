"""Predicting with rows that break the model: the good ones are scored, the bad ones named.

What fails together is halved between items until each failing item stands alone, then between
rows. The cost is bounded, and what is given up does not depend on time, so that a repeated run
fails the same rows:

* when PROBES rows spread over an item all fail alike, the item fails as a whole;
* an item gets CALLS_MAX calls of the model; rows not decided by then fail and say so;
* when nothing has been scored and ALIKE_ITEMS_MAX items have failed alike, the task fails.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, cast

from batchpoint_worker.failures import error_of, plain_error
from batchpoint_worker.returned import table_of
from batchpoint_worker.rows import Table, joined
from batchpoint_worker.scorer import Error, TaskFailed
from batchpoint_worker.sources import Bad, Batch

PROBES = 8
CALLS_MAX = 500
ANY_COUNT = -1
ALIKE_ITEMS_MAX = 8

_ENFORCEMENT = "Failed to enforce schema of data"


class WrongLength(Exception):
    """The model returned another number of predictions than it was given rows."""


class Part(NamedTuple):
    """Rows that were predicted together and what came back for them, one row each."""

    batch: Batch
    table: Table


class _Range(NamedTuple):
    """Rows `start` to `stop` of an item. `fails`: they are known to fail together."""

    start: int
    stop: int
    fails: bool
    first_half: bool


class Isolation:
    """One task's way through the model: `parts` in order, and what has failed."""

    def __init__(self, predict: Callable[[Any], Any]) -> None:
        self._predict = predict
        self.parts: List[Part] = []
        self.bad: List[Bad] = []
        self._wholes: List[Tuple[int, Table]] = []
        self._whole_items: Dict[Tuple[str, str], int] = {}
        self._rows_failed = False
        self._something_scored = False
        self._last: Optional[BaseException] = None

    def score(self, batch: Batch) -> None:
        """Predict the rows of a batch, which are in the order of their items.

        Raises:
            Exception: what the model raised, when it failed alike on item after item.
        """
        if len(batch):
            problem = self._try(batch)
            if problem is not None:
                self._halve_items(batch, problem)

    def score_whole(self, place: int, given: Any) -> None:
        """Predict an item that has no rows of its own, as an image; it may give any number of them.

        They are among the parts once `join_wholes` is called.

        Raises:
            Exception: what the model raised, when it failed alike on item after item.
        """
        try:
            table = predicted(self._predict(given), ANY_COUNT)
        except TaskFailed:
            raise
        except Exception as problem:  # noqa: BLE001 - bulkhead: the model may raise anything
            self._fail_whole(place, None, problem)
            return
        self._something_scored = True
        self._wholes.append((place, table))

    def join_wholes(self) -> None:
        """Make one part of the items that `score_whole` has predicted."""
        np: Any = importlib.import_module("numpy")
        pd: Any = importlib.import_module("pandas")
        wholes, self._wholes = self._wholes, []
        counts = [table.count for _, table in wholes]
        if not sum(counts):
            return
        places = np.asarray([place for place, _ in wholes], dtype=np.int32)
        numbers = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
        frame = pd.DataFrame(index=range(sum(counts)))
        batch = Batch(frame, np.repeat(places, counts), numbers, places.tolist())
        self.parts.append(Part(batch, joined([table for _, table in wholes if table.count])))

    def finish(self) -> None:
        """Raise what the model raised if all it did was to fail each item in the same way."""
        alike = len(self._whole_items) == 1 and not self._rows_failed
        if alike and not self._something_scored and self._last is not None:
            raise self._last

    def _try(self, batch: Batch) -> Optional[Exception]:
        """Predict rows together; return what went wrong."""
        try:
            table = predicted(self._predict(batch.frame), len(batch))
        except TaskFailed:  # what came back can be no rows, whatever the input
            raise
        except Exception as problem:  # noqa: BLE001 - bulkhead: the model may raise anything
            return problem
        self._something_scored = True
        self.parts.append(Part(batch, table))
        return None

    def _halve_items(self, batch: Batch, problem: Exception) -> None:
        """Find the failing items in rows that failed together."""
        np: Any = importlib.import_module("numpy")
        begins = np.flatnonzero(batch.place[1:] != batch.place[:-1]) + 1
        if not len(begins):
            self._one_item(batch, problem)
            return
        middle = int(begins[len(begins) // 2])
        for part in (batch.part(0, middle), batch.part(middle, len(batch))):
            failed = self._try(part)
            if failed is not None:
                self._halve_items(part, failed)

    def _one_item(self, batch: Batch, problem: Exception) -> None:
        if isinstance(problem, WrongLength):
            self._fail_item(batch, problem)
            return
        if len(batch) == 1:
            self._fail_item(batch, problem)
            return
        probes = sorted({i * (len(batch) - 1) // (PROBES - 1) for i in range(PROBES)})
        kept = len(self.parts)
        problems = [(index, self._try(batch.part(index, index + 1))) for index in probes]
        kinds = {None if found is None else _kind(found) for _, found in problems}
        if len(kinds) == 1 and None not in kinds:
            self._fail_item(batch, problem)
            return
        if len(problems) == len(batch):
            for index, found in problems:
                if found is not None:
                    self._fail_row(batch, index, found)
            return
        del self.parts[kept:]
        self._halve_rows(batch)

    def _halve_rows(self, batch: Batch) -> None:
        """Find the failing rows of one item, of which some fail and some do not."""
        calls = 0
        # Rows still to be decided, the first ones last.
        ranges = [_Range(0, len(batch), fails=True, first_half=False)]
        while ranges:
            now = ranges.pop()
            if calls >= CALLS_MAX:
                for index in range(now.start, now.stop):
                    self._give_up(batch, index)
                continue
            if not now.fails or now.stop - now.start == 1:
                calls += 1
                problem = self._try(batch.part(now.start, now.stop))
                if problem is None:
                    if now.first_half:  # then it is the other half that failed
                        ranges.append(ranges.pop()._replace(fails=True))
                    continue
                if now.stop - now.start == 1:
                    self._fail_row(batch, now.start, problem)
                    continue
            middle = (now.start + now.stop) // 2
            ranges.append(_Range(middle, now.stop, fails=False, first_half=False))
            ranges.append(_Range(now.start, middle, fails=False, first_half=True))

    def _fail_item(self, batch: Batch, problem: Exception) -> None:
        row = int(batch.row[0]) if len(batch) == 1 else None
        self._fail_whole(int(batch.place[0]), row, problem)

    def _fail_whole(self, place: int, row: Optional[int], problem: Exception) -> None:
        kind = _kind(problem)
        self.bad.append(Bad(place, row, described(problem)))
        self._whole_items[kind] = self._whole_items.get(kind, 0) + 1
        self._last = problem
        if self._whole_items[kind] >= ALIKE_ITEMS_MAX:
            self.finish()

    def _fail_row(self, batch: Batch, index: int, problem: Exception) -> None:
        self._rows_failed = True
        error = described(problem)
        self.bad.append(Bad(int(batch.place[index]), int(batch.row[index]), error))

    def _give_up(self, batch: Batch, index: int) -> None:
        sentence = (
            "this row was not scored: the model raised on many rows of its file, and the search "
            "for them ended after %d calls" % CALLS_MAX
        )
        error = plain_error("row_isolation_ended", sentence)
        self.bad.append(Bad(int(batch.place[index]), int(batch.row[index]), error))


def predicted(output: Any, count: int) -> Table:
    """Return a model's output as a table with one row for each of `count` input rows.

    With ANY_COUNT it has as many rows as there are, and a single value is one row.

    A data frame gives its columns, a two-dimensional array `prediction_0`, `prediction_1`, ..., a
    dict of arrays its keys, and everything else one column, `prediction`.

    Raises:
        WrongLength: it has another number of rows.
        TaskFailed: it can be no rows at all.
    """
    pd: Any = importlib.import_module("pandas")
    if isinstance(output, dict):
        output = _frame_of(pd, cast("Dict[Any, Any]", output))
    elif hasattr(output, "toarray") and hasattr(output, "tocsr"):
        output = output.toarray()
    if count == ANY_COUNT:
        return table_of(_several(output))
    if not hasattr(output, "__len__") or isinstance(output, (str, bytes)):
        kind = type(output).__name__
        raise WrongLength("the model returned one %s for %d rows; %s" % (kind, count, _ASKED))
    if getattr(output, "ndim", 1) == 0 or len(output) != count:
        found = 1 if getattr(output, "ndim", 1) == 0 else len(output)
        raise WrongLength(
            "the model returned %d predictions for %d rows; %s" % (found, count, _ASKED)
        )
    return table_of(output)


def _several(output: Any) -> Any:
    """Return an output that has a length: a single value as a list of one."""
    if output is None:
        raise WrongLength("the model returned None (is a `return` missing?)")
    if getattr(output, "ndim", 1) == 0:
        return [output[()]]
    single = not hasattr(output, "__len__") or isinstance(output, (str, bytes))
    return [output] if single else output


_ASKED = "a model scored without code must return one for each row (deploy others with a script)"


def _frame_of(pd: Any, output: Dict[Any, Any]) -> Any:
    """Return the frame of a dict of arrays; the columns of two-dimensional ones are numbered."""
    columns: Dict[str, Any] = {}
    for key, value in output.items():
        if getattr(value, "ndim", 1) == 2:
            for number in range(value.shape[1]):
                columns["%s_%d" % (key, number)] = value[:, number]
        elif getattr(value, "ndim", 1) > 2:
            columns[str(key)] = list(value)
        else:
            columns[str(key)] = value if hasattr(value, "__len__") else [value]
    try:
        return pd.DataFrame(columns)
    except ValueError as problem:
        raise WrongLength("the model returned a dict of unequal lengths: %s" % problem) from None


def _kind(problem: BaseException) -> Tuple[str, str]:
    return type(problem).__name__, _message(problem)


def _message(problem: BaseException) -> str:
    """Return the message without the rows that mlflow repeats in it."""
    text = str(problem)
    if text.startswith(_ENFORCEMENT) and ". Error: " in text:
        return text[text.rindex(". Error: ") + len(". Error: ") :]
    return text


def described(problem: Exception) -> Error:
    """Return the description of what a model raised."""
    error = error_of(problem, doing="predict()")
    if isinstance(problem, WrongLength):
        return plain_error("prediction_count_wrong", str(problem))
    short = _message(problem)
    if short != str(problem):
        return plain_error(error["type"], "the input does not fit the signature: " + short, "input")
    return error
