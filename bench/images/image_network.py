"""W2's decoding and network, shared by all contenders: about as long to decode as to compute."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import nn

SIZE = 224
BATCH = 32
WIDTH = 0.5
# Expansion, channels, repeats and first stride of each stage.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255
SPREAD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255


def _convolution(inputs, outputs, size=3, stride=1, groups=1, active=True):
    layers = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if active else []))


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; added to its input where shapes allow."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.steps = nn.Sequential(
            *([_convolution(inputs, hidden, 1)] if expansion > 1 else []),
            _convolution(hidden, hidden, 3, stride, hidden),
            _convolution(hidden, outputs, 1, active=False),
        )

    def forward(self, x):
        return x + self.steps(x) if self.adds else self.steps(x)


def network():
    """A small MobileNetV2-like network with invented weights, the same every time."""
    torch.manual_seed(0)
    channels = _channels(32)
    layers = [_convolution(3, channels, 3, 2), nn.MaxPool2d(2)]
    for expansion, width, repeats, stride in STAGES:
        for number in range(repeats):
            first = stride if number == 0 else 1
            layers.append(InvertedResidual(channels, _channels(width), first, expansion))
            channels = _channels(width)
    layers += [_convolution(channels, 640, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(640, 1000)).eval()


def _channels(wanted):
    return max(8, int(wanted * WIDTH + 4) // 8 * 8)


def loaded(weights):
    """The network with the weights of a file."""
    model = network()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model


def decoded(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def classes(model, paths):
    """The likeliest class of each image, in one pass through the network."""
    pixels = torch.from_numpy(np.stack([decoded(path) for path in paths]))
    batch = (pixels.permute(0, 3, 1, 2).float() - MEAN) / SPREAD
    with torch.inference_mode():
        return model(batch).argmax(1).tolist()
