"""Whole jobs of models without code on images: sizes of mini-batches, failures, an environment."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batchpoint.domain.job import Job, JobState
from batchpoint.formats import manifest
from tests.integration.conftest import Place

# Lies in the model's own code folder; loaded as a scikit-learn model, without mlflow.
MODEL = """
import os

class Brightness:
    def predict(self, pixels):
        assert pixels.shape[0] == 1, pixels.shape
        if pixels[0, 0, 0, 0] == 66:
            os._exit(66)
        if pixels[0, 0, 0, 0] == 13:
            raise ValueError("13 brings bad luck")
        return pixels.reshape(1, -1).mean(axis=1)
"""
MLMODEL = {
    "flavors": {
        "python_function": {
            "loader_module": "mlflow.sklearn",
            "model_path": "model.pkl",
            "code": "code",
        },
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"},
    },
}
# As if the environment had no Pillow.
WITHOUT_PILLOW = 'import sys\nsys.modules["PIL"] = sys.modules["PIL.Image"] = None\n'


def write_model(folder: Path, name: str, head: str = "") -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "code" / f"{name}.py").write_text(head + MODEL)
    (folder / "model.pkl").write_bytes(f"c{name}\nBrightness\n)\x81.".encode("latin-1"))
    (folder / "MLmodel").write_text(json.dumps(MLMODEL))  # JSON is YAML
    return folder


@pytest.fixture(scope="module", autouse=True)
def endpoint(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("brightness")
    settings: dict[str, Any] = {"max_concurrency_per_instance": 2, "max_retries": 0}
    model = write_model(folder / "model", "brightness_of_jobs")
    place.client.deploy(model, "brightness", mini_batch_size=3, **settings)
    blind = write_model(folder / "blind", "blind_brightness_of_jobs", WITHOUT_PILLOW)
    place.client.deploy(blind, "brightness", deployment="blind", set_default=False, **settings)


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 7, 3), value, np.uint8)).save(path)


def run(place: Place, folder: Path, **more: Any) -> Job:
    return place.client.invoke("brightness", folder, **more).wait(check=False)


def rows(place: Place, job: Job) -> list[list[str]]:
    return list(csv.reader(io.StringIO(place.predictions(job))))


def test_every_image_has_its_row_and_mini_batches_their_size(place: Place, tmp_path: Path) -> None:
    for number in range(8):
        picture(tmp_path / f"{number % 2}" / f"{number}.png", number)
    job = run(place, tmp_path)
    assert job.status.state == JobState.COMPLETED
    names = [f"{number % 2}/{number}.png" for number in (0, 2, 4, 6, 1, 3, 5, 7)]
    wanted = [[name, "0", f"{float(Path(name).stem)}"] for name in names]
    assert rows(place, job) == [["_file", "_row", "prediction"], *wanted]
    segment = manifest.read_segment(place.folder(job).segment(0))
    assert list(segment.cuts) == [0, 3, 6]


def test_bad_images_fail_alone_and_say_why(place: Place, tmp_path: Path) -> None:
    values = {"a": 1, "b": 13, "c": 66, "d": 2, "e": 3, "f": 4, "g": 5}
    for name, value in values.items():
        picture(tmp_path / f"{name}.png", value)
    noise = np.random.default_rng(1).integers(0, 256, (50, 50, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "d.png")
    whole = (tmp_path / "d.png").read_bytes()
    (tmp_path / "d.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "h.txt").write_text("no image")
    job = run(place, tmp_path)
    assert job.status.state == JobState.COMPLETED
    scored = ["a.png", "e.png", "f.png", "g.png"]
    assert [row[0] for row in rows(place, job)[1:]] == scored
    lines = place.client.job(job.name).failed_items()
    told = {line["name"]: line["message"] for line in lines}
    assert sorted(told) == ["b.png", "c.png", "d.png", "h.txt"]
    assert told["b.png"] == "13 brings bad luck"
    assert "d.png cannot be read as an image: " in told["d.png"]
    assert "or an image (.png, " in told["h.txt"]
    assert "66" in told["c.png"]


def test_without_pillow_the_job_fails_at_once_with_what_to_do(place: Place, tmp_path: Path) -> None:
    for number in range(200):
        picture(tmp_path / f"{number:03}.png", 1)
    job = run(place, tmp_path, deployment="blind")
    assert job.status.state == JobState.FAILED
    assert job.status.error is not None
    assert "add pillow to the model's requirements" in job.status.error.message
    assert job.status.progress.rows_done == 0
    assert job.status.progress.items_failed < 200
