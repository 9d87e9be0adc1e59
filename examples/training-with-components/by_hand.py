"""Does what the pipelines do, without batchpoint: one script after the other.

    python by_hand.py     expected/ordinal/… and expected/onehot/…: what the outputs have to be

Needs data/ (make_data.py), and writes only to expected/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PREPARE = HERE / "components" / "prepare" / "src" / "prepare.py"
TRAIN = HERE / "components" / "train_xgb" / "src" / "train_xgb.py"


def python(script: Path, tracking: Path, **arguments: object) -> None:
    """Run a script as its component does, with a place of its own for what MLflow notes."""
    line = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    environ = {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking.as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",  # newer versions of MLflow want to be told
    }
    subprocess.run([sys.executable, str(script), *line], check=True, env=environ)


def train(folder: Path, encoding: str) -> None:
    """Make all outputs of one deployment."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared, tracking = Path(scratch, "prepared"), Path(scratch, "mlflow")
        python(
            PREPARE,
            tracking,
            data_path=HERE / "data" / "train",
            categorical_encoding=encoding,
            prepared_data_path=prepared,
            transformations_output_path=folder / "transformations",
        )
        python(
            TRAIN,
            tracking,
            data_path=prepared,
            target_column="target",
            eval_size=0.3,
            model=folder / "model",
            evaluation_results=folder / "evaluation_results",
        )


def main() -> None:
    for encoding in ("ordinal", "onehot"):
        folder = HERE / "expected" / encoding
        shutil.rmtree(folder, ignore_errors=True)
        train(folder, encoding)


if __name__ == "__main__":
    main()
