"""Compares a job's predictions with what Keras itself said, one picture at a time.

    python check_result.py PREDICTIONS_CSV [PROBABILITY_OFF_MAX]

Ends with 1 and the first difference unless each picture has its one row, in order, with the same
class and the same probability: to 0.002 unless told otherwise (half precision leaves more open, and
where two classes are that close either will do), and 3 of 4 pictures are recognised.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RIGHT_MIN = 0.75


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def difference(found: dict[str, str], wanted: dict[str, str], off_max: float) -> str | None:
    if found["_file"] != wanted["file"]:
        return f"the row of {wanted['file']} is missing: {found['_file']} stands in its place"
    off = abs(float(found["probability"]) - float(wanted["probability"]))
    if off > off_max:
        return f"{wanted['file']}: probability is off by {off:.4f}"
    close = float(wanted["probability"]) < 0.5 + off_max
    if found["class"] != wanted["class"] and not close:
        return f"{wanted['file']}: class is {found['class']}, expected {wanted['class']}"
    return None


def main() -> None:
    predictions = Path(sys.argv[1])
    off_max = float(sys.argv[2]) if len(sys.argv) > 2 else 0.002
    found, wanted = rows_of(predictions), rows_of(HERE / "expected" / "predictions.csv")
    if len(found) != len(wanted):
        raise SystemExit(f"{predictions} has {len(found)} rows, expected {len(wanted)}")
    for pair in zip(found, wanted, strict=True):
        wrong = difference(*pair, off_max)
        if wrong:
            raise SystemExit(f"{predictions}: {wrong}")
    right = sum(row["class"] == known["label"] for row, known in zip(found, wanted, strict=True))
    if right < RIGHT_MIN * len(found):
        raise SystemExit(f"only {right} of {len(found)} pictures were recognised")
    print(f"As expected: {len(found)} rows, {right} pictures recognised")


if __name__ == "__main__":
    main()
