"""Each example runs as its README says and gives what it promises."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
HEART, PARQUET = "heart-classifier-mlflow", "heart-classifier-parquet"
# What running the examples leaves in their folders.
MADE = ("data", "model", "model-v2", "expected", "results", ".batchpoint")
BATCHPOINT = Path(sys.executable).with_name("batchpoint")
COMMAND_SECONDS_MAX = 200


class Workplace:
    """A user's shell in a copy of an example, with a fresh home."""

    def __init__(self, root: Path, example: str) -> None:
        for name in {example, HEART}:  # the others train the model of the first one
            made = shutil.ignore_patterns(*MADE, "__pycache__")
            shutil.copytree(EXAMPLES / name, root / name, ignore=made)
        self.folder = root / example
        self.environ = {
            **{key: value for key, value in os.environ.items() if "BATCHPOINT" not in key},
            "BATCHPOINT_HOME": str(root / "home"),
            "PATH": f"{BATCHPOINT.parent}{os.pathsep}{os.environ['PATH']}",
        }

    def attempt(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is."""
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            env=self.environ,
            cwd=self.folder,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )

    def run(self, *command: str | Path) -> str:
        done = self.attempt(*command)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def batchpoint(self, *arguments: str | Path) -> str:
        return self.run(BATCHPOINT, *arguments)

    def downloaded(self, job: str) -> list[dict[str, str]]:
        target = self.folder / f"download-{job}"
        self.batchpoint("job", "download", job, "--download-path", target)
        (predictions,) = target.rglob("predictions.csv")
        return rows_of(predictions)


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("heart"), HEART)
    try:
        yield place
    finally:
        place.batchpoint("down")


@pytest.fixture(scope="module")
def demo(heart: Workplace) -> str:
    """What `make demo` prints after setting itself up; the script checks every result itself."""
    return heart.run("bash", "deploy-and-run.sh")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_demo_ends_with_predictions_and_what_to_try_next(demo: str) -> None:
    assert "heart-01.csv     0           0" in demo
    assert demo.count("As expected: byte for byte expected/predictions.csv") == 2
    assert demo.count("As expected: byte for byte expected/predictions-v2.csv") == 2
    assert "Try next" in demo


def test_the_expected_predictions_are_of_all_rows_and_of_two_models(
    heart: Workplace, demo: str
) -> None:
    first, second = (
        rows_of(heart.folder / "expected" / name)
        for name in ("predictions.csv", "predictions-v2.csv")
    )
    rows = sum(len(rows_of(path)) for path in (heart.folder / "data").glob("*.csv"))
    assert len(first) == len(second) == rows
    assert {row["prediction"] for row in first} == {"0", "1"}
    assert first != second


def test_after_the_demo_the_second_deployment_is_the_default(heart: Workplace, demo: str) -> None:
    show = ["batch-endpoint", "show", "--name", "heart-classifier", "-o", "tsv"]
    default = heart.batchpoint(*show, "--query", "defaults.deployment_name")
    assert default.strip() == "xgboost-v2"
    shown = heart.batchpoint("data", "show", "--name", "heart-unlabeled", "-o", "json")
    assert json.loads(shown)["type"] == "uri_folder"


def test_the_long_form_gives_the_same(heart: Workplace, demo: str) -> None:
    heart.batchpoint("batch-endpoint", "create", "--file", "endpoint.yml")
    heart.batchpoint("batch-deployment", "create", "--file", "deployment.yml", "--set-default")
    invoke = ["batch-endpoint", "invoke", "--name", "heart-classifier", "--input", "data"]
    job = heart.batchpoint(*invoke, "--query", "name", "-o", "tsv").strip()
    heart.batchpoint("job", "stream", job)
    assert heart.downloaded(job) == rows_of(heart.folder / "expected" / "predictions.csv")


def test_a_broken_row_fails_alone(heart: Workplace, demo: str) -> None:
    data = heart.folder / "broken"
    data.mkdir()
    lines = (heart.folder / "data" / "heart-03.csv").read_text().splitlines(keepends=True)
    (data / "heart-03.csv").write_text("".join(lines))
    lines[4] = "old" + lines[4].lstrip("0123456789")
    (data / "heart-03-broken.csv").write_text("".join(lines))
    invoke = ["invoke", "heart-classifier", "--input", data, "--wait", "--query", "name"]
    done = heart.attempt(BATCHPOINT, *invoke, "-o", "tsv")
    assert done.returncode == 3, done.stderr
    rows = heart.downloaded(done.stdout.strip())
    whole = [row for row in rows if row["_file"] == "heart-03.csv"]
    assert len(whole) == len(lines) - 1
    neighbours = {int(row["_row"]) for row in rows if row["_file"] == "heart-03-broken.csv"}
    assert neighbours == set(range(len(lines) - 1)) - {3}
    said = heart.batchpoint("job", "failed-items", done.stdout.strip(), "-o", "json")
    assert "heart-03-broken.csv" in said
    assert "column 'age' must be a whole number and has 'old'" in said


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("parquet"), PARQUET)
    try:
        yield place
    finally:
        place.batchpoint("down")


def test_a_parquet_file_for_each_input_with_what_mlflow_predicts(parquet: Workplace) -> None:
    said = parquet.run("bash", "deploy-and-run.sh")
    assert "10 Parquet files with 3100 rows: all patients, and MLflow's predictions" in said
    written = sorted(path.name for path in (parquet.folder / "results").iterdir())
    assert written == [
        "_failed_items.jsonl",
        "_receipt.json",
        *(f"heart-{number:02}.parquet" for number in range(1, 11)),
    ]


def test_a_broken_file_fails_alone_and_the_others_are_written(parquet: Workplace) -> None:
    if not (parquet.folder / "model").exists():
        parquet.run(sys.executable, f"../{HEART}/make_data_and_model.py", "--folder", ".")
    broken = parquet.folder / "broken"
    broken.mkdir()
    for name in ("heart-01.csv", "heart-02.csv"):
        shutil.copy(parquet.folder / "data" / name, broken)
    (broken / "heart-03.csv").write_text("no table at all\n")
    parquet.batchpoint("batch-endpoint", "create", "--file", "endpoint.yml")
    parquet.batchpoint("batch-deployment", "create", "--file", "deployment.yml", "--set-default")
    invoke = ["batch-endpoint", "invoke", "--name", PARQUET, "--input", broken, "--wait"]
    done = parquet.attempt(BATCHPOINT, *invoke, "--query", "name", "-o", "tsv")
    assert done.returncode == 3, done.stderr
    job, target = done.stdout.strip(), parquet.folder / "of-broken"
    parquet.batchpoint("job", "download", job, "--download-path", target)
    assert {path.name for path in target.glob("*.parquet")} == {
        "heart-01.parquet",
        "heart-02.parquet",
    }
    [failed] = (target / "_failed_items.jsonl").read_text().splitlines()
    assert json.loads(failed)["name"] == "heart-03.csv"


def test_every_example_is_in_the_table(subtests: pytest.Subtests) -> None:
    table = (EXAMPLES / "README.md").read_text()
    for folder in EXAMPLES.iterdir():
        if (folder / "README.md").exists():
            with subtests.test(folder.name):
                assert f"({folder.name}/)" in table
