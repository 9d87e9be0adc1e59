"""Makes the example's pictures from the handwritten digits that scikit-learn ships.

    data/digit-0000.png …     pictures to score, 28 x 28, grey, white on black as in MNIST
    training/digits.npz       other digits of the same size, with what they show
    expected/labels.csv       which digit each picture in data/ shows

The digits are 1,797 scans of 8 x 8 pixels (UCI, 1998); they are enlarged here. Nothing is left to
chance, and nothing here knows of batchpoint.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
SIDE = 28
SCORED = 200  # the last ones, by writers of whom the networks have seen nothing


def enlarged(scan: np.ndarray) -> np.ndarray:
    """Turn 8 x 8 numbers from 0 to 16 into 28 x 28 bytes, with MNIST's margin of four pixels."""
    small = Image.fromarray((scan * 255.0 / 16.0).round().astype(np.uint8))
    picture = Image.new("L", (SIDE, SIDE))
    picture.paste(small.resize((20, 20), Image.Resampling.BILINEAR), (4, 4))
    return np.asarray(picture)


def main() -> None:
    scans, labels = load_digits(return_X_y=True)
    pictures = np.stack([enlarged(scan) for scan in scans.reshape(-1, 8, 8)])
    for folder in ("data", "training", "expected"):
        (HERE / folder).mkdir(exist_ok=True)
    np.savez(HERE / "training" / "digits.npz", pictures=pictures[:-SCORED], labels=labels[:-SCORED])
    with (HERE / "expected" / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "label"])
        for number, (picture, label) in enumerate(
            zip(pictures[-SCORED:], labels[-SCORED:], strict=True)
        ):
            name = f"digit-{number:04}.png"
            Image.fromarray(picture).save(HERE / "data" / name)
            rows.writerow([name, label])
    print(f"{SCORED} pictures in data/, {len(pictures) - SCORED} digits to train with")


if __name__ == "__main__":
    main()
