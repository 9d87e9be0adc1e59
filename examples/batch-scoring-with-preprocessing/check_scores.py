"""Compares scores with those that by_hand.py has made.

    python check_scores.py MODE FOLDER

MODE is append or replace. FOLDER has a table for each of data/unlabeled/ somewhere below it, or one
with the rows of all of them in order and a column `file`. Ends with 1 and what differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent


def tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    """Read scores: the table for each file of patients."""
    paths = sorted(folder.rglob("*.csv"))
    if len(paths) != 1:
        return {path.name: pd.read_csv(path) for path in paths}
    rows = pd.read_csv(paths[0]).drop(columns="_file", errors="ignore")
    if not rows["file"].is_monotonic_increasing:
        raise SystemExit(f"{paths[0]} has files in another order than their names")
    return {
        str(name): part.drop(columns="file").reset_index(drop=True)
        for name, part in rows.groupby("file", sort=False)
    }


def main() -> None:
    mode, results = sys.argv[1], Path(sys.argv[2])
    found, wanted = tables_of(results), tables_of(HERE / "expected" / mode)
    if [*found] != [*wanted]:
        raise SystemExit(f"{results} has scores of {[*found]}, expected {[*wanted]}")
    for name, table in wanted.items():
        try:
            pd.testing.assert_frame_equal(found[name], table)
        except AssertionError as error:
            raise SystemExit(f"{name} has other scores than by_hand.py made:\n{error}") from error
    predictions = pd.concat(found.values())["prediction"]
    ill = predictions.eq(1).sum()
    print(f"As expected: {mode}, {len(found)} tables, {len(predictions)} patients, {ill} ill")


if __name__ == "__main__":
    main()
