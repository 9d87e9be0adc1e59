"""Has the one Parquet file of an output written by an interpreter that has pyarrow."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import batchpoint_worker
from batchpoint.core.assembly import Column
from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable
from batchpoint.domain.limits import ERROR_TEXT_CHARS_MAX
from batchpoint.formats.frame_table import Schema
from batchpoint.formats.receipt import ReceiptFile
from batchpoint.node.output_frames import OutputFrames

_SCRIPT = Path(batchpoint_worker.__file__).with_name("parquet_assembly.py")


def write_parquet(
    frames: OutputFrames, columns: tuple[Column, ...], target: Path, python: str
) -> ReceiptFile:
    """Write all rows to the Parquet file `target` and return its entry.

    Args:
        frames: the frames, in output order.
        columns: the output's columns.
        target: the file, in the temporary folder; notes for the writer lie beside it meanwhile.
        python: the interpreter of the job's environment; ours is asked when it lacks pyarrow.

    Raises:
        Invalid: neither interpreter has pyarrow (`environment_invalid`).
        Unavailable: the disk is full, or a part is damaged.
        OSError: the notes cannot be written, or the interpreter cannot be started.
    """
    order = target.with_name(target.name + ".order")
    numbers = target.with_name(target.name + ".frames")
    schemas = _write_numbers(frames, numbers)
    order.write_text(
        json.dumps(
            {
                "target": str(target),
                "parts": [str(path) for path in frames.paths],
                "columns": columns,
                "schemas": [schema._asdict() for schema in schemas],
                "frames": str(numbers),
            }
        )
    )
    try:
        answer = _run(python, order)
    except OSError as error:
        answer = dict[str, Any](ok=False, problem="no_pyarrow", message=str(error))
    if answer.get("problem") == "no_pyarrow" and python != sys.executable:
        answer = _run(sys.executable, order)
    if not answer["ok"]:
        raise _error(answer, target)
    numbers.unlink()
    order.unlink()
    return ReceiptFile(path=target.name, size=answer["size"], sha256=answer["sha256"])


def _write_numbers(frames: OutputFrames, path: Path) -> list[Schema]:
    """Write where each frame lies, as six numbers; returns the schemas they refer to."""
    schemas: dict[Schema, int] = {}
    numbers = array("q")
    for part, ordinal in frames.places():
        table = frames.tables[part]
        schema = table.schemas[table.schema[ordinal]]
        if schema.encoding not in ("arrow", "jsonl") or not table.length[ordinal]:
            continue
        numbers.extend(
            (
                part,
                table.offset[ordinal],
                table.length[ordinal],
                table.failures_length[ordinal],
                table.crc32[ordinal],
                schemas.setdefault(schema, len(schemas)),
            )
        )
    if sys.byteorder == "big":
        numbers.byteswap()
    with path.open("wb") as file:
        numbers.tofile(file)
    return list(schemas)


def _run(python: str, order: Path) -> dict[str, Any]:
    """Run the writer and return its answer; it ends by itself when this process dies."""
    with subprocess.Popen(
        [python, "-u", str(_SCRIPT), str(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Standard input is the lifeline: it stays open until the answer is there.
        said = process.stdout.read().decode("utf-8", "replace").strip()
        process.stdin.close()
    try:
        return json.loads(said.rpartition("\n")[2])
    except ValueError:
        return {"ok": False, "problem": "died", "message": said[-ERROR_TEXT_CHARS_MAX:]}


def _error(answer: dict[str, Any], target: Path) -> BatchpointError:
    problem, message = answer["problem"], answer["message"]
    if problem == "no_pyarrow":
        return Invalid(
            "an output file in Parquet needs pyarrow: add it to the deployment's environment, or "
            "choose an output_file_name that ends with .csv or .jsonl",
            code="environment_invalid",
        )
    if problem == "full":
        return Unavailable(
            f"there is no room left to write {target}; free some space there and the job goes on "
            "from where it was",
            code="storage_full",
        )
    if problem in ("damaged", "unwritable"):
        return Unavailable(f"{target} cannot be written: {message}", code="storage_unavailable")
    return BatchpointError(f"writing {target} failed: {message}")
