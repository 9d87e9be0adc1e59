"""What a script does that scores a folder: load the model, predict file after file.

python tabular_plain.py MODEL INPUT OUTPUT
"""

# Written as people write such programs:
# ruff: noqa: PTH118, PTH119

from __future__ import annotations

import os
import sys

import mlflow.pyfunc
import pandas as pd

MODEL, INPUT, OUTPUT = sys.argv[1:4]

model = mlflow.pyfunc.load_model(MODEL)
header = True
for path in sorted(entry.path for entry in os.scandir(INPUT)):
    frame = pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
    scored = pd.DataFrame(
        {
            "file": os.path.basename(path),
            "row": range(len(frame)),
            "prediction": model.predict(frame),
        }
    )
    out = os.path.join(OUTPUT, "predictions.csv")
    scored.to_csv(out, mode="a", header=header, index=False)
    header = False
