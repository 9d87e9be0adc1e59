"""Makes the example's texts: invented reports with a headline each, always the same.

data/reports-01.csv …    columns id, title and text; 25 texts a file, of 2 to 14 sentences
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 7
FILES = 3
TEXTS_PER_FILE = 25

PLACES = ["harbour", "station", "library", "market", "bridge", "school", "museum", "garden"]
PEOPLE = [
    "council",
    "engineers",
    "teachers",
    "visitors",
    "volunteers",
    "drivers",
    "bakers",
    "students",
]
VERBS = ["opened", "repaired", "closed", "painted", "measured", "visited", "moved", "praised"]
TIMES = ["on Monday", "last week", "in the morning", "after the storm", "at night", "this spring"]
REASONS = [
    "because the roof had leaked",
    "to make room for more people",
    "although it rained all day",
    "as the plan had asked for",
    "and the neighbours were glad",
    "for the first time in ten years",
]


def event(chance: random.Random) -> str:
    return f"{chance.choice(PEOPLE)} {chance.choice(VERBS)} the {chance.choice(PLACES)}"


def report(chance: random.Random) -> tuple[str, str]:
    """Invent a headline, and the text below it, which begins with what the headline says."""
    headline = event(chance)
    events = [headline, *(event(chance) for _ in range(chance.randint(1, 13)))]
    sentences = [f"The {e} {chance.choice(TIMES)} {chance.choice(REASONS)}." for e in events]
    return headline, " ".join(sentences)


def reports(count: int, seed: int) -> list[tuple[str, str]]:
    """Return headlines and texts; other seeds give others."""
    chance = random.Random(seed)
    return [report(chance) for _ in range(count)]


def main() -> None:
    invented = iter(reports(FILES * TEXTS_PER_FILE, SEED))
    (HERE / "data").mkdir(exist_ok=True)
    for number in range(1, FILES + 1):
        path = HERE / "data" / f"reports-{number:02}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["id", "title", "text"])
            rows.writerows([row, *next(invented)] for row in range(TEXTS_PER_FILE))
    print(f"{FILES * TEXTS_PER_FILE} texts in data/")


if __name__ == "__main__":
    main()
