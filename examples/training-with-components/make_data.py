"""Makes the patients that the examples with pipelines train on and score.

    data/train/heart-01.csv …       patients with a diagnosis (column `target`)
    data/unlabeled/heart-01.csv …   patients without one

The columns are those of the well-known heart disease data of the UCI repository, with words for
categories and with gaps, as in life. The numbers are invented from a seed, so that every run makes
the same ones; nothing here knows of batchpoint.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from pathlib import Path

SEED = 11
TRAINING_FILES, UNLABELED_FILES = 4, 8
ROWS_PER_FILE = 250
GAPS = {"chol": 0.03, "ca": 0.02, "thal": 0.02, "trestbps": 0.01}
SLOPE = ["up", "flat", "down"]
PAIN = ["typical", "atypical", "non-anginal", "asymptomatic"]


def patient(chance: random.Random) -> dict[str, int | float | str]:
    """Invent one, with a diagnosis that is likelier with age, pain and narrow vessels."""
    age = chance.randint(29, 77)
    one: dict[str, int | float | str] = {
        "age": age,
        "sex": chance.choice(["female", "male"]),
        "cp": chance.choices(PAIN, [8, 17, 28, 47])[0],
        "trestbps": round(chance.gauss(110, 15) + 0.4 * age),
        "chol": round(chance.gauss(190, 45) + age),
        "fbs": int(chance.random() < 0.15),
        "restecg": chance.choices(["normal", "st-t", "hypertrophy"], [50, 2, 48])[0],
        "thalach": round(chance.gauss(205, 18) - age),
        "exang": int(chance.random() < 0.33),
        "oldpeak": round(abs(chance.gauss(0, 1.5)), 1),
        "slope": chance.choices(SLOPE, [47, 46, 7])[0],
        "ca": chance.choices([0, 1, 2, 3], [58, 22, 13, 7])[0],
        "thal": chance.choices(["normal", "fixed", "reversible"], [55, 6, 39])[0],
    }
    score = (
        0.04 * (age - 54)
        + 0.7 * (one["sex"] == "male")
        + 0.9 * (one["cp"] == "asymptomatic")
        + 0.9 * float(one["ca"])
        + 0.5 * float(one["oldpeak"])
        + 1.1 * (one["thal"] == "reversible")
        + 0.6 * float(one["exang"])
        - 0.02 * (float(one["thalach"]) - 150)
        - 2.6
    )
    one["target"] = int(chance.random() < 1 / (1 + math.exp(-2 * score)))
    return one


def write_patients(path: Path, chance: random.Random, *, with_target: bool) -> None:
    """Write one file of patients; some of what was measured got lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = None
        for _ in range(ROWS_PER_FILE):
            one = patient(chance)
            for name, share in GAPS.items():
                if chance.random() < share:
                    one[name] = ""
            if not with_target:
                del one["target"]
            rows = rows or csv.DictWriter(file, list(one), lineterminator="\n")
            if not file.tell():
                rows.writeheader()
            rows.writerow(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    data = parser.parse_args().folder / "data"
    chance = random.Random(SEED)
    for number in range(1, TRAINING_FILES + 1):
        write_patients(data / "train" / f"heart-{number:02}.csv", chance, with_target=True)
    for number in range(1, UNLABELED_FILES + 1):
        write_patients(data / "unlabeled" / f"heart-{number:02}.csv", chance, with_target=False)
    print(f"{data}: {TRAINING_FILES * ROWS_PER_FILE} patients to train on, "
          f"{UNLABELED_FILES * ROWS_PER_FILE} without a diagnosis")  # fmt: skip


if __name__ == "__main__":
    main()
