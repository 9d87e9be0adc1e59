"""Trains the Keras network on training/digits.npz: model/mnist.keras, and what it has to predict.

`expected/predictions-mnist-keras.csv` holds what the trained network says of data/, picture by
picture, before batchpoint has seen it.
"""
# pyright: reportMissingImports=false
# Keras and TensorFlow live in this deployment's environment, not in batchpoint's.

from __future__ import annotations

import os
import sys
from pathlib import Path

# The same weights on every processor, and fewer words when TensorFlow starts.
os.environ.update(TF_ENABLE_ONEDNN_OPTS="0", TF_CPP_MIN_LOG_LEVEL="2")

import keras
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from expected_predictions import pictures_to_score, write_expected  # noqa: E402


def network() -> keras.Model:
    """Two convolutions and two layers; the network itself brings bytes into the range 0 to 1."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def main() -> None:
    keras.utils.set_random_seed(20)
    digits = np.load(HERE.parent / "training" / "digits.npz")
    model = network()
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    pictures = digits["pictures"][..., None].astype("float32")
    model.fit(pictures, digits["labels"], batch_size=64, epochs=16, verbose=0)
    (HERE / "model").mkdir(exist_ok=True)
    model.save(HERE / "model" / "mnist.keras")
    write_expected(
        "mnist-keras",
        {
            name: model.predict_on_batch(picture[None, ..., None].astype("float32"))[0]
            for name, picture in pictures_to_score()
        },
    )


if __name__ == "__main__":
    main()
