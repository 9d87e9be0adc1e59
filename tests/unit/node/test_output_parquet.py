"""The Parquet file: one schema for all frames, row groups of reasonable size, clear errors."""

import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchpoint.domain.errors import Invalid, Unavailable
from batchpoint.node import output_parquet
from batchpoint.node.output_assembly import assemble
from tests.unit.node.output_jobs import OutputJob

TYPES = {
    "int": pa.types.is_integer,
    "float": pa.types.is_floating,
    "bool": pa.types.is_boolean,
    "null": pa.types.is_null,
}


def columns_of(table: pa.Table) -> tuple[tuple[str, str], ...]:
    def kind(each: pa.DataType) -> str:
        return next((name for name, test in TYPES.items() if test(each)), "string")

    return tuple((field.name, kind(field.type)) for field in table.schema)


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def job_of(home: Path, *tables: pa.Table) -> OutputJob:
    job = OutputJob(home, output_file_name="out.parquet")
    for table in tables:
        job.add(
            stream(table), columns=columns_of(table), encoding="arrow", rows_count=table.num_rows
        )
    return job


def written(job: OutputJob) -> pa.Table:
    assemble(job.seal(backwards=True))
    assert sorted(path.name for path in job.output.iterdir()) == [
        "_failed_items.jsonl",
        "_receipt.json",
        "out.parquet",
    ]
    return pq.read_table(job.output / "out.parquet")


def test_rows_come_in_input_order_with_their_types(tmp_path):
    when = [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None]
    tables = [
        pa.table(
            {
                "_file": ["a", "b"],
                "n": pa.array([number, None], pa.int32()),
                "x": pa.array([0.1, 2.0], pa.float32()),
                "when": pa.array(when, pa.timestamp("us", "UTC")),
                "nested": [[1, 2], None],
            }
        )
        for number in range(5)
    ]
    table = written(job_of(tmp_path, *tables))
    assert table.schema.equals(tables[0].schema)
    assert table.equals(pa.concat_tables(tables))


def test_frames_with_other_columns_are_united(tmp_path):
    one = pa.table({"a": [1, None], "b": [True, False], "d": pa.nulls(2), "e": [1, 2]})
    other = pa.table({"b": [1, 2], "a": [0.5, 1.5], "c": ["x", None], "e": [[1], None]})
    table = written(job_of(tmp_path, one, other))
    assert table.to_pydict() == {
        "a": [1.0, None, 0.5, 1.5],
        "b": ["true", "false", "1", "2"],
        "d": [None] * 4,
        "e": ["1", "2", "[1]", None],
        "c": [None, None, "x", None],
    }
    assert table.schema.field("a").type == pa.float64()


def test_widened_text_is_what_csv_would_show(tmp_path):
    single = pa.table({"v": pa.array([0.1, 1e16, None, float("inf")], pa.float32())})
    double = pa.table({"v": pa.array([0.1, 1e16], pa.float64())})
    day = pa.table({"v": [dt.date(2026, 1, 2)]})
    text = pa.table({"v": pa.array(["z", "z"]).dictionary_encode()})
    raw = pa.table({"v": [b"\xff"]})
    table = written(job_of(tmp_path, single, double, day, text, raw))
    assert table["v"].to_pylist() == [
        "0.1", "1e+16", None, "inf", "0.1", "1e+16", "2026-01-02", "z", "z", "\\xff",
    ]  # fmt: skip


def test_kinds_of_text_and_integers_are_united_without_loss(tmp_path):
    tables = [
        pa.table({"s": pa.array(["a"], pa.large_string()), "n": pa.array([1], pa.uint8())}),
        pa.table({"s": pa.array(["b"]).dictionary_encode(), "n": pa.array([-1], pa.int16())}),
        pa.table({"s": pa.array(["c"], pa.string()), "n": pa.array([2**40], pa.int64())}),
    ]
    table = written(job_of(tmp_path, *tables))
    assert table.to_pydict() == {"s": ["a", "b", "c"], "n": [1, -1, 2**40]}


def test_row_groups_are_of_reasonable_size(tmp_path):
    tables = [pa.table({"n": range(begin, begin + 1000)}) for begin in range(0, 400_000, 1000)]
    job = job_of(tmp_path, *tables)
    job._frames_per_part = 100
    table = written(job)
    assert table["n"].to_pylist() == list(range(400_000))
    facts = pq.read_metadata(job.output / "out.parquet")
    groups = [facts.row_group(n).num_rows for n in range(facts.num_row_groups)]
    assert groups == [263_000, 137_000]  # filled by whole frames up to 256 Ki rows or just above


def test_frames_without_rows_and_verdicts_count_too(tmp_path):
    job = job_of(tmp_path, pa.table({"n": pa.array([], pa.int64())}), pa.table({"n": [1]}))
    job.add(failures=[job.fail(2)], columns=(), encoding="none")
    assert written(job).to_pydict() == {"n": [1]}


def test_an_output_without_any_rows_is_a_valid_file(tmp_path):
    table = written(job_of(tmp_path, pa.table({"n": pa.array([], pa.int64())})))
    assert table.num_rows == 0
    assert table.column_names == ["n"]


def test_rows_of_a_worker_without_pyarrow_are_written_too(tmp_path):
    job = job_of(tmp_path, pa.table({"n": [1.5]}))
    job.add(
        b'{"n":1,"j":{"k":[1]},"s":"x","b":true}\n{"n":null,"j":null,"s":null,"b":null}\n',
        columns=(("n", "int"), ("j", "json"), ("s", "string"), ("b", "bool")),
        encoding="jsonl",
    )
    assert written(job).to_pydict() == {
        "n": [1.5, 1.0, None],
        "j": [None, '{"k":[1]}', None],
        "s": [None, "x", None],
        "b": [None, True, None],
    }


def test_the_same_frames_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        written(job_of(tmp_path / name, *[pa.table({"n": [n, n]}) for n in range(10)]))
    files = [path.read_bytes() for path in sorted(tmp_path.rglob("out.parquet"))]
    assert len(files) == 2
    assert files[0] == files[1]


def test_the_receipt_has_the_hash_of_the_file(tmp_path):
    job = job_of(tmp_path, pa.table({"n": [1]}))
    (file,) = [each for each in assemble(job.seal()).files if each.path == "out.parquet"]
    data = (job.output / "out.parquet").read_bytes()
    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def with_python(request, python: str):
    environment = request.spec.environment.model_copy(update={"python": python})
    return replace(request, spec=request.spec.model_copy(update={"environment": environment}))


def bare_python(folder: Path) -> str:
    """An interpreter that finds no installed packages."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_our_interpreter_helps_out_where_the_users_lacks_pyarrow(tmp_path):
    job = job_of(tmp_path, pa.table({"n": [1]}))
    assemble(with_python(job.seal(), bare_python(tmp_path)))
    assert pq.read_table(job.output / "out.parquet").to_pydict() == {"n": [1]}


def test_an_environment_without_pyarrow_is_told_what_to_add(tmp_path, monkeypatch):
    job = job_of(tmp_path, pa.table({"n": [1]}))
    bare = bare_python(tmp_path)
    monkeypatch.setattr(output_parquet.sys, "executable", bare)
    with pytest.raises(Invalid, match="needs pyarrow") as caught:
        assemble(with_python(job.seal(), bare))
    assert caught.value.code == "environment_invalid"
    assert not job.output.exists()
    assert list(job.output.parent.iterdir()) == []


def test_a_damaged_frame_is_not_written(tmp_path):
    job = job_of(tmp_path, pa.table({"n": [1]}))
    request = job.seal()
    (part,) = job.folder.parts.iterdir()
    data = bytearray(part.read_bytes())
    place = data.index((1).to_bytes(8, "little"), 200)
    data[place] ^= 1
    part.write_bytes(data)
    with pytest.raises(Unavailable, match="checksum") as caught:
        assemble(request)
    assert caught.value.code == "storage_unavailable"
    assert list(job.output.parent.iterdir()) == []


FULL = """
import json, resource, sys
sys.path[:0] = {path!r}
from batchpoint.domain.errors import Unavailable
from batchpoint.node.output_assembly import assemble
from batchpoint.node.output_request import AssembleRequest
request = AssembleRequest.from_json(json.loads(sys.stdin.read()))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    assemble(request)
except Unavailable as error:
    print(json.dumps([error.code, str(error)]))
"""


def test_a_full_disk_is_said_in_one_sentence(tmp_path):
    numbers = [hash((n, "x")) for n in range(100_000)]
    job = job_of(tmp_path, pa.table({"n": numbers}))
    request = job.seal()
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(path=sys.path)],
        input=json.dumps(request.to_json()).encode(),
        capture_output=True,
        check=True,
    )
    code, message = json.loads(done.stdout)
    assert code == "storage_full"
    assert "out.parquet" in message
    assert list(job.output.parent.iterdir()) == []


def test_the_writer_ends_with_its_agent(tmp_path):
    script = Path(output_parquet.batchpoint_worker.__file__).with_name("parquet_assembly.py")
    order = tmp_path / "order.json"
    fifo = tmp_path / "frames"
    os.mkfifo(fifo)  # opening it blocks the writer for ever
    order.write_text(
        json.dumps({"target": "", "parts": [], "columns": [], "schemas": [], "frames": str(fifo)})
    )
    process = subprocess.Popen([sys.executable, str(script), str(order)], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 1
