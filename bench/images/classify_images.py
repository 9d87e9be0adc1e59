"""The scoring script of W2: the class of each image."""

# Written as people write such programs:
# ruff: noqa: PLW0603, PTH118, PTH207
# pyright: reportMissingImports=false

from __future__ import annotations

import glob
import os

from image_network import classes, loaded


def init() -> None:
    """Load the weights."""
    global model
    model = loaded(glob.glob(os.path.join(os.environ["AZUREML_MODEL_DIR"], "*.pt"))[0])


def run(mini_batch: list[str]) -> list[int]:
    """Classify a mini-batch of images in one pass."""
    return classes(model, mini_batch)
