"""W2 without batchpoint: forks of one loaded process (the limit), or a plain loop.

    python images_alone.py limit|plain WEIGHTS INPUT OUTPUT WORKERS

The limit: one process per core with one thread each, images assigned beforehand, batches of 32.
The plain loop: one process with as many threads as torch likes, batches of 32.
"""

# Written as people write such programs:
# ruff: noqa: PTH118, PTH123
# pyright: reportMissingImports=false

from __future__ import annotations

import csv
import os
import sys

import torch
from image_network import BATCH, classes, loaded

HOW, WEIGHTS, INPUT, OUTPUT, WORKERS = *sys.argv[1:5], int(sys.argv[5])


def score(paths, name):
    with open(os.path.join(OUTPUT, name), "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["file", "prediction"])
        for at in range(0, len(paths), BATCH):
            batch = paths[at : at + BATCH]
            names = map(os.path.basename, batch)
            out.writerows(zip(names, classes(model, batch), strict=True))


paths = sorted(entry.path for entry in os.scandir(INPUT))
if HOW == "plain":
    model = loaded(WEIGHTS)
    score(paths, "predictions.csv")
    sys.exit()
torch.set_num_threads(1)
model = loaded(WEIGHTS)
children = []
for worker in range(WORKERS):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            score(paths[worker::WORKERS], f"part-{worker}.csv")
            status = 0
        finally:
            os._exit(status)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
os._exit(int(any(ends)))
