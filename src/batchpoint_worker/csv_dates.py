"""Columns of dates in CSV text: read_csv leaves them as text, mlflow wants them as dates."""

from __future__ import annotations

import importlib
from typing import Any, Dict, List, Sequence

from batchpoint_worker.failures import bounded
from batchpoint_worker.mlmodel import InputColumn
from batchpoint_worker.sources import Bad, Batch, invalid_row

DATETIME = "datetime"
SHOWN_CHARS_MAX = 60


def with_dates(
    batch: Batch, columns: Sequence[InputColumn], names: Sequence[str], bad: List[Bad]
) -> Batch:
    """Return a batch whose date columns hold dates; rows where one is none are left out.

    Each value is read by itself, so that what one row means does not depend on its neighbours.

    Args:
        batch: rows as read_csv gave them.
        columns: those of the signature.
        names: of the items, by place.
        bad: where failures are added.
    """
    present = [c.name for c in columns if c.type == DATETIME and c.name in batch.frame.columns]
    if not present:
        return batch
    np: Any = importlib.import_module("numpy")
    wrong: Dict[int, str] = {}
    for name in present:
        values = batch.frame[name]
        refused = _refused(values)
        for index in np.flatnonzero(values.isin(refused).to_numpy()).tolist() if refused else ():
            has = bounded(repr(values.iloc[index]), SHOWN_CHARS_MAX)
            wrong.setdefault(index, "column %r must be a date and time and has %s" % (name, has))
    for index in sorted(wrong):
        place, row = int(batch.place[index]), int(batch.row[index])
        bad.append(invalid_row(place, row, "%s, row %d: %s" % (names[place], row, wrong[index])))
    if wrong:
        places = batch.places
        batch = batch.chosen(np.setdiff1d(np.arange(len(batch)), list(wrong)))
        batch.places = places
    batch.frame = batch.frame.astype(dict.fromkeys(present, "datetime64[ns]"))
    return batch


def _refused(values: Any) -> List[Any]:
    """Return the distinct values that are no dates."""
    if _converts(values):
        return []
    distinct = values.drop_duplicates()
    return [
        distinct.iloc[i] for i in range(len(distinct)) if not _converts(distinct.iloc[i : i + 1])
    ]


def _converts(values: Any) -> bool:
    try:
        values.astype("datetime64[ns]")
    except (ValueError, TypeError, OverflowError):
        return False
    return True
