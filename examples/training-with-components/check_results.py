"""Compares downloaded outputs with those that by_hand.py has made.

    python check_results.py ENCODING FOLDER

FOLDER has evaluation_results/, transformations/ and model/, each somewhere below it. Ends with 1
and the name of what differs, unless all of it is byte for byte what training by hand gives.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAME_BYTES = ("metrics.json", "importance.csv", "transformations.json")


def found(folder: Path, name: str) -> Path:
    """Find the one file of that name."""
    paths = sorted(folder.rglob(name))
    if len(paths) != 1:
        raise SystemExit(f"{folder} should have one {name} and has {[*map(str, paths)]}")
    return paths[0]


def main() -> None:
    encoding, results = sys.argv[1], Path(sys.argv[2])
    expected = HERE / "expected" / encoding
    for name in SAME_BYTES:
        one, other = found(results, name), found(expected, name)
        if one.read_bytes() != other.read_bytes():
            raise SystemExit(f"{one} is not what by_hand.py made: {other}")
    models = [found(folder, "model.ubj") for folder in (results, expected)]
    if models[0].read_bytes() != models[1].read_bytes():
        raise SystemExit(f"{models[0]} is not the model that by_hand.py trained: {models[1]}")
    found(results, "MLmodel")
    metrics = json.loads(found(results, "metrics.json").read_text(encoding="utf-8"))
    print(f"As expected: {encoding}, the model that training by hand gives, AUC {metrics['auc']}")


if __name__ == "__main__":
    main()
