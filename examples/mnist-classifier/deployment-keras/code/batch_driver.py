"""Scores pictures of digits with Keras on TensorFlow: one row per file."""
# pyright: reportMissingImports=false
# Keras and TensorFlow live in this deployment's environment, not in batchpoint's.

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from PIL import Image

network: keras.Model


def init() -> None:
    """Load the network, once per worker."""
    global network
    network = keras.saving.load_model(Path(os.environ["AZUREML_MODEL_DIR"], "model", "mnist.keras"))


def run(mini_batch: list[str]) -> pd.DataFrame:
    """Score all pictures of the mini-batch as one tensor."""
    pictures = np.stack([np.asarray(Image.open(path).convert("L")) for path in mini_batch])
    chances = network.predict_on_batch(pictures[..., None].astype("float32"))
    return pd.DataFrame(
        {
            "prediction": chances.argmax(axis=1),
            "probability": chances.max(axis=1).round(4),
        }
    )
