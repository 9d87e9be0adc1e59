"""Each example runs as its README says and gives what it promises."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEART = ROOT / "examples" / "heart-classifier-mlflow"
BATCHPOINT = Path(sys.executable).with_name("batchpoint")
COMMAND_SECONDS_MAX = 200


class Workplace:
    """A user's shell: a fresh home, and a folder where the example writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.environ = {
            **{key: value for key, value in os.environ.items() if "BATCHPOINT" not in key},
            "BATCHPOINT_HOME": str(self.home),
            "HEART_CLASSIFIER_FOLDER": str(folder),
        }

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            env=self.environ,
            cwd=cwd or self.folder,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
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
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("heart"))
    try:
        yield place
    finally:
        place.batchpoint("down")


@pytest.fixture(scope="module")
def demo(workplace: Workplace) -> str:
    """What `make demo` prints after setting itself up."""
    return workplace.run("bash", HEART / "deploy-and-run.sh", cwd=ROOT)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_demo_ends_with_predictions_and_what_to_try_next(demo: str) -> None:
    assert "batchpoint job head" in demo
    assert "heart-01.csv" in demo
    assert "Results: " in demo
    assert "Try next:" in demo


def test_the_predictions_are_those_of_mlflow_row_for_row(workplace: Workplace, demo: str) -> None:
    job = demo.partition("batchpoint job head ")[2].split()[0].removesuffix("\x1b[0m")
    expected = rows_of(workplace.folder / "expected" / "predictions.csv")
    assert len(expected) == sum(
        len(rows_of(path)) for path in (workplace.folder / "data").glob("*.csv")
    )
    assert {row["prediction"] for row in expected} == {"0", "1"}
    assert workplace.downloaded(job) == expected


def test_the_long_form_gives_the_same(workplace: Workplace, demo: str) -> None:
    for name in ("endpoint.yml", "deployment.yml"):
        (workplace.folder / name).write_text((HEART / name).read_text())
    workplace.batchpoint("batch-endpoint", "create", "--file", "endpoint.yml")
    workplace.batchpoint("batch-deployment", "create", "--file", "deployment.yml", "--set-default")
    invoke = ["batch-endpoint", "invoke", "--name", "heart-classifier", "--input", "data"]
    job = workplace.batchpoint(*invoke, "--query", "name", "-o", "tsv").strip()
    workplace.batchpoint("job", "stream", job)
    expected = rows_of(workplace.folder / "expected" / "predictions.csv")
    assert workplace.downloaded(job) == expected


def test_a_broken_row_fails_alone(workplace: Workplace, demo: str) -> None:
    data = workplace.folder / "broken"
    data.mkdir()
    lines = (workplace.folder / "data" / "heart-03.csv").read_text().splitlines(keepends=True)
    (data / "heart-03.csv").write_text("".join(lines))
    lines[4] = "old" + lines[4].lstrip("0123456789")
    (data / "heart-03-broken.csv").write_text("".join(lines))
    command = [BATCHPOINT, "invoke", "heart-classifier", "--input", data, "--wait"]
    done = subprocess.run(
        [*command, "--query", "name", "-o", "tsv"],
        capture_output=True,
        text=True,
        env=workplace.environ,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    rows = workplace.downloaded(done.stdout.strip())
    whole = [row for row in rows if row["_file"] == "heart-03.csv"]
    assert len(whole) == len(lines) - 1
    neighbours = {int(row["_row"]) for row in rows if row["_file"] == "heart-03-broken.csv"}
    assert neighbours == set(range(len(lines) - 1)) - {3}
    said = workplace.batchpoint("job", "failed-items", done.stdout.strip(), "-o", "json")
    assert "heart-03-broken.csv" in said
    assert "column 'age' must be a whole number and has 'old'" in said
