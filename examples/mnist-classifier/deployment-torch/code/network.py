"""The network: two convolutions and two layers, 28 x 28 pictures to ten digits."""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# torch lives in this deployment's environment, not in batchpoint's.

from __future__ import annotations

from torch import nn


class DigitNetwork(nn.Module):
    """Gives ten scores (logits) for each picture of a batch shaped (n, 1, 28, 28), 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=3, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, kernel_size=3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 6 * 6, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, pictures):
        return self.layers(pictures)
