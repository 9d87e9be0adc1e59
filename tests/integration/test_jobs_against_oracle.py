"""Whole jobs over random items come to what the oracle says, to the byte and to the unit."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pytest

from batchpoint.client.client import OverrideFields
from batchpoint.domain.job import JobState
from sim import oracle
from tests.integration.conftest import Place

SCRIPT = """
import os, time

def init():
    pass

def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path) as file:
            kind, *values = file.read().split("\\n")
        if kind == "raises":
            raise ValueError("told to raise by " + os.path.basename(path))
        if kind == "crashes":
            os._exit(9)
        if kind == "hangs":
            while True:
                time.sleep(0.01)
        rows += values
    return rows
"""
# 12: a lone item without any row is a failed item with a name.
SEEDS = [11, 12, 13, 14, 15, 16]
SEEDS_OF_TORTURE = range(1_000, 1_060)


@pytest.fixture(scope="module", autouse=True)
def endpoint(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("random")
    place.deploy_script(folder, "random", SCRIPT, max_concurrency_per_instance=2, max_retries=1)


def random_items(chance: random.Random) -> list[oracle.Item]:
    """Make items of which most are good, some fail in each way, and some have 0 or 3 rows."""
    items: list[oracle.Item] = []
    odd = chance.random() < 0.5
    for number in range(chance.randint(20, 60)):
        fails = chance.choices(["", "raises", "crashes", "hangs"], weights=[60, 2, 1, 0.3])[0]
        count = chance.choices([1, 0, 3], weights=[40, 1, 1])[0] if odd else 1
        rows = tuple(f"{number}.{row}" for row in range(count))
        items.append(oracle.Item(f"{number:04d}.txt", rows, fails=fails))  # type: ignore[arg-type]
    return items


def write(items: list[oracle.Item], folder: Path) -> None:
    for item in items:
        (folder / item.name).write_text("\n".join((item.fails or "good", *item.rows)))


@pytest.mark.parametrize(
    "seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS_OF_TORTURE)]
)
def test_a_random_job_comes_to_what_the_oracle_says(
    place: Place, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    items = random_items(chance)
    write(items, tmp_path)
    size = chance.randint(1, 8)
    threshold = chance.choice([None, -1, 3, 100])
    expected = oracle.expect(items, oracle.Settings(size, threshold))
    overrides: OverrideFields = {"mini_batch_size": size, "timeout": 1}
    if threshold is not None:
        overrides["error_threshold"] = threshold
    job = place.client.invoke("random", tmp_path, **overrides).wait(check=False)
    if job.status.state == JobState.FAILED and expected.systemic_possible:
        assert job.status.error is not None
        assert job.status.error.code in ("systemic_failure", expected.code)
        return
    assert job.status.state == expected.state, job.status.error
    if expected.state != JobState.COMPLETED:
        assert job.status.error is not None
        assert job.status.error.code == expected.code
        assert not place.output(job).exists()
        return
    rows = list(csv.reader(io.StringIO(place.predictions(job))))
    assert rows == [
        ["_file", "prediction"],
        *([row.file or "", row.value] for row in expected.rows),
    ]
    lines = (place.output(job) / "_failed_items.jsonl").read_text().splitlines()
    named = [json.loads(line) for line in lines]
    assert [(line["name"], line["row"]) for line in named if line["name"] is not None] == [
        (entry.name, entry.row) for entry in expected.failed
    ]
    assert job.status.progress.items_failed == expected.failures
    receipt = json.loads((place.output(job) / "_receipt.json").read_text())
    assert receipt["items"]["planned"] == len(items)
    assert receipt["items"]["failed"] == expected.failures
    assert receipt["rows"] == job.status.progress.rows_done == len(expected.rows)
