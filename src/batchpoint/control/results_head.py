"""The first rows of a job's predictions, whatever format they are in."""

from __future__ import annotations

import csv
import json
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

from batchpoint.domain.errors import NotFound, Unavailable
from batchpoint.domain.job import Job
from batchpoint.domain.results import ResultsHead

_PARQUET_SECONDS_MAX = 60
_LINE_CHARS_MAX = 16 * 1024 * 1024

# Runs in the job's own interpreter: the one that wrote the file can read it.
_PARQUET_READER = """
import json, sys
import pyarrow.parquet as parquet
table = parquet.ParquetFile(sys.argv[1])
wanted = int(sys.argv[2])
rows = []
for batch in table.iter_batches(batch_size=max(wanted, 1)):
    rows += batch.slice(0, wanted - len(rows)).to_pylist()
    if len(rows) >= wanted:
        break
json.dump({"columns": table.schema_arrow.names, "rows": rows}, sys.stdout, default=str)
"""


def head(path: Path, job: Job, rows: int) -> ResultsHead:
    """Read the first `rows` rows of a predictions file.

    Raises: NotFound (`output_not_found`) when it is not a table; Unavailable
    (`storage_unavailable`) when no interpreter can read it.
    """
    settings = job.spec.settings
    suffix = path.suffix.lower()
    if settings.output_format == "azure" and suffix != ".parquet":
        return _separated(path, rows, spaces=job.spec.code is not None)
    if suffix == ".csv":
        return _csv(path, rows)
    if suffix == ".jsonl":
        return _jsonl(path, rows)
    if suffix == ".parquet":
        return _parquet(path, Path(job.spec.environment.python), rows)
    raise NotFound(
        f"{path.name!r} is not a table that can be shown; download it instead",
        code="output_not_found",
    )


def _csv(path: Path, rows: int) -> ResultsHead:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        columns = next(reader, None) or []
        return ResultsHead(columns=columns, rows=[list(row) for row in islice(reader, rows)])


def _separated(path: Path, rows: int, *, spaces: bool) -> ResultsHead:
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        reader = csv.reader(file, delimiter=" " if spaces else ",")
        return ResultsHead(columns=None, rows=[list(row) for row in islice(reader, rows)])


def _jsonl(path: Path, rows: int) -> ResultsHead:
    with path.open("rb") as file:
        found: list[dict[str, Any]] = []
        for _ in range(rows):
            line = file.readline(_LINE_CHARS_MAX)
            if not line:
                break
            found.append(json.loads(line))
    columns = list(dict.fromkeys(name for row in found for name in row))
    return ResultsHead(columns=columns, rows=[[row.get(name) for name in columns] for row in found])


def _parquet(path: Path, python: Path, rows: int) -> ResultsHead:
    try:
        done = subprocess.run(
            [python, "-I", "-c", _PARQUET_READER, path, str(rows)],
            capture_output=True,
            check=True,
            timeout=_PARQUET_SECONDS_MAX,
        )
        table = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise Unavailable(
            f"{path.name!r} cannot be read by {python} (is pyarrow still in that environment?); "
            "download it instead",
            code="storage_unavailable",
        ) from error
    columns: list[str] = table["columns"]
    return ResultsHead(
        columns=columns, rows=[[row.get(name) for name in columns] for row in table["rows"]]
    )
