"""Compares the Parquet files of a job with the data they came from and with what MLflow predicts.

python check_results.py results
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent


def main() -> None:
    results = Path(sys.argv[1])
    sources = sorted((HERE / "data").glob("*.csv"))
    found = {path.name for path in results.rglob("*.parquet")}
    wanted = {f"{source.stem}.parquet" for source in sources}
    if found != wanted:
        raise SystemExit(f"expected {sorted(wanted)} and found {sorted(found)}")
    expected = pd.read_csv(HERE / "expected" / "predictions.csv").set_index("_file")
    rows = 0
    for source in sources:
        (written,) = results.rglob(f"{source.stem}.parquet")
        table = pd.read_parquet(written)
        if source == sources[0]:
            print(f"The first rows of {written}:\n{table.head(3).to_string(index=False)}")
        predictions = expected.loc[[source.name], "prediction"]
        if list(table["prediction"]) != list(predictions):
            raise SystemExit(f"{written} has other predictions than MLflow itself")
        patients = table.drop(columns="prediction")
        pd.testing.assert_frame_equal(patients, pd.read_csv(source), check_dtype=False)
        rows += len(table)
    print(f"{len(sources)} Parquet files with {rows} rows: all patients, and MLflow's predictions")


if __name__ == "__main__":
    main()
