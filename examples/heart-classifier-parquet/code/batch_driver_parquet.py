"""Scores CSV files with the heart classifier and writes a Parquet file for each of them."""
# pyright: reportOptionalMemberAccess=false
# MLflow does not promise that a model has a signature; this one has.

import os
from pathlib import Path

import mlflow
import pandas as pd


def init():
    """Load the model, once per worker."""
    global model, types, output_folder
    model = mlflow.pyfunc.load_model(f"{os.environ['AZUREML_MODEL_DIR']}/model")
    columns = model.metadata.get_input_schema().inputs
    types = {column.name: column.type.to_pandas() for column in columns}
    output_folder = Path(os.environ["AZUREML_BI_OUTPUT_PATH"])


def run(mini_batch):
    """Write heart-01.parquet for heart-01.csv, and so on."""
    for path in mini_batch:
        patients = pd.read_csv(path, dtype=types)
        patients["prediction"] = model.predict(patients)
        patients.to_parquet(output_folder / f"{Path(path).stem}.parquet", index=False)
    return mini_batch  # one element for each file that has been dealt with
