"""Scores pictures of digits with PyTorch: one row per file."""
# pyright: reportMissingImports=false
# torch lives in this deployment's environment, not in batchpoint's.

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from network import DigitNetwork
from PIL import Image

network: DigitNetwork
device: str


def init() -> None:
    """Load the weights, once per worker."""
    global network, device
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = Path(os.environ["AZUREML_MODEL_DIR"], "model", "weights.pt")
    network = DigitNetwork()
    network.load_state_dict(torch.load(weights, map_location=device, weights_only=True))
    network.to(device).eval()


def run(mini_batch: list[str]) -> pd.DataFrame:
    """Score all pictures of the mini-batch as one tensor."""
    pictures = np.stack([np.asarray(Image.open(path).convert("L")) for path in mini_batch])
    batch = torch.from_numpy(pictures).to(device).float().div(255).unsqueeze(1)
    with torch.inference_mode():
        chances = network(batch).softmax(dim=1)
    probability, prediction = chances.max(dim=1)
    return pd.DataFrame(
        {
            "prediction": prediction.cpu().numpy(),
            "probability": probability.cpu().numpy().round(4),
        }
    )
