"""Graphs of real commands: order, causes, cancels, kills at any time, and what is taken over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.component import CommandComponent, Step, StepData, StepOutputBinding
from batchpoint.domain.job import JobState
from batchpoint.domain.pipeline import PipelineJob, PipelineSettings
from batchpoint.formats.layout import job_folder
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from batchpoint.storage.locate import path_of


def until(look: Callable[[], object]) -> object:
    """Look again and again until there is something to see."""
    give_up = time.monotonic() + 30
    while not (seen := look()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return seen


@dataclass
class Home:
    """A home whose commands tell in one file that they ran, and wait for files to appear."""

    path: Path
    client: Client
    link: SupervisorLink

    @property
    def told(self) -> Path:
        return self.path.parent / "runs.txt"

    @property
    def runs(self) -> Counter[str]:
        """How often each step was run."""
        return Counter(self.told.read_text().split() if self.told.exists() else [])

    def gate(self, name: str) -> str:
        """A command that waits until the gate is opened."""
        return f"while [ ! -e '{self.path.parent / name}' ]; do sleep 0.02; done"

    def open(self, name: str) -> None:
        (self.path.parent / name).touch()

    def step(
        self, name: str, needs: Sequence[str] = (), then: str = "true", **component: object
    ) -> Step:
        """A step that writes its name behind what the steps before it have written."""
        reading = " ".join(f"${{{{inputs.{need}}}}}/text" for need in needs)
        command = (
            f"echo {name} >> '{self.told}' && cat {reading or '/dev/null'} > "
            f"${{{{outputs.made}}}}/text && echo {name} >> ${{{{outputs.made}}}}/text && "
            f"{{ {then}; }}"
        )
        given = {
            "command": command,
            "inputs": {need: {"type": "uri_folder"} for need in needs},
            "outputs": {"made": {"type": "uri_folder"}},
            **component,
        }
        return Step(
            component=CommandComponent.model_validate(given),
            inputs={need: f"${{{{parent.jobs.{need}.outputs.made}}}}" for need in needs},
        )

    def start(self, jobs: dict[str, Step], **settings: object) -> JobHandle:
        body = PipelineJob(jobs=jobs, settings=PipelineSettings.model_validate(settings))
        return self.client.jobs.create(body)

    def done(self, job: JobHandle) -> JobHandle:
        """Wait for a job's end, whatever it is."""
        job.wait(check=False, timeout_seconds=60)
        return job

    def states(self, job: JobHandle) -> dict[str, str]:
        return {
            child.spec.step.name: child.status.state.value
            for child in job.children()
            if child.spec.step
        }

    def diamond(self, b: str = "true", c: str = "true") -> dict[str, Step]:
        return {
            "a": self.step("a"),
            "b": self.step("b", ["a"], b),
            "c": self.step("c", ["a"], c),
            "d": self.step("d", ["b", "c"]),
        }

    def text(self, job: JobHandle, step: str) -> str:
        """What a step has written."""
        made = self.client.jobs.get(f"{job.name}-{step}").status.outputs["made"]
        return (path_of(made.uri) / "text").read_text()

    def runner_pid(self, job: JobHandle) -> int:
        def look() -> int | None:
            told = self.link.ask("status") or {"jobs": []}
            return next((each["pid"] for each in told["jobs"] if each["job"] == job.name), None)

        pid = until(look)
        assert isinstance(pid, int)
        return pid


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("BATCHPOINT_SUPERVISOR_IDLE_SECONDS", "0.2")
    path = tmp_path / "home"
    link = SupervisorLink(path)
    with Client(app=wiring.embedded_app(Settings(home=path))) as client:
        yield Home(path, client, link)
    status = link.ask("status")
    family = psutil.Process(status["pid"]).children(recursive=True) if status else []
    link.down()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_a_graph_runs_in_its_order_and_hands_data_on(home: Home) -> None:
    jobs = home.diamond()
    made = StepOutputBinding(path="${{parent.outputs.all}}")
    jobs["d"] = jobs["d"].model_copy(update={"outputs": {"made": made}})
    body = PipelineJob.model_validate(
        {"jobs": jobs, "outputs": {"all": {"type": "uri_folder"}}, "tags": {"team": "red"}}
    )
    job = home.done(home.client.jobs.create(body))
    assert job.status.state is JobState.COMPLETED, job.status.error
    text = (path_of(job.status.outputs["all"].uri) / "text").read_text()
    assert text.split() == ["a", "b", "a", "c", "d"]
    assert home.runs == {"a": 1, "b": 1, "c": 1, "d": 1}
    done = job.status.progress
    assert (done.steps_total, done.steps_done, done.phase) == (4, 4, "done")
    log = job_folder(home.path, job.name).job_log.read_text()
    assert "step d: Completed" in log


def test_a_failed_command_fails_the_pipeline_and_others_go_on(home: Home) -> None:
    job = home.done(home.start(home.diamond(b="echo out of luck >&2; exit 7")))
    assert job.status.state is JobState.FAILED
    assert home.states(job) == {
        "a": "Completed", "b": "Failed", "c": "Completed", "d": "Canceled",
    }  # fmt: skip
    error = job.status.error
    assert error is not None
    assert error.code == "step_failed"
    assert error.message.startswith("step 'b': ")
    assert "7" in error.message
    failed = home.client.jobs.get(f"{job.name}-b").status
    assert failed.exit_code == 7
    printed = job_folder(home.path, f"{job.name}-b").logs / "user" / "std_log.txt"
    assert "out of luck" in printed.read_text()
    assert home.runs == {"a": 1, "b": 1, "c": 1}
    assert not job_folder(home.path, f"{job.name}-c").work.exists()


def test_attempts_run_until_one_succeeds(home: Home) -> None:
    second = home.path.parent / "second"
    step = home.step(
        "a", then=f"test -e '{second}' || {{ touch '{second}'; exit 1; }}",
        retry_settings={"max_retries": 2},
    )  # fmt: skip
    job = home.done(home.start({"a": step}))
    assert job.status.state is JobState.COMPLETED
    assert home.runs == {"a": 2}
    assert home.client.jobs.get(f"{job.name}-a").status.attempts == 2


def test_canceling_a_pipeline_ends_its_commands_soon(home: Home) -> None:
    job = home.start(home.diamond(b=home.gate("never"), c=home.gate("never")))
    until(lambda: home.runs["b"] and home.runs["c"])
    asked = time.monotonic()
    job.cancel()
    home.done(job)
    assert time.monotonic() - asked < 5
    assert job.status.state is JobState.CANCELED
    assert home.states(job) == {
        "a": "Completed", "b": "Canceled", "c": "Canceled", "d": "Canceled",
    }  # fmt: skip
    gate = str(home.path.parent / "never")
    assert not [p for p in psutil.process_iter(["cmdline"]) if gate in str(p.info["cmdline"])]


def test_canceling_one_step_lets_the_others_go_on(home: Home) -> None:
    job = home.start(home.diamond(b=home.gate("never")))
    until(lambda: home.runs["b"])
    home.client.jobs.cancel(f"{job.name}-b")
    home.done(job)
    assert job.status.state is JobState.FAILED
    assert home.states(job) == {
        "a": "Completed", "b": "Canceled", "c": "Completed", "d": "Canceled",
    }  # fmt: skip


def test_a_killed_runner_is_replaced_and_nothing_that_was_done_runs_again(home: Home) -> None:
    job = home.start(home.diamond(b=home.gate("go")))
    until(
        lambda: (
            home.states(job) == {"a": "Completed", "b": "Running", "c": "Completed", "d": "Queued"}
        )
    )
    until(lambda: home.runs["b"])
    psutil.Process(home.runner_pid(job)).kill()
    until(lambda: home.runs["b"] == 2)
    home.open("go")
    home.done(job)
    assert job.status.state is JobState.COMPLETED, job.status.error
    assert home.runs == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert home.text(job, "d").split() == ["a", "b", "a", "c", "d"]
    assert job.status.attempts == 2


def test_a_killed_supervisor_is_replaced_and_nothing_that_was_done_runs_again(
    home: Home,
) -> None:
    job = home.start(home.diamond(c=home.gate("go")))
    until(lambda: home.states(job)["b"] == "Completed" and home.runs["c"])
    status = home.link.ask("status")
    assert status is not None
    psutil.Process(status["pid"]).kill()
    until(lambda: home.link.ask("status") is None)
    home.link.ensure()
    until(lambda: home.runs["c"] == 2)
    home.open("go")
    home.done(job)
    assert job.status.state is JobState.COMPLETED, job.status.error
    assert home.runs == {"a": 1, "b": 1, "c": 2, "d": 1}


def test_a_runner_killed_again_and_again_loses_nothing(home: Home) -> None:
    """A chain of quick steps: wherever the kill falls, what is recorded stays."""
    names = [f"s{number}" for number in range(12)]
    jobs = {
        name: home.step(name, names[index - 1 : index] if index else [], "sleep 0.05")
        for index, name in enumerate(names)
    }
    job = home.start(jobs)
    kills = 0
    for share in (2, 5, 9):
        until(lambda share=share: job.status.progress.steps_done >= share)
        psutil.Process(home.runner_pid(job)).kill()
        kills += 1
    home.done(job)
    assert job.status.state is JobState.COMPLETED, job.status.error
    assert home.text(job, "s11").split() == names
    assert set(home.runs) == set(names)
    assert sum(home.runs.values()) <= len(names) + kills
    assert job.status.attempts == kills + 1


def test_the_same_graph_again_takes_everything_over(home: Home) -> None:
    first = home.done(home.start(home.diamond()))
    again = home.done(home.start(home.diamond()))
    assert again.status.state is JobState.COMPLETED
    assert home.runs == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert again.status.progress.steps_reused == 4
    taken = home.client.jobs.get(f"{again.name}-d").status
    assert taken.reused_from == f"{first.name}-d"
    assert home.text(again, "d") == home.text(first, "d")
    changed = home.diamond()
    changed["c"] = home.step("c", ["a"], "true; true")
    home.done(home.start(changed))
    assert home.runs == {"a": 1, "b": 1, "c": 2, "d": 1}  # it writes the same as before
    forced = home.done(home.start(home.diamond(), force_rerun=True))
    assert forced.status.progress.steps_reused == 0
    assert home.runs == {"a": 2, "b": 2, "c": 3, "d": 2}


def test_the_first_failure_can_end_everything(home: Home) -> None:
    jobs = home.diamond(b="exit 1", c=home.gate("never"))
    job = home.done(home.start(jobs, continue_on_step_failure=False))
    assert job.status.state is JobState.FAILED
    states = home.states(job)
    assert (states["b"], states["c"], states["d"]) == ("Failed", "Canceled", "Canceled")


def test_an_output_becomes_an_asset_that_the_next_job_reads(home: Home) -> None:
    step = home.step("a").model_copy(update={"outputs": {"made": StepOutputBinding(name="mine")}})
    job = home.done(home.start({"a": step}))
    assert job.status.state is JobState.COMPLETED, job.status.error
    made = home.client.jobs.get(f"{job.name}-a").status.outputs["made"]
    assert made.asset == "azureml:mine:1"
    data = StepData(type="uri_folder", path="azureml:mine:1")
    reader = home.step("b", ["before"]).model_copy(update={"inputs": {"before": data}})
    second = home.done(home.start({"b": reader}))
    assert second.status.state is JobState.COMPLETED, second.status.error
    assert home.text(second, "b").split() == ["a", "b"]


def test_outputs_taken_over_are_copied_to_where_the_caller_wants_them(home: Home) -> None:
    jobs = {"a": home.step("a")}
    bound = StepOutputBinding(path="${{parent.outputs.all}}")
    jobs["a"] = jobs["a"].model_copy(update={"outputs": {"made": bound}})
    for name in ("one", "two"):
        body = PipelineJob.model_validate(
            {
                "jobs": jobs,
                "outputs": {"all": {"type": "uri_folder", "uri": str(home.path.parent / name)}},
            }
        )
        job = home.done(home.client.jobs.create(body))
        assert job.status.state is JobState.COMPLETED, job.status.error
        assert path_of(job.status.outputs["all"].uri) == home.path.parent / name
    assert home.runs == {"a": 1}
    assert (home.path.parent / "two" / "text").read_text() == "a\n"
    assert job.status.progress.steps_reused == 1


def test_a_wide_graph_keeps_to_the_nodes_of_its_compute(home: Home) -> None:
    """More steps than nodes: all run, each once, and the pipeline counts as one job."""
    jobs = {f"s{number}": home.step(f"s{number}") for number in range(30)}
    jobs["last"] = home.step("last", [f"s{number}" for number in range(30)])
    job = home.done(home.start(jobs))
    assert job.status.state is JobState.COMPLETED, job.status.error
    assert home.runs == dict.fromkeys(jobs, 1)
    assert [each.name for each in home.client.jobs.list()] == [job.name]
