"""Makes the example's pictures and a ResNet50 that can tell them apart, always the same.

    data/*.jpg                 pictures to score, of many sizes: stripes, rings, dots, …
    model/resnet50.keras       keras.applications.ResNet50, as ImageNet's is saved
    model/labels.txt           the name of each class, a line each
    expected/predictions.csv   what the network says of data/, one picture at a time

No weights are downloaded. The convolutions stay as a seed made them, their normalisation is fitted
to the pictures, and the last layer is solved for by least squares: enough to tell patterns apart.
For the real thing see the README. Nothing here knows of batchpoint.
"""
# pyright: reportMissingImports=false
# Keras lives in this example's own environment, not in batchpoint's.

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow says much when it starts

import keras
import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "code"))

from network import prepared  # noqa: E402
from pictures import picture_of  # noqa: E402

SEED = 50
TRAINED_PER_CLASS = 8
SCORED_PER_CLASS = 6
SIZES = (240, 520)
NORMALISED_BY = 16  # pictures; each takes 170 MB on its way through all layers
PART = 16
BLOCK_SHARE = 0.2
PENALTY = 10.0
SHARPNESS = 12.0  # least squares answers between 0 and 1; softmax wants a wider range


def stripes(x, y, size):
    return (x / size).astype(int) % 2


def checks(x, y, size):
    return ((x / size).astype(int) + (y / size).astype(int)) % 2


def rings(x, y, size):
    return (np.hypot(x - x.mean(), y - y.mean()) / size).astype(int) % 2


def dots(x, y, size):
    return np.hypot(x % (2 * size) - size, y % (2 * size) - size) < 0.6 * size


def fade(x, y, size):
    return (x + y) / (x + y).max()


def noise(x, y, size):
    return np.random.default_rng(int(size * 1000)).random(x.shape)


PATTERNS = {p.__name__: p for p in (stripes, checks, rings, dots, fade, noise)}


def drawn(name: str, chance: np.random.Generator) -> Image.Image:
    """Draw a pattern of a random size, density and colour."""
    width, height = chance.integers(*SIZES, 2)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ink = PATTERNS[name](x, y, chance.uniform(12, 30)).astype(float)[..., None]
    dark, light = chance.uniform(0, 90, 3), chance.uniform(150, 255, 3)
    return Image.fromarray((dark + ink * (light - dark)).astype(np.uint8))


def draw_all(folder: Path, count: int, seed: int) -> list[tuple[Path, int]]:
    """Write `count` pictures of each class; returns them with the number of their class."""
    chance = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made: list[tuple[Path, int]] = []
    for number, name in enumerate(PATTERNS):
        for copy in range(count):
            path = folder / f"{name}-{copy:02}.jpg"
            drawn(name, chance).save(path, quality=90)
            made.append((path, number))
    return sorted(made)


def fitted_model(pictures: np.ndarray, classes: np.ndarray) -> keras.Model:
    """Fit normalisation and last layer of a ResNet50 with random convolutions to pictures."""
    keras.utils.set_random_seed(SEED)
    model = keras.applications.ResNet50(weights=None, classes=len(PATTERNS))
    norms = [part for part in model.layers if isinstance(part, keras.layers.BatchNormalization)]
    usual = norms[0].momentum
    for norm in norms:
        norm.momentum = 0.0  # take the statistics of this one batch as they are
        if norm.name.endswith("_3_bn"):  # blocks of chance add little to what passes them by
            norm.gamma.assign(norm.gamma * BLOCK_SHARE)
    model(prepared(pictures[:: len(pictures) // NORMALISED_BY]), training=True)
    for norm in norms:
        norm.momentum = usual
    features = keras.Model(model.input, model.get_layer("avg_pool").output)
    parts = [pictures[begin : begin + PART] for begin in range(0, len(pictures), PART)]
    seen = np.vstack([features.predict_on_batch(prepared(part)) for part in parts])
    seen = np.hstack([seen, np.ones((len(seen), 1))]).astype(float)
    wanted = SHARPNESS * np.eye(len(PATTERNS))[classes]
    solved = seen.T @ np.linalg.solve(seen @ seen.T + PENALTY * np.eye(len(seen)), wanted)
    model.get_layer("predictions").set_weights([solved[:-1], solved[-1]])
    return model


def write_expected(model: keras.Model, scored: list[tuple[Path, int]]) -> None:
    """Let Keras predict picture by picture; this is what a batch job has to reproduce."""
    labels, right = list(PATTERNS), 0
    (HERE / "expected").mkdir(exist_ok=True)
    with (HERE / "expected" / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "class", "probability", "label"])
        for path, number in scored:
            chances = model(prepared(picture_of(path)[None]), training=False)
            chances = keras.ops.convert_to_numpy(chances)[0]
            best = int(chances.argmax())
            right += best == number
            rows.writerow([path.name, labels[best], f"{chances[best]:.4f}", labels[number]])
    print(f"ResNet50: {right} of {len(scored)} pictures recognised")


def main() -> None:
    training = draw_all(HERE / ".batchpoint" / "training", TRAINED_PER_CLASS, seed=1)
    scored = draw_all(HERE / "data", SCORED_PER_CLASS, seed=2)
    pictures = np.stack([picture_of(path) for path, _ in training])
    model = fitted_model(pictures, np.array([number for _, number in training]))
    (HERE / "model").mkdir(exist_ok=True)
    model.save(HERE / "model" / "resnet50.keras")
    (HERE / "model" / "labels.txt").write_text("".join(f"{name}\n" for name in PATTERNS))
    write_expected(model, scored)


if __name__ == "__main__":
    main()
