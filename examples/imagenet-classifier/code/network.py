"""A ResNet50 of Keras that answers later: a batch is started, and its result fetched afterwards.

The host decodes and copies the next batch while the device computes this one. Bytes travel to the
device as they are (a quarter of what floats would be) and are prepared there; only the best class
of each picture and its probability come back. Runs on any backend of Keras (`KERAS_BACKEND`).
"""
# pyright: reportMissingImports=false, reportMissingModuleSource=false
# pyright: reportUntypedFunctionDecorator=false
# Keras and its backends live in this deployment's environment, not in batchpoint's.

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# JAX takes three quarters of a GPU when it starts unless told otherwise: two workers share one.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import keras
import numpy as np
from keras import ops

SIDE = 224
MEANS = (103.939, 116.779, 123.68)  # of blue, green and red over ImageNet, as ResNet50 was trained
BYTES_PER_PICTURE = 96 << 20  # what all layers give for one picture, in half precision
BATCH_SIZE_MAX = 256
BATCH_SIZE_ON_CPU = 16

Best = tuple[np.ndarray, np.ndarray]
Scorer = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Started:
    """A batch on its way; `fetch()` waits for class numbers and probabilities."""

    outcome: Any
    count: int

    def fetch(self) -> Best:
        best, probability = (ops.convert_to_numpy(part)[: self.count] for part in self.outcome)
        return best, probability.astype(np.float32)


class Network:
    """The network in a folder, `resnet50.keras` and `labels.txt`, ready to score on this machine.

    Half precision on a GPU, single on a CPU, unless `PRECISION` names one of Keras's policies
    (`float32`, `mixed_float16`, `mixed_bfloat16`).
    """

    def __init__(self, folder: Path) -> None:
        self.on_gpu = _has_gpu()
        self.precision = os.environ.get("PRECISION") or (
            "mixed_float16" if self.on_gpu else "float32"
        )
        self.labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
        model = keras.saving.load_model(folder / "resnet50.keras", compile=False)
        _set_precision(model, self.precision)
        self._score = _SCORERS[keras.backend.backend()](model, self.on_gpu)
        self.batch_size = _batch_size(on_gpu=self.on_gpu)
        self._settle()
        logging.getLogger(__name__).info(
            "ResNet50 on %s (%s), %s, batches of %d",
            "the GPU" if self.on_gpu else "the CPU",
            keras.backend.backend(),
            self.precision,
            self.batch_size,
        )

    def start(self, pictures: np.ndarray) -> Started:
        """Send pictures, (n, 224, 224, 3) bytes, n at most `batch_size`; returns at once on a GPU.

        Batches are filled up to a power of two, so that few shapes are ever compiled.
        """
        count = len(pictures)
        full = 1 << (count - 1).bit_length()
        if full != count:
            pictures = np.concatenate([pictures, np.zeros((full - count, SIDE, SIDE, 3), np.uint8)])
        return Started(self._score(pictures), count)

    def _settle(self) -> None:
        """Compile for a full batch now; where the device has no room for one, take half of it."""
        while True:
            try:
                self.start(np.zeros((self.batch_size, SIDE, SIDE, 3), np.uint8)).fetch()
                return
            except Exception as error:
                if self.batch_size == 1 or not _is_out_of_memory(error):
                    raise
                self.batch_size //= 2


def prepared(pictures: Any) -> Any:
    """Turn RGB bytes into what ResNet50 was trained on: BGR, the mean of ImageNet taken away."""
    return ops.flip(ops.cast(pictures, "float32"), axis=-1) - ops.array(MEANS, "float32")


def _best_of(scores: Any) -> tuple[Any, Any]:
    scores = ops.cast(scores, "float32")
    return ops.argmax(scores, axis=-1), ops.max(scores, axis=-1)


def _set_precision(model: keras.Model, precision: str) -> None:
    """Compute in `precision` from here on; weights, inputs and the last layer stay in single."""
    for layer in model.layers[1:-1]:
        layer.dtype_policy = keras.DTypePolicy(precision)


def _on_tensorflow(model: keras.Model, on_gpu: bool) -> Scorer:
    import tensorflow as tf

    @tf.function(jit_compile=on_gpu, reduce_retracing=False)
    def score(pictures: Any) -> tuple[Any, Any]:
        return _best_of(model(prepared(pictures), training=False))

    return lambda pictures: score(tf.convert_to_tensor(pictures))


def _on_torch(model: keras.Model, on_gpu: bool) -> Scorer:
    import torch

    def score(pictures: np.ndarray) -> tuple[Any, Any]:
        with torch.inference_mode():
            batch = torch.from_numpy(pictures)
            if on_gpu:  # from pinned memory the copy runs beside what the GPU is doing
                batch = batch.pin_memory().to("cuda", non_blocking=True)
            return _best_of(model(prepared(batch), training=False))

    return score


def _on_jax(model: keras.Model, on_gpu: bool) -> Scorer:
    import jax

    def score(trained: Any, counted: Any, pictures: Any) -> tuple[Any, Any]:
        scores, _ = model.stateless_call(trained, counted, prepared(pictures), training=False)
        return _best_of(scores)

    compiled = jax.jit(score)
    trained = [variable.value for variable in model.trainable_variables]
    counted = [variable.value for variable in model.non_trainable_variables]
    return lambda pictures: compiled(trained, counted, jax.device_put(pictures))


_SCORERS: dict[str, Callable[[keras.Model, bool], Scorer]] = {
    "tensorflow": _on_tensorflow,
    "torch": _on_torch,
    "jax": _on_jax,
}


def _has_gpu() -> bool:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:  # take what is needed, not all there is: two workers share one
            tf.config.experimental.set_memory_growth(gpu, True)
        return bool(gpus)
    if backend == "torch":
        import torch

        return torch.cuda.is_available()
    import jax

    return jax.default_backend() == "gpu"


def _batch_size(*, on_gpu: bool) -> int:
    """Take what `BATCH_SIZE` says, else the power of two that fits half of the free memory."""
    if "BATCH_SIZE" in os.environ:
        return int(os.environ["BATCH_SIZE"])
    if not on_gpu:
        return BATCH_SIZE_ON_CPU
    asked = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return BATCH_SIZE_MAX  # halved until it fits
    free_bytes = min(int(line) for line in said.split()) << 20
    fitting = max(1, free_bytes // 2 // BYTES_PER_PICTURE)
    return min(BATCH_SIZE_MAX, 1 << (fitting.bit_length() - 1))


def _is_out_of_memory(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}".lower().replace("_", " ")
    return "out of memory" in text or "resource exhausted" in text or "resourceexhausted" in text
