"""Compares a job's predictions with what the trained network itself said.

    python check_result.py DEPLOYMENT PREDICTIONS_CSV

Ends with 1 and the first difference unless each picture has its one row, in order, with the same
digit and the same probability (up to what float32 leaves open), and 17 of 20 are read rightly.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROBABILITY_OFF_MAX = 0.001
RIGHT_MIN = 0.85


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def difference(found: dict[str, str], wanted: dict[str, str]) -> str | None:
    if found["_file"] != wanted["file"]:
        return f"the row of {wanted['file']} is missing: {found['_file']} stands in its place"
    if found["prediction"] != wanted["prediction"]:
        return f"{wanted['file']}: {found['prediction']} was read, expected {wanted['prediction']}"
    off = abs(float(found["probability"]) - float(wanted["probability"]))
    return f"{wanted['file']}: probability is off by {off}" if off > PROBABILITY_OFF_MAX else None


def main() -> None:
    deployment, predictions = sys.argv[1], Path(sys.argv[2])
    found = rows_of(predictions)
    wanted = rows_of(HERE / "expected" / f"predictions-{deployment}.csv")
    labels = {row["file"]: row["label"] for row in rows_of(HERE / "expected" / "labels.csv")}
    if len(found) != len(wanted):
        raise SystemExit(f"{predictions} has {len(found)} rows, expected {len(wanted)}")
    for pair in zip(found, wanted, strict=True):
        wrong = difference(*pair)
        if wrong:
            raise SystemExit(f"{predictions}: {wrong}")
    right = sum(row["prediction"] == labels[row["_file"]] for row in found)
    if right < RIGHT_MIN * len(found):
        raise SystemExit(f"only {right} of {len(found)} digits were read rightly")
    print(f"As expected: {len(found)} rows by {deployment}, {right} digits read rightly")


if __name__ == "__main__":
    main()
