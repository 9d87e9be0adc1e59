"""Compares a job's summaries with those that were generated for one text at a time.

    python check_result.py SUMMARIES_CSV

Ends with 1 and the first difference unless each text has its one row, in the order of files and
rows, with exactly the expected summary.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIELDS = ("file", "row", "summary")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    summaries = Path(sys.argv[1])
    found, wanted = rows_of(summaries), rows_of(HERE / "expected" / "summaries.csv")
    if len(found) != len(wanted):
        raise SystemExit(f"{summaries} has {len(found)} rows, expected {len(wanted)}")
    for row, expected in zip(found, wanted, strict=True):
        for field in FIELDS:
            if row[field] != expected[field]:
                place = f"{expected['file']}, row {expected['row']}"
                raise SystemExit(
                    f"{place}: {field} is {row[field]!r}, expected {expected[field]!r}"
                )
    different = len({row["summary"] for row in found})
    print(f"As expected: {len(found)} rows in order, {different} different summaries")


if __name__ == "__main__":
    main()
