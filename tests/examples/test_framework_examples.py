"""The examples with frameworks of their own do what their READMEs say, from an empty home."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.clone import Clone, heavy


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
