"""The same with a bare `multiprocessing.Pool`: a model in each process, a file per call.

python tabular_pool.py MODEL INPUT OUTPUT WORKERS
"""

# Written as people write such programs:
# ruff: noqa: PLW0603, PTH118, PTH119

from __future__ import annotations

import multiprocessing
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # its best: one thread for each process


def load():
    global model, pd
    import mlflow.pyfunc
    import pandas as pd

    model = mlflow.pyfunc.load_model(sys.argv[1])


def work(path):
    frame = pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
    name = os.path.basename(path)
    predictions = model.predict(frame)
    scored = pd.DataFrame({"file": name, "row": range(len(frame)), "prediction": predictions})
    scored.to_csv(os.path.join(sys.argv[3], name + ".scored.csv"), index=False)


if __name__ == "__main__":
    paths = sorted(entry.path for entry in os.scandir(sys.argv[2]))
    with multiprocessing.Pool(int(sys.argv[4]), load) as pool:
        for _ in pool.imap_unordered(work, paths):
            pass
