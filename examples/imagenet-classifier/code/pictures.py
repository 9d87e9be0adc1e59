"""Pictures as ResNet50 wants to see them: decoded in threads, ahead of the network."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 224
SHORTER_SIDE = 256
BATCHES_AHEAD = 3


def picture_of(path: str | Path) -> np.ndarray:
    """Decode a picture: scaled to 256 on its shorter side, its middle, (224, 224, 3) bytes, RGB.

    Raises OSError naming the file when it holds no picture; batchpoint then lets this file fail and
    scores its neighbours.
    """
    try:
        with Image.open(path) as image:
            # A JPEG far larger than needed is decoded at a half, a quarter or an eighth.
            image.draft("RGB", (SHORTER_SIDE, SHORTER_SIDE))
            scale = SHORTER_SIDE / min(image.size)
            size = (
                max(SIDE, round(image.width * scale)),
                max(SIDE, round(image.height * scale)),
            )
            scaled = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"{Path(path).name} cannot be read as a picture: {error}") from error
    left, top = (scaled.width - SIDE) // 2, (scaled.height - SIDE) // 2
    return np.array(scaled.crop((left, top, left + SIDE, top + SIDE)))


def decoding_threads() -> ThreadPoolExecutor:
    """Start as many threads as there are cores: Pillow lets go of Python's lock while it decodes.

    `DECODING_THREADS` sets another number.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(int(os.environ.get("DECODING_THREADS") or cores or 1))


def decoded_batches(
    paths: Sequence[str | Path], batch_size: int, threads: Executor
) -> Iterator[np.ndarray]:
    """Yield batches shaped (n, 224, 224, 3) in order, up to three more being decoded meanwhile."""
    waiting: deque[Future[np.ndarray]] = deque()
    rest = iter(paths)
    for begin in range(0, len(paths), batch_size):
        for path in rest:
            waiting.append(threads.submit(picture_of, path))
            if len(waiting) >= (1 + BATCHES_AHEAD) * batch_size:
                break
        count = min(batch_size, len(paths) - begin)
        batch = np.empty((count, SIDE, SIDE, 3), np.uint8)
        for row in range(count):
            batch[row] = waiting.popleft().result()
        yield batch
