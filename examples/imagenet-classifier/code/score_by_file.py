"""Scores pictures one after the other: the simplest script there is, and the slowest."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
from network import Network
from pictures import picture_of

network: Network


def init() -> None:
    """Load the network, once per worker."""
    global network
    network = Network(Path(os.environ["AZUREML_MODEL_DIR"], "model"))


def run(mini_batch: list[str]) -> pd.DataFrame:
    """Score each file of the mini-batch by itself."""
    rows: list[dict[str, object]] = []
    for path in mini_batch:
        best, probability = network.start(picture_of(path)[None]).fetch()
        rows.append({"class": network.labels[best[0]], "probability": round(probability[0], 4)})
    return pd.DataFrame(rows)
