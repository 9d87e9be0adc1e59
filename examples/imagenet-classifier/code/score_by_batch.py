"""Scores a mini-batch as one tensor; decoding, copying and computing go on side by side.

A mini-batch larger than what the device has room for is cut into several tensors. Two are on their
way at any time, so that the device finds the next one waiting when it has finished one.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from network import Best, Network, Started
from pictures import decoded_batches, decoding_threads

ON_THEIR_WAY = 2

network: Network
threads: ThreadPoolExecutor


def init() -> None:
    """Load the network and start the threads that decode, once per worker."""
    global network, threads
    network = Network(Path(os.environ["AZUREML_MODEL_DIR"], "model"))
    threads = decoding_threads()


def run(mini_batch: list[str]) -> pd.DataFrame:
    """Score all pictures of the mini-batch: one row per file, in order."""
    scored: list[Best] = []
    started: deque[Started] = deque()
    for batch in decoded_batches(mini_batch, network.batch_size, threads):
        started.append(network.start(batch))
        if len(started) > ON_THEIR_WAY:
            scored.append(started.popleft().fetch())
    scored += [last.fetch() for last in started]
    best, probability = (np.concatenate(parts) for parts in zip(*scored, strict=True))
    return pd.DataFrame(
        {"class": [network.labels[number] for number in best], "probability": probability.round(4)}
    )
