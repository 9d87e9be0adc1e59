"""The first rows of a job's predictions, whatever format they are in."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from itertools import islice
from pathlib import Path, PurePosixPath
from threading import Timer
from typing import Any

from batchpoint.control.remote_results import RemoteFile
from batchpoint.domain.errors import NotFound, Unavailable
from batchpoint.domain.job import Job
from batchpoint.domain.results import ResultsHead

_PARQUET_SECONDS_MAX = 60
_LINE_CHARS_MAX = 16 * 1024 * 1024

# Runs in the job's own interpreter: the one that wrote the file can read it. A file elsewhere is
# read through its pipes: it asks for ranges ("START SIZE") on stdout and gets their bytes on stdin.
_PARQUET_READER = """
import io, json, sys
import pyarrow.parquet as parquet

class Ranges(io.RawIOBase):
    def __init__(self, size):
        super().__init__()
        self.size, self.at = size, 0
    def readable(self):
        return True
    def seekable(self):
        return True
    def tell(self):
        return self.at
    def seek(self, offset, whence=0):
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at
    def read(self, size=-1):
        left = max(0, self.size - self.at)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        print(self.at, size, flush=True)
        data = sys.stdin.buffer.read(size)
        if len(data) < size:
            raise OSError("the range did not arrive")
        self.at += size
        return data
    def readinto(self, buffer):
        data = self.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)

source = Ranges(int(sys.argv[3])) if len(sys.argv) > 3 else sys.argv[1]
table = parquet.ParquetFile(source)
wanted = int(sys.argv[2])
rows = []
groups, have = [], 0
while have < wanted and len(groups) < table.metadata.num_row_groups:
    have += table.metadata.row_group(len(groups)).num_rows
    groups.append(len(groups))
for batch in table.iter_batches(batch_size=max(wanted, 1), row_groups=groups):
    rows += batch.slice(0, wanted - len(rows)).to_pylist()
    if len(rows) >= wanted:
        break
json.dump({"columns": table.schema_arrow.names, "rows": rows}, sys.stdout, default=str)
"""


def head(path: Path | RemoteFile, job: Job, rows: int) -> ResultsHead:
    """Read the first `rows` rows of a predictions file.

    Raises: NotFound (`output_not_found`) when it is not a table; Unavailable
    (`storage_unavailable`) when no interpreter can read it.
    """
    settings = job.scoring.settings
    suffix = PurePosixPath(path.name).suffix.lower()
    if settings.output_format == "azure" and suffix != ".parquet":
        return _separated(path, rows, spaces=job.scoring.code is not None)
    if suffix == ".csv":
        return _csv(path, rows)
    if suffix == ".jsonl":
        return _jsonl(path, rows)
    if suffix == ".parquet":
        return _parquet(path, Path(job.scoring.environment.python), rows)
    raise NotFound(
        f"{path.name!r} is not a table that can be shown; download it instead",
        code="output_not_found",
    )


def _opened(path: Path | RemoteFile) -> io.BufferedReader:
    return path.open("rb") if isinstance(path, Path) else path.open()


def _text(path: Path | RemoteFile, errors: str = "strict") -> io.TextIOWrapper:
    return io.TextIOWrapper(_opened(path), encoding="utf-8", errors=errors, newline="")


def _csv(path: Path | RemoteFile, rows: int) -> ResultsHead:
    with _text(path) as file:
        reader = csv.reader(file)
        columns = next(reader, None) or []
        return ResultsHead(columns=columns, rows=[list(row) for row in islice(reader, rows)])


def _separated(path: Path | RemoteFile, rows: int, *, spaces: bool) -> ResultsHead:
    with _text(path, "replace") as file:
        reader = csv.reader(file, delimiter=" " if spaces else ",")
        return ResultsHead(columns=None, rows=[list(row) for row in islice(reader, rows)])


def _jsonl(path: Path | RemoteFile, rows: int) -> ResultsHead:
    with _opened(path) as file:
        found: list[dict[str, Any]] = []
        for _ in range(rows):
            line = file.readline(_LINE_CHARS_MAX)
            if not line:
                break
            found.append(json.loads(line))
    columns = list(dict.fromkeys(name for row in found for name in row))
    return ResultsHead(columns=columns, rows=[[row.get(name) for name in columns] for row in found])


def _parquet(path: Path | RemoteFile, python: Path, rows: int) -> ResultsHead:
    command = [str(python), "-I", "-c", _PARQUET_READER, str(path), str(rows)]
    try:
        if isinstance(path, Path):
            done = subprocess.run(
                command, capture_output=True, check=True, timeout=_PARQUET_SECONDS_MAX
            )
            table = json.loads(done.stdout)
        else:
            command[-2] = path.name
            table = json.loads(_answered(command, path))
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


def _answered(command: list[str], file: RemoteFile) -> bytes:
    """Run the reader, give it the ranges it asks for, and return what it says in the end."""
    command = [*command, str(file.found.size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        alarm = Timer(_PARQUET_SECONDS_MAX, reader.kill)
        alarm.start()
        try:
            while (line := reader.stdout.readline()) and not line.startswith(b"{"):
                start, size = (int(number) for number in line.split())
                for chunk in file.chunks(start, start + size):
                    reader.stdin.write(chunk)
                reader.stdin.flush()
            return line + reader.stdout.read()
        finally:
            alarm.cancel()
            reader.kill()
