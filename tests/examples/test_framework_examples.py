"""The examples with frameworks of their own do what their READMEs say, from an empty home."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BIN = Path(sys.executable).parent
MADE = (
    "data",
    "expected",
    "model",
    "results",
    "training",
    ".batchpoint",
    ".bench-*",
    "__pycache__",
)
DOWNLOADS_SECONDS_MAX = 1_500


def heavy(test):
    """Mark a test that may have to download a framework first."""
    return pytest.mark.heavy(pytest.mark.timeout(DOWNLOADS_SECONDS_MAX)(test))


class Clone:
    """What git has of an example, in a folder of its own with an empty home."""

    def __init__(self, root: Path, example: str) -> None:
        self.folder = root / "examples" / example
        ignored = shutil.ignore_patterns(*MADE)
        shutil.copytree(EXAMPLES / example, self.folder, ignore=ignored)
        shutil.copy(EXAMPLES / "in_environment.py", self.folder.parent)
        self._environ = {
            **{key: value for key, value in os.environ.items() if "BATCHPOINT" not in key},
            "BATCHPOINT_HOME": str(root / "home"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, *command: str, **variables: str) -> str:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self._environ | variables,
            cwd=self.folder,
            timeout=DOWNLOADS_SECONDS_MAX,
            check=False,
        )
        said = (
            f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        assert done.returncode == 0, said
        return done.stdout

    def deploy_and_run(self, *arguments: str, **variables: str) -> str:
        """Run the script; it must end well, have checked its results and leave nothing running."""
        said = self.run("bash", "deploy-and-run.sh", *arguments, **variables)
        assert "# All results are as expected" in said
        assert self.run("batchpoint", "batch-endpoint", "list", "-o", "tsv").strip() == ""
        assert "nothing ran" in self.run("batchpoint", "down")
        return said


@pytest.fixture
def mnist(tmp_path: Path) -> Clone:
    return Clone(tmp_path, "mnist-classifier")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    clone = Clone(tmp_path_factory.mktemp("imagenet"), "imagenet-classifier")
    yield clone
    clone.run("batchpoint", "down")


def test_a_second_deployment_takes_over_from_the_first(mnist: Clone) -> None:
    said = mnist.deploy_and_run("sklearn", "forest")
    answers = [line for line in said.splitlines() if line.startswith("As expected: 200 rows by")]
    names = [line.split()[5].rstrip(",") for line in answers]
    assert names == [
        "mnist-sklearn",
        "mnist-forest",
        "mnist-sklearn",
        "mnist-forest",
        "mnist-forest",
    ]


@heavy
def test_keras_takes_over_from_pytorch(mnist: Clone) -> None:
    said = mnist.deploy_and_run()
    assert said.count("As expected: 200 rows by mnist-torch") == 2
    assert said.count("As expected: 200 rows by mnist-keras") == 3


@heavy
@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_pictures_are_classified_on_every_backend(imagenet: Clone, backend: str) -> None:
    said = imagenet.deploy_and_run(KERAS_BACKEND=backend)
    assert said.count("As expected: 36 rows") == 2
    assert "dots-03.jpg cannot be read as a picture" in said


@heavy
def test_a_job_says_what_the_loop_by_hand_says(imagenet: Clone) -> None:
    imagenet.run(
        "python", "../in_environment.py", "environment/conda.yml", "make_images_and_model.py"
    )
    measured = [
        "--pictures",
        "72",
        "--repeats",
        "1",
        "--mini-batch-size",
        "20",
        "--at-least",
        "0.05",
    ]
    said = json.loads(imagenet.run("python", "benchmark.py", *measured))
    assert said["pictures"] == 72
    assert said["batchpoint_pictures_per_second"] > 0


@heavy
def test_texts_are_summarized_in_their_order(tmp_path: Path) -> None:
    said = Clone(tmp_path, "text-summarization-bart").deploy_and_run()
    assert "As expected: 75 rows in order" in said
