"""Pipelines end in one lawful state, whatever is killed, canceled, filled up or made large."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import psutil
import pytest

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.job import TERMINAL_STATES, JobState
from batchpoint.domain.pipeline import PipelineJob
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from batchpoint.storage.locate import path_of
from tests.integration.pipeline_campaign import run_campaign

DISK_BYTES = 32 << 20
PATIENCE_SECONDS = 120.0


def test_random_graphs_under_kills_and_cancels(tmp_path: Path) -> None:
    first = int.from_bytes(os.urandom(3), "big")
    campaigns = [run_campaign(tmp_path / str(seed), seed) for seed in range(first, first + 3)]
    assert sum(campaign.done["steps"] for campaign in campaigns) >= 15


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_forty_random_graphs_under_kills_and_cancels(tmp_path: Path) -> None:
    first = int.from_bytes(os.urandom(3), "big")
    campaigns = [run_campaign(tmp_path / str(seed), seed) for seed in range(first, first + 40)]
    for kind in ("runner", "supervisor", "agent", "command", "cancel step", "reused"):
        assert any(campaign.done[kind] for campaign in campaigns), f"none of 40: {kind}"


# --- a full disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a small disk of its own, where this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or shutil.which("mount") is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def client_of(home: Path) -> Generator[Client]:
    """Give a client on a home; its supervisor and all below it end with it."""
    link = SupervisorLink(home)
    with Client(app=wiring.embedded_app(Settings(home=home))) as client:
        yield client
        status = link.ask("status")
        family = psutil.Process(status["pid"]).children(recursive=True) if status else []
        link.down()
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def until(look: Callable[[], object]) -> None:
    """Look again and again until there is something to see."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def fill(disk: Path) -> None:
    """Leave no room."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", 0) as ballast:
        while ballast.write(bytes(4096)):
            pass


def chain(folder: Path, count: int, **more: object) -> PipelineJob:
    """Steps that hand a growing text on; the second waits at a gate when it has written."""
    jobs: dict[str, object] = {}
    for number in range(count):
        before = f"s{number - 1}"
        gate = f"touch '{folder}/there'; while [ ! -e '{folder}/go' ]; do sleep 0.02; done"
        read = "${{inputs.text}}" if number else "/dev/null"
        jobs[f"s{number}"] = {
            "component": {
                "type": "command",
                "command": (
                    f"echo s{number} >> '{folder}/runs'; set -e; "
                    f"{{ cat {read}; echo s{number}; }} > ${{{{outputs.made}}}}; "
                    + (gate if number == 1 else "")
                ),
                "inputs": {"text": {"type": "uri_file"}} if number else {},
                "outputs": {"made": {"type": "uri_file"}},
            },
            "inputs": (
                {"text": f"${{{{parent.jobs.{before}.outputs.made}}}}"} if number else {}
            ),
            **more,
        }  # fmt: skip
    return PipelineJob.model_validate({"jobs": jobs})


def check_chain(client: Client, job: JobHandle, folder: Path, count: int) -> None:
    ended = job.wait(check=False, timeout_seconds=PATIENCE_SECONDS)
    assert ended.status.state is JobState.COMPLETED, ended.status.error
    names = [f"s{number}" for number in range(count)]
    last = client.jobs.get(f"{job.name}-{names[-1]}").status.outputs["made"]
    assert path_of(last.uri).read_text().split() == names
    runs = (folder / "runs").read_text().split()
    assert sorted(set(runs)) == sorted(names)
    assert not list(path_of(last.uri).parent.parent.rglob(".*"))


def test_a_pipeline_whose_home_is_full_waits_for_room(small_disk: Path, tmp_path: Path) -> None:
    """Ledger, job folders and outputs are on the full disk: nothing fails that could wait."""
    with client_of(small_disk / "home") as client:
        job = client.jobs.create(chain(tmp_path, 4, retry_settings={"max_retries": 0}))
        until((tmp_path / "there").exists)
        fill(small_disk)
        (tmp_path / "go").touch()
        give_up = time.monotonic() + 3
        while time.monotonic() < give_up:
            state = job.status.state
            assert state not in TERMINAL_STATES, job.status.error
            time.sleep(0.1)
        (small_disk / "ballast").unlink()
        check_chain(client, job, tmp_path, 4)


@pytest.mark.slow
def test_a_runner_killed_on_a_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    home = small_disk / "home"
    link = SupervisorLink(home)
    with client_of(home) as client:
        job = client.jobs.create(chain(tmp_path, 4))
        until((tmp_path / "there").exists)
        fill(small_disk)
        (tmp_path / "go").touch()
        for _ in range(3):
            status = link.ask("status")
            assert status is not None
            for runner in status["jobs"]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(runner["pid"]).kill()
            time.sleep(0.5)
        assert job.status.state not in TERMINAL_STATES, job.status.error
        (small_disk / "ballast").unlink()
        check_chain(client, job, tmp_path, 4)
        assert (tmp_path / "runs").read_text().split().count("s0") == 1


@pytest.mark.parametrize("mode", ["download", "ro_mount"])
def test_inputs_that_find_no_room_are_fetched_when_there_is(
    small_disk: Path, tmp_path: Path, mode: str
) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(os.urandom(8 << 20))
    with client_of(small_disk / "home") as client:
        body = PipelineJob.model_validate(
            {
                "jobs": {
                    "read": {
                        "component": {
                            "type": "command",
                            "command": "cat ${{inputs.data}} > ${{outputs.made}}",
                            "inputs": {"data": {"type": "uri_file", "mode": mode}},
                            "outputs": {"made": {"type": "uri_file"}},
                            "retry_settings": {"max_retries": 0},
                        },
                        "inputs": {"data": {"type": "uri_file", "path": str(data)}},
                    }
                }
            }
        )
        done = client.jobs.create(body)  # there is room for once
        done.wait(timeout_seconds=PATIENCE_SECONDS)
        fill(small_disk)
        os.truncate(small_disk / "ballast", (small_disk / "ballast").stat().st_size - (3 << 20))
        forced = body.model_copy(
            update={"settings": body.settings.model_copy(update={"force_rerun": True})}
        )
        job = client.jobs.create(forced)
        if mode == "ro_mount":  # its own path: it is the command that finds no room
            assert job.wait(check=False, timeout_seconds=30).status.state is JobState.FAILED
            error = client.jobs.get(f"{job.name}-read").status.error
            assert error is not None
            assert "No space left" in error.message
            assert not list((small_disk / "home" / "outputs" / f"{job.name}-read").glob("*"))
            return
        until(
            lambda: (
                job.status.state in TERMINAL_STATES
                or any("room" in warning for warning in job.status.warnings)
            )
        )
        assert job.status.state not in TERMINAL_STATES, job.status.error
        (small_disk / "ballast").unlink()
        job.wait(timeout_seconds=PATIENCE_SECONDS)
        made = client.jobs.get(f"{job.name}-read").status.outputs["made"]
        assert path_of(made.uri).read_bytes() == data.read_bytes()


@pytest.mark.slow
def test_a_runner_that_is_stopped_is_replaced_and_changes_nothing_when_it_wakes_up(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    link = SupervisorLink(home)
    with client_of(home) as client:
        job = client.jobs.create(chain(tmp_path, 4))
        until((tmp_path / "there").exists)
        status = link.ask("status")
        assert status is not None
        [stopped] = [psutil.Process(runner["pid"]) for runner in status["jobs"]]
        stopped.suspend()
        try:
            until(lambda: (tmp_path / "runs").read_text().split().count("s1") == 2)
            (tmp_path / "go").touch()
            check_chain(client, job, tmp_path, 4)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                stopped.resume()
        assert (tmp_path / "runs").read_text().split().count("s0") == 1


# --- large graphs -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_steps(tmp_path: Path) -> None:
    """Ten layers of a hundred: what it costs the runner, and whoever lists the steps."""
    home = tmp_path / "home"
    link = SupervisorLink(home)
    layers, width = 10, 100
    jobs: dict[str, object] = {}
    for layer in range(layers):
        for place in range(width):
            needs = [f"l{layer - 1}_{(place + k) % width}" for k in range(2)] if layer else []
            jobs[f"l{layer}_{place}"] = {
                "component": {
                    "type": "command",
                    "command": "echo $AZUREML_RUN_ID > ${{outputs.made}}",
                    "is_deterministic": False,
                    "inputs": {f"i{k}": {"type": "uri_file"} for k in range(len(needs))},
                    "outputs": {"made": {"type": "uri_file"}},
                },
                "inputs": {
                    f"i{k}": f"${{{{parent.jobs.{need}.outputs.made}}}}"
                    for k, need in enumerate(needs)
                },
            }
    with client_of(home) as client:
        began = time.monotonic()
        job = client.jobs.create(PipelineJob.model_validate({"jobs": jobs}))
        made_seconds = time.monotonic() - began
        peak_bytes, kills, done_at_kill = 0, 0, 0
        while job.status.state not in TERMINAL_STATES:
            assert time.monotonic() - began < 800
            status = link.ask("status") or {"jobs": []}
            for runner in status["jobs"]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(runner["pid"])
                    peak_bytes = max(peak_bytes, process.memory_info().rss)
                    done_at_kill = job.status.progress.steps_done
                    if not kills and done_at_kill > 300:
                        process.kill()
                        kills += 1
            time.sleep(0.2)
        seconds = time.monotonic() - began
        listed = time.monotonic()
        children = list(job.children())
        listing_seconds = time.monotonic() - listed
        assert job.status.state is JobState.COMPLETED, job.status.error
        assert {child.status.state for child in children} == {JobState.COMPLETED}
        assert [child.spec.step.name for child in children if child.spec.step] == list(jobs)
        log = f"made {made_seconds:.1f} s, ran {seconds:.1f} s, listed {listing_seconds:.2f} s, "
        sys.stdout.write(f"{log}runner {peak_bytes >> 20} MiB, {kills} kill\n")
        assert kills == 1
        assert peak_bytes < 400 << 20
        assert listing_seconds < 10
