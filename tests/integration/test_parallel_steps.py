"""Parallel steps on real nodes: rows and side outputs where they belong, whatever is killed."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.job import Job, JobState
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepInput
from batchpoint.storage.locate import uri_of
from tests.integration.conftest import Place
from tests.integration.step_driver import StepWorld

pytestmark = pytest.mark.anyio

HEAD = """
import argparse, json, os, sys, time
from pathlib import Path
"""
PLAIN = (
    HEAD
    + """
def init():
    pass

def run(mini_batch):
    return [Path(path).read_text().strip() + "!" for path in mini_batch]
"""
)


@pytest.fixture
async def world(place: Place, tmp_path: Path) -> StepWorld:
    await asyncio.to_thread(place.link.ensure)
    for _ in range(200):
        if await asyncio.to_thread(place.link.poke):
            break
        await asyncio.sleep(0.05)  # it is starting
    return StepWorld(tmp_path / "home", place.link.socket_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return made(tmp_path / "data", 7)


def made(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"item-{number:04}.txt").write_text(f"text {number}")
    return folder


def rows_of(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="") as file:
        return [(row["_file"], row["prediction"]) for row in csv.DictReader(file)]


def expected(count: int) -> list[tuple[str, str]]:
    return [(f"item-{number:04}.txt", f"text {number}!") for number in range(count)]


def literal(value: Any, kind: Any = "string") -> StepInput:
    return StepInput(type=kind, value=value)


async def test_rows_become_the_file_that_they_are_appended_to(world: StepWorld, data: Path) -> None:
    child = world.make(PLAIN, data)
    ended = await world.run(child)
    assert (ended.outcome, ended.error) == ("completed", None)
    assert rows_of(world.home / "out" / "rows.csv") == expected(7)
    assert sorted(path.name for path in (world.home / "out").iterdir()) == ["rows.csv"]
    published = ended.outputs["rows"]
    assert published.uri == uri_of(world.home / "out" / "rows.csv")
    assert published.hash
    status = ended.status
    assert status is not None
    assert (status.state, status.outputs) == (JobState.COMPLETED, ended.outputs)
    assert (status.progress.items_done, status.progress.mini_batches_done) == (7, 4)
    # The end is the pipeline's to record.
    recorded = world.ledger.get_job(child.name).status
    assert recorded.state not in {JobState.COMPLETED, JobState.FAILED}
    assert (world.folder(child).results / "_receipt.json").exists()


async def test_rows_in_a_folder_have_nothing_of_ours_beside_them(
    world: StepWorld, data: Path
) -> None:
    script = PLAIN.replace(
        "    return",
        "    Path(os.environ['AZUREML_BI_OUTPUT_PATH'], 'x.log').write_text('x')\n    return",
    )
    child = world.make(script, data, outputs={"rows": world.output("uri_folder", "rows")})
    ended = await world.run(child)
    assert ended.outcome == "completed"
    folder = world.home / "out" / "rows"
    assert sorted(path.name for path in folder.iterdir()) == ["predictions.csv", "x.log"]
    assert rows_of(folder / "predictions.csv") == expected(7)


async def test_without_append_row_to_rows_are_only_counted(world: StepWorld, data: Path) -> None:
    child = world.make(PLAIN, data, outputs={}, append_row_to=None, output_action="summary_only")
    ended = await world.run(child)
    assert ended.outcome == "completed"
    assert ended.outputs == {}
    assert ended.progress.items_done == 7
    assert ended.progress.rows_done == 7


HOSTILE = [
    "plain",
    "two words",
    "",
    "--error_threshold",
    "$(touch /tmp/never) `id` ${{inputs.text}} $[[x]]",
    "quote ' and \" and \\ end",
    "line\nbreak\ttab",
    "-1",
    "ünïcödé 🎉",
    "*?[a]~#!&|;<>",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_arguments_arrive_as_they_are(world: StepWorld, data: Path, text: str) -> None:
    script = (
        HEAD
        + """
def init():
    pass

def run(mini_batch):
    return [json.dumps(sys.argv[1:])] * len(mini_batch)
"""
    )
    child = world.make(
        script,
        data,
        inputs={
            "text": literal(text),
            "rate": literal(0.5, "number"),
            "flag": literal(True, "boolean"),
        },
        arguments=(
            "--text ${{inputs.text}} 'a b' --both=${{inputs.text}}/${{inputs.rate}} "
            "$[[--absent ${{inputs.absent}}]] --flag ${{inputs.flag}} "
            "--error_threshold 3 --resource_monitor_interval 600"
        ),
    )
    ended = await world.run(child)
    assert ended.outcome == "completed", ended.error
    rows = rows_of(world.home / "out" / "rows.csv")
    given = {tuple(json.loads(row)) for _, row in rows}
    assert given == {("--text", text, "a b", f"--both={text}/0.5", "--flag", "True")}
    log = world.folder(child).job_log.read_text()
    assert "--resource_monitor_interval 600" in log


async def test_side_inputs_and_outputs_are_paths_of_this_machine(
    world: StepWorld, data: Path, tmp_path: Path
) -> None:
    table = tmp_path / "a table.csv"
    table.write_text("known")
    script = (
        HEAD
        + """
parser = argparse.ArgumentParser()
for name in ("table", "copy", "uri", "files", "one", "folder_uri"):
    parser.add_argument("--" + name)
args = parser.parse_args()

def init():
    assert Path(args.table).read_text() == "known"
    Path(args.copy).write_text("changed here")
    if not Path(args.one).exists():
        Path(args.one).write_text("one")

def run(mini_batch):
    for path in mini_batch:
        name = Path(path).name
        place = Path(args.files) / name[:6] / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(Path(path).read_text().upper())
        (Path(args.files) / ("link-" + name)).symlink_to(place.relative_to(args.files))
    return [args.uri + " " + args.folder_uri] * len(mini_batch)
"""
    )
    file = JobInput(type="uri_file", uri=uri_of(table))
    child = world.make(
        script,
        data,
        inputs={
            "table": StepInput(type="uri_file", data=file),
            "copy": StepInput(type="uri_file", data=file, mode="download"),
            "uri": StepInput(type="uri_file", data=file, mode="direct"),
        },
        outputs={
            "rows": world.output("uri_folder", "rows"),
            "files": world.output("uri_folder", "files"),
            "one": world.output("uri_file", "one.txt"),
            "there": world.output("uri_folder", "there", mode="direct"),
        },
        arguments=(
            "--table ${{inputs.table}} --copy ${{inputs.copy}} --uri ${{inputs.uri}} "
            "--files ${{outputs.files}} --one ${{outputs.one}} --folder_uri ${{outputs.there}}"
        ),
    )
    ended = await world.run(child)
    assert ended.outcome == "completed", ended.error
    out = world.home / "out"
    assert table.read_text() == "known"
    assert (out / "one.txt").read_text() == "one"
    for number in range(7):
        name = f"item-{number:04}.txt"
        assert (out / "files" / name[:6] / name).read_text() == f"TEXT {number}"
        link = out / "files" / f"link-{name}"
        assert link.is_symlink()
        assert link.read_text() == f"TEXT {number}"
    assert not (out / "there").exists()
    uris = f"{uri_of(table)} {uri_of(out / 'there')}"
    assert {row for _, row in rows_of(out / "rows" / "predictions.csv")} == {uris}
    assert set(ended.outputs) == {"rows", "files", "one", "there"}


async def test_an_output_that_nobody_wrote_fails_the_step_and_publishes_nothing(
    world: StepWorld, data: Path
) -> None:
    child = world.make(
        PLAIN,
        data,
        outputs={
            "rows": world.output("uri_file", "rows.csv"),
            "one": world.output("uri_file", "one.txt"),
        },
        arguments="${{outputs.one}}",
    )
    ended = await world.run(child)
    assert ended.outcome == "failed"
    assert ended.error is not None
    assert ended.error.code == "output_missing"
    assert not (world.home / "out").exists()


async def test_an_output_that_is_there_is_refused_before_anything_is_scored(
    world: StepWorld, data: Path
) -> None:
    (world.home / "out").mkdir()
    (world.home / "out" / "rows.csv").write_text("somebody's")
    child = world.make(PLAIN, data)
    ended = await world.run(child)
    assert ended.outcome == "failed"
    assert ended.error is not None
    assert ended.error.code == "output_exists"
    assert ended.progress.items_done == 0
    assert (world.home / "out" / "rows.csv").read_text() == "somebody's"


FAILING = PLAIN.replace(
    "    return",
    "    if any('0003' in path for path in mini_batch): raise ValueError('no 3')\n    return",
)


async def test_failed_items_are_left_out_and_stay_visible(world: StepWorld, data: Path) -> None:
    child = world.make(FAILING, data, max_retries=1)
    ended = await world.run(child)
    assert ended.outcome == "completed"
    assert rows_of(world.home / "out" / "rows.csv") == [
        row for row in expected(7) if "0003" not in row[0]
    ]
    assert ended.progress.items_failed == 1
    (line,) = (world.folder(child).results / "_failed_items.jsonl").read_text().splitlines()
    assert json.loads(line)["message"] == "no 3"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"error_threshold": 0}, "error_threshold_exceeded"),
        ({"mini_batch_error_threshold": 0}, "mini_batch_threshold_exceeded"),
        ({"allowed_failed_percent": 24}, "mini_batch_threshold_exceeded"),
        ({"error_threshold": 1, "mini_batch_error_threshold": 1}, None),
        ({"allowed_failed_percent": 25}, None),
    ],
)
async def test_thresholds(
    world: StepWorld, data: Path, settings: dict[str, Any], code: str | None
) -> None:
    ended = await world.run(world.make(FAILING, data, **settings))
    assert (ended.error.code if ended.error else None) == code
    assert ended.outcome == ("failed" if code else "completed")
    assert (world.home / "out" / "rows.csv").exists() == (code is None)


async def test_a_run_that_hangs_is_stopped_at_its_timeout(world: StepWorld, data: Path) -> None:
    script = PLAIN.replace(
        "    return",
        "    while any('0003' in path for path in mini_batch): time.sleep(0.05)\n    return",
    )
    child = world.make(script, data, timeout_seconds=1, mini_batch_size=1)
    ended = await world.run(child)
    assert ended.outcome == "completed"
    assert len(rows_of(world.home / "out" / "rows.csv")) == 6
    (line,) = (world.folder(child).results / "_failed_items.jsonl").read_text().splitlines()
    assert "item-0003.txt" in line


async def test_mini_batches_have_so_many_bytes(world: StepWorld, tmp_path: Path) -> None:
    data = tmp_path / "sized"
    data.mkdir()
    for name, size in (("a", 40), ("b", 50), ("c", 20), ("d", 500), ("e", 1)):
        (data / name).write_text("x" * size)
    script = PLAIN.replace(
        "return", "return [','.join(Path(p).name for p in mini_batch)] * len(mini_batch) #"
    )
    child = world.make(script, data, mini_batch_bytes=100)
    assert (await world.run(child)).outcome == "completed"
    rows = rows_of(world.home / "out" / "rows.csv")
    assert rows == [("a", "a,b"), ("b", "a,b"), ("c", "c"), ("d", "d"), ("e", "e")]


async def test_a_step_that_is_canceled_stops_and_publishes_nothing(
    world: StepWorld, data: Path
) -> None:
    script = PLAIN.replace("    return", "    time.sleep(600)\n    return")
    child = world.make(script, data)
    running = asyncio.create_task(world.run(child))
    async with asyncio.timeout(60):
        while world.ledger.get_job(child.name).status.state != JobState.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the ledger tells nobody
        world.ledger.request_cancel(child.name)
        ended = await running
    assert ended.outcome == "stopped"
    assert ended.status is not None
    assert ended.status.state == JobState.CANCELED
    assert not any((world.home / "out").glob("*"))


async def test_a_child_that_somebody_else_takes_is_lost(world: StepWorld, data: Path) -> None:
    script = PLAIN.replace("    return", "    time.sleep(600)\n    return")
    child = world.make(script, data)
    running = asyncio.create_task(world.run(child))
    async with asyncio.timeout(60):
        while world.ledger.get_job(child.name).status.state != JobState.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the ledger tells nobody
        world.ledger.acquire_lease(child.name, "other", world.clock.seconds(), 15, force=True)
        ended = await running
    assert (ended.outcome, ended.status, ended.outputs) == ("lost", None, {})


SLOW = (
    HEAD
    + """
files = Path(sys.argv[1])

def init():
    pass

def run(mini_batch):
    time.sleep(0.02)
    for path in mini_batch:
        (files / Path(path).name).write_text("side")
    return [Path(path).read_text().strip() + "!" for path in mini_batch]
"""
)


@pytest.mark.parametrize("kills", [1, 3])
async def test_a_runner_that_is_killed_is_gone_on_from(
    world: StepWorld, tmp_path: Path, kills: int
) -> None:
    data = made(tmp_path / "many", 150 * kills)
    child = world.make(
        SLOW,
        data,
        outputs={
            "rows": world.output("uri_file", "rows.csv"),
            "files": world.output("uri_folder", "files"),
        },
        arguments="${{outputs.files}}",
        mini_batch_size=1,
    )
    done = 0
    for _ in range(kills):
        done = await asyncio.to_thread(_kill_when_further_than, world, child, done)
    ended = await world.run(world.ledger.get_job(child.name))
    assert ended.outcome == "completed", ended.error
    assert ended.status is not None
    assert ended.status.attempts == kills + 1
    assert rows_of(world.home / "out" / "rows.csv") == expected(150 * kills)
    sides = sorted(path.name for path in (world.home / "out" / "files").iterdir())
    assert sides == sorted(path.name for path in data.iterdir())


def _kill_when_further_than(world: StepWorld, child: Job, done: int) -> int:
    command = [
        *(sys.executable, "-m", "tests.integration.step_driver"),
        *(str(world.home), str(world.socket), child.name),
    ]
    now = done
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            now = world.ledger.get_job(child.name).status.progress.mini_batches_done
            if now > done:
                break
            time.sleep(0.02)
        assert process.poll() is None, "it has ended before it could be killed"
        process.kill()
        return now


async def test_a_published_step_is_not_scored_again(world: StepWorld, data: Path) -> None:
    """The runner died after it had published and before the pipeline had recorded that."""
    child = world.make(PLAIN, data)
    first = await world.run(child)
    before = (world.home / "out" / "rows.csv").stat().st_ino
    again = await world.run(world.ledger.get_job(child.name))
    assert again.outcome == "completed"
    assert again.outputs == first.outputs
    assert (world.home / "out" / "rows.csv").stat().st_ino == before
    assert again.status is not None
    assert again.status.attempts == 2


async def test_one_that_has_ended_is_not_run_again(world: StepWorld, data: Path) -> None:
    child = world.make(PLAIN, data)
    ended = await world.run(child)
    assert ended.status is not None
    epoch = world.ledger.acquire_lease(child.name, "t", world.clock.seconds(), 15, force=True)
    assert epoch is not None
    world.ledger.finish(child.name, epoch, ended.status)
    again = await world.run(world.ledger.get_job(child.name))
    assert again == ended


async def test_variables_tell_scripts_where_they_run_and_the_users_own_win(
    world: StepWorld, data: Path
) -> None:
    script = PLAIN.replace(
        "return", "return [os.environ['MLFLOW_RUN_CONTEXT'] + os.environ['A']] * len(mini_batch) #"
    )
    child = world.make(script, data, environment_variables={"A": "mine"})
    ended = await world.run(child, variables={"MLFLOW_RUN_CONTEXT": "told", "A": "theirs"})
    assert ended.outcome == "completed"
    assert {row for _, row in rows_of(world.home / "out" / "rows.csv")} == {"toldmine"}
