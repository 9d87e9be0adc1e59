"""What the trained networks say of data/, picture by picture: the result a job has to give."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent


def pictures_to_score() -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and pixels (28 x 28 bytes) of each picture in data/, by name."""
    for path in sorted((HERE / "data").glob("*.png")):
        yield path.name, np.array(Image.open(path).convert("L"))


def write_expected(deployment: str, chances: Mapping[str, np.ndarray]) -> None:
    """Write expected/predictions-DEPLOYMENT.csv and say how many digits were read rightly."""
    with (HERE / "expected" / "labels.csv").open(newline="") as file:
        labels = {row["file"]: int(row["label"]) for row in csv.DictReader(file)}
    path = HERE / "expected" / f"predictions-{deployment}.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "prediction", "probability"])
        for name, chance in chances.items():
            rows.writerow([name, int(chance.argmax()), f"{chance.max():.4f}"])
    right = sum(int(chance.argmax()) == labels[name] for name, chance in chances.items())
    print(f"{deployment}: {right} of {len(chances)} digits read rightly")
