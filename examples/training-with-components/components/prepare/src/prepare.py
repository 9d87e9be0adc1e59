"""Turns tables of patients into numbers, by transformations that are learnt or given.

What is learnt is a small JSON file: which codes categories have, and of every column of numbers its
median, mean and deviation. A column `target` is passed through as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

TARGET = "target"
FILE = "transformations.json"


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", type=Path, required=True)
    parser.add_argument("--transformations_path", type=Path)
    parser.add_argument("--categorical_encoding", choices=["ordinal", "onehot"], default="ordinal")
    parser.add_argument("--prepared_data_path", type=Path, required=True)
    parser.add_argument("--transformations_output_path", type=Path, required=True)
    return parser.parse_args(line)


def learnt(patients: pd.DataFrame, encoding: str) -> dict[str, Any]:
    """Learn from a table what has to be done to every table like it."""
    features = patients.drop(columns=TARGET, errors="ignore")
    numbers = features.select_dtypes("number")
    kinds = features.drop(columns=numbers.columns)
    return {
        "encoding": encoding,
        "numbers": {
            name: {"median": of["50%"], "mean": of["mean"], "deviation": of["std"] or 1.0}
            for name, of in numbers.describe().to_dict().items()
        },
        "kinds": {name: sorted(column.dropna().unique()) for name, column in kinds.items()},
    }


def transformed(patients: pd.DataFrame, how: dict[str, Any]) -> pd.DataFrame:
    """Do to a table what was learnt; categories never seen before are like missing ones."""
    missing = [name for name in (*how["numbers"], *how["kinds"]) if name not in patients]
    if missing:
        raise ValueError(f"columns are missing: {', '.join(missing)}; there are: {[*patients]}")
    columns: dict[str, Any] = {}
    for name, of in how["numbers"].items():
        known = patients[name].fillna(of["median"])
        columns[name] = (known - of["mean"]) / of["deviation"]
    for name, kinds in how["kinds"].items():
        if how["encoding"] == "onehot":
            columns |= {f"{name}_{kind}": (patients[name] == kind).astype(int) for kind in kinds}
        else:
            codes = {kind: code for code, kind in enumerate(kinds)}
            columns[name] = [codes.get(kind, -1) for kind in patients[name]]
    if TARGET in patients:
        columns[TARGET] = patients[TARGET]
    return pd.DataFrame(columns)


def main(line: list[str] | None = None) -> None:
    given = arguments(line)
    files = sorted(given.data_path.rglob("*.csv"))
    if not files:
        raise SystemExit(f"{given.data_path} has no CSV file")
    tables = {file: pd.read_csv(file) for file in files}
    if given.transformations_path is None:
        how = learnt(pd.concat(tables.values()), given.categorical_encoding)
        said = f"Learnt from {len(files)} files"
    else:
        how = json.loads((given.transformations_path / FILE).read_text(encoding="utf-8"))
        said = f"Given for {len(files)} files"
    print(f"{said}: {len(how['numbers'])} numbers, {len(how['kinds'])} kinds, {how['encoding']}")
    for folder in (given.prepared_data_path, given.transformations_output_path):
        folder.mkdir(parents=True, exist_ok=True)
    for file, table in tables.items():
        target = given.prepared_data_path / file.relative_to(given.data_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        transformed(table, how).to_csv(target, index=False)
        print(f"{file.name}: {len(table)} patients, {int(table.isna().sum().sum())} gaps")
    described = json.dumps(how, indent=2) + "\n"
    (given.transformations_output_path / FILE).write_text(described, encoding="utf-8")


if __name__ == "__main__":
    main()
