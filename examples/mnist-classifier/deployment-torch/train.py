"""Trains the PyTorch network on training/digits.npz: model/weights.pt, and what it has to predict.

`expected/predictions-mnist-torch.csv` holds what the trained network says of data/, picture by
picture, before batchpoint has seen it.
"""
# pyright: reportMissingImports=false
# torch lives in this deployment's environment, not in batchpoint's.

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "code"), str(HERE.parent)]

from expected_predictions import pictures_to_score, write_expected  # noqa: E402
from network import DigitNetwork  # noqa: E402

EPOCHS = 16
BATCH = 64


def trained(pictures: torch.Tensor, labels: torch.Tensor) -> DigitNetwork:
    network = DigitNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pictures)).split(BATCH):
            loss = nn.functional.cross_entropy(network(pictures[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def main() -> None:
    torch.manual_seed(20)
    digits = np.load(HERE.parent / "training" / "digits.npz")
    pictures = torch.from_numpy(digits["pictures"]).float().div(255).unsqueeze(1)
    network = trained(pictures, torch.from_numpy(digits["labels"]).long())
    (HERE / "model").mkdir(exist_ok=True)
    torch.save(network.state_dict(), HERE / "model" / "weights.pt")
    chances: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for name, picture in pictures_to_score():
            one = torch.from_numpy(picture).float().div(255)[None, None]
            chances[name] = network(one).softmax(dim=1)[0].numpy()
    write_expected("mnist-torch", chances)


if __name__ == "__main__":
    main()
