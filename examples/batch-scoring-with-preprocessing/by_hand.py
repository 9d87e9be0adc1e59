"""Does what the pipelines do, without batchpoint: trains, prepares, scores.

    python by_hand.py     expected/append/ and expected/replace/: what the scores have to be

Needs data/ (../training-with-components/make_data.py --folder .), and writes only to expected/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRAINING = HERE.parent / "training-with-components" / "components"
PREPARE = TRAINING / "prepare" / "src" / "prepare.py"
TRAIN = TRAINING / "train_xgb" / "src" / "train_xgb.py"
SCORE = HERE / "components" / "score" / "code" / "score.py"


def python(script: Path, scratch: Path, **arguments: object) -> None:
    """Run a script as its component does; what MLflow notes is thrown away."""
    line = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    environ = {
        **os.environ,
        "MLFLOW_TRACKING_URI": (scratch / "mlflow").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",  # newer versions of MLflow want to be told
    }
    subprocess.run([sys.executable, str(script), *line], check=True, env=environ)


def main() -> None:
    shutil.rmtree(HERE / "expected", ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        learnt, model = scratch / "learnt", scratch / "model"
        python(
            PREPARE,
            scratch,
            data_path=HERE / "data" / "train",
            prepared_data_path=scratch / "train",
            transformations_output_path=learnt,
        )
        python(
            TRAIN,
            scratch,
            data_path=scratch / "train",
            target_column="target",
            model=model,
            evaluation_results=scratch / "evaluation",
        )
        python(
            PREPARE,
            scratch,
            data_path=HERE / "data" / "unlabeled",
            transformations_path=learnt,
            prepared_data_path=scratch / "prepared",
            transformations_output_path=scratch / "same",
        )
        for mode in ("append", "replace"):
            python(
                SCORE,
                scratch,
                data_path=scratch / "prepared",
                model_path=model,
                score_mode=mode,
                scores_path=HERE / "expected" / mode,
            )


if __name__ == "__main__":
    main()
