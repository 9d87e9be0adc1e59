"""Scores pictures of digits with a scikit-learn classifier: one row per file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from PIL import Image

classifier: Any


def init() -> None:
    """Load the classifier, once per worker."""
    global classifier
    path = Path(os.environ["AZUREML_MODEL_DIR"], "model", "classifier.joblib")
    classifier = joblib.load(path)


def run(mini_batch: list[str]) -> pd.DataFrame:
    """Score all pictures of the mini-batch as one array."""
    pictures = np.stack([np.asarray(Image.open(path).convert("L")) for path in mini_batch])
    chances = classifier.predict_proba(pictures.reshape(len(pictures), -1) / 255)
    return pd.DataFrame(
        {
            "prediction": chances.argmax(axis=1),
            "probability": chances.max(axis=1).round(4),
        }
    )
