"""Makes W2's images, 500 x 375 JPEG of 60 to 110 KB with texture at four scales, and weights.

python make_images.py images FOLDER COUNT WORKERS
python make_images.py weights FILE
"""

# Written as people write such programs:
# ruff: noqa: PTH118
# pyright: reportMissingImports=false

from __future__ import annotations

import functools
import multiprocessing
import os
import sys

WIDTH, HEIGHT, QUALITY = 500, 375, 88
# Cells across the image, and how strong that texture is.
TEXTURES = ((4, 70), (16, 40), (64, 25), (180, 14))


def make_image(folder: str, number: int) -> None:
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(9000 + number)
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cells, strength in TEXTURES:
        rows = max(2, HEIGHT * cells // WIDTH)
        coarse = chance.normal(0, 1, (rows, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel])
            layer = layer.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(layer) * strength
    pixels += chance.normal(0, 6, (HEIGHT, WIDTH, 1))
    image = Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))
    image.save(os.path.join(folder, f"im{number:05d}.jpg"), quality=QUALITY)


if __name__ == "__main__":
    if sys.argv[1] == "weights":
        import torch
        from image_network import network

        torch.save(network().state_dict(), sys.argv[2])
    else:
        with multiprocessing.Pool(int(sys.argv[4])) as pool:
            make = functools.partial(make_image, sys.argv[2])
            pool.map(make, range(int(sys.argv[3])), chunksize=20)
