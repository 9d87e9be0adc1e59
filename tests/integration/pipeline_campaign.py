"""A campaign against pipelines: random graphs, and random kills and cancels while they run.

Each seed has a home of its own, in which one to three jobs run; commands note in a journal what
they do, and triggers in the ledger what is recorded when. What must hold then is checked in full.
`python -m tests.integration.pipeline_campaign --seeds 40` prints counts as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.compute import Compute
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState
from batchpoint.domain.pipeline import PipelineJob
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from batchpoint.storage.locate import path_of
from tests.integration.random_graphs import COMPUTES, SCRIPT, Graph

PATIENCE_SECONDS = 240.0
# A row is written a moment before it can be read; clocks are read in milliseconds.
_SLACK_SECONDS = 0.002
_INFRASTRUCTURE = ("runner", "supervisor", "agent")
_AUDIT = """
CREATE TABLE audit (at REAL, name TEXT, was INTEGER, state TEXT, status TEXT);
CREATE TRIGGER audit_ends AFTER UPDATE ON jobs WHEN new.terminal = 1 OR old.terminal = 1 BEGIN
    INSERT INTO audit VALUES (
        (julianday('now') - 2440587.5) * 86400, new.name, old.terminal, new.state, new.status
    );
END;
"""


class Line(NamedTuple):
    """A line of the journal: what a command did, and when (seconds since 1970)."""

    pid: int
    what: str
    at: float


@dataclass
class Run:
    """One pipeline that was started, and what people wished of it."""

    graph: Graph
    job: JobHandle
    results: Path
    canceled: bool = False
    canceled_steps: set[str] = field(default_factory=set[str])


@dataclass
class Campaign:
    """One home, its pipelines, and what was done to them."""

    folder: Path
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    killed_commands: Counter[str] = field(default_factory=Counter[str])
    runs: list[Run] = field(default_factory=list[Run])

    def run(self) -> None:
        """Run some pipelines through a storm, and check everything; raises AssertionError."""
        world = self.world = self.folder / self.chance.choice(["world", "a world of 'läng' 世界"])
        for name in ("locks", "marks", "code"):
            (world / name).mkdir(parents=True)
        (world / "code" / "score.py").write_text(SCRIPT.format(journal=str(world / "journal")))
        self.home = world / "home"
        self.link = SupervisorLink(self.home)
        try:
            with Client(app=wiring.embedded_app(Settings(home=self.home))) as client:
                self.client = client
                self._pipelines()
                self._watch_ledger()
                self._storm()
                self._calm()
                for run in self.runs:
                    self._check(run)
                self._check_leftovers()
        finally:
            self._end()

    def _pipelines(self) -> None:
        for name, count in COMPUTES.items():
            seconds = self.chance.choice([0, 1, 60])
            compute = Compute(name=name, max_instances=count, idle_time_before_scale_down=seconds)
            self.client.computes.create_or_update(compute)
        self.graphs = [
            Graph.random(self.chance, self.chance.randint(5, 40))
            for _ in range(self.chance.choice([1, 1, 2]))
        ]

    def _start(self, graph: Graph) -> None:
        results = self.world / "results" / str(len(self.runs))
        body = PipelineJob.model_validate(graph.body(self.world, results))
        self.runs.append(Run(graph, self.client.jobs.create(body), results))

    def _watch_ledger(self) -> None:
        with contextlib.closing(self._database()) as database:
            database.executescript(_AUDIT)

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.home / "batchpoint.db", timeout=30)

    # --- the storm ----------------------------------------------------------------------------

    def _storm(self) -> None:
        """Start the pipelines, some a second time, and do harm as long as they run."""
        waiting = list(self.graphs)
        if self.chance.random() < 0.5:
            waiting.append(waiting[0])  # what it computes may be taken over
        self._start(waiting.pop(0))
        harm = self.chance.choice([0, 5, 15, 40])
        pause_seconds = self.chance.choice([0.03, 0.1, 0.25])
        actions: Mapping[Callable[[], None], float] = {
            lambda: self._kill("runner"): 6,
            lambda: self._kill("supervisor"): 2,
            lambda: self._kill("agent"): 4,
            lambda: self._kill("guard"): 1,
            self._kill_command: 4,
            self._cancel_step: 1,
            self._cancel: 0.4,
            self._kill_and_cancel: 0.6,
        }
        give_up = time.monotonic() + PATIENCE_SECONDS
        while waiting or self._open():
            assert time.monotonic() < give_up, f"does not end: {self._standing()}"
            if waiting and (not self._open() or self.chance.random() < 0.1):
                self._start(waiting.pop(0))
            time.sleep(self.chance.uniform(0, 2 * pause_seconds))
            if harm:
                harm -= 1
                self.chance.choices(list(actions), list(actions.values()))[0]()
            self.link.ensure()

    def _open(self) -> list[Run]:
        return [run for run in self.runs if run.job.status.state not in TERMINAL_STATES]

    def _standing(self) -> str:
        told = [
            f"{run.job.name} {run.job.status.state}: "
            f"{Counter(child.status.state.value for child in run.job.children())}"
            for run in self.runs
        ]
        return "; ".join(told)

    def _kill(self, kind: str) -> None:
        status = self.link.ask("status")
        if status is None:
            return
        agents = [node["pid"] for node in status["nodes"]]
        pids = {
            "runner": [job["pid"] for job in status["jobs"]],
            "agent": agents,
            "guard": [pid for agent in agents for pid in _children(agent) if _is_guard(pid)],
            "supervisor": [status["pid"]],
        }[kind]
        if not pids:
            return
        pid = self.chance.choice(pids)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = psutil.Process(pid)
            victim.kill()
            self.done[kind] += 1
            if kind == "supervisor":
                victim.wait(10)

    def _kill_command(self) -> None:
        found = self._commands()
        if not found:
            return
        pid = self.chance.choice(list(found))
        self.killed_commands[found[pid]] += 1
        with contextlib.suppress(OSError):
            os.kill(pid, self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
            self.done["command"] += 1

    def _cancel_step(self) -> None:
        for run in self._open()[:1]:
            step = self.chance.choice(list(run.graph.steps))
            run.canceled_steps.add(step)
            self.client.jobs.cancel(f"{run.job.name}-{step}")
            self.done["cancel step"] += 1

    def _cancel(self) -> None:
        for run in self._open()[:1]:
            run.canceled = True
            run.job.cancel()
            self.done["cancel"] += 1

    def _kill_and_cancel(self) -> None:
        """Whoever could hear of the wish, or clean up, is dead when it comes."""
        self._kill("supervisor")
        self.chance.choice([self._cancel, self._cancel_running_step])()

    def _cancel_running_step(self) -> None:
        for run in self._open():
            for child in run.job.children():
                if child.status.state is JobState.RUNNING and child.spec.step:
                    run.canceled_steps.add(child.spec.step.name)
                    self.client.jobs.cancel(child.name)
                    self.done["cancel step"] += 1
                    return

    def _commands(self) -> dict[int, str]:
        """Find the processes of commands of this world, and the jobs they belong to."""
        sign = b"WORLD=" + os.fsencode(self.world)
        return {pid: job for pid in psutil.pids() if (job := _job_of(pid, sign)) and _is_alive(pid)}

    # --- after it -----------------------------------------------------------------------------

    def _calm(self) -> None:
        """Nothing runs any more, and nothing of what ran is left."""
        _within(5, lambda: not self._commands(), lambda: f"commands left: {self._commands()}")
        self.link.ensure()
        _within(20, self._is_tidy, lambda: f"left behind: {self._scratch()}")
        _within(20, lambda: not self._leased(), lambda: f"nodes still leased: {self._leased()}")

    def _is_tidy(self) -> bool:
        return not self._scratch()

    def _scratch(self) -> list[str]:
        """What ended jobs should not leave in their folders."""
        names = ("work", "parts", "files", "assembly.plan")
        folders = [*(self.home / "jobs").glob("*")]
        return [str(folder / name) for folder in folders for name in names
                if (folder / name).exists() and not self._may_be_kept(folder, name)]  # fmt: skip

    def _may_be_kept(self, folder: Path, name: str) -> bool:
        """Parts of what failed or was canceled are kept for a while."""
        state = self.client.jobs.get(folder.name).status.state
        return name != "work" and state is not JobState.COMPLETED

    def _leased(self) -> list[object]:
        status = self.link.ask("status")
        return [node for node in (status or {"nodes": []})["nodes"] if node["job"] is not None]

    def _end(self) -> None:
        """End everything; no process, socket or temporary file may be left."""
        runtime = self.link.socket_path.parent
        give_up = time.monotonic() + 20
        while True:  # one that was just starting is there a moment later
            status = self.link.ask("status")
            family = _family(status["pid"]) if status else []
            self.link.down()
            _, alive = psutil.wait_procs(family, timeout=15)
            alive = [p for p in alive if _is_alive(p.pid)]
            assert not alive, f"still there: {[p.cmdline() for p in alive]}"
            left = [str(p) for p in runtime.iterdir()] if runtime.exists() else []
            if not left and not self._processes_of_home():
                return
            told = f"left behind: {left}, {self._processes_of_home()}"
            assert time.monotonic() < give_up, told
            time.sleep(0.1)

    def _processes_of_home(self) -> list[int]:
        sign = os.fsencode(self.world)
        found: list[int] = []
        for pid in psutil.pids():
            with contextlib.suppress(OSError):
                if sign in Path(f"/proc/{pid}/environ").read_bytes() and _is_alive(pid):
                    found.append(pid)
        return found

    # --- checking -----------------------------------------------------------------------------

    def _check(self, run: Run) -> None:
        children = {child.spec.step.name: child for child in run.job.children() if child.spec.step}
        assert list(children) == list(run.graph.steps)
        self._check_recorded_once(run, children)
        self._check_parent(run, children)
        for name, child in children.items():
            self._check_state(run, name, children)
            self._check_outputs(run, name, child)
        self.ends[run.job.status.state.value] += 1

    def _check_recorded_once(self, run: Run, children: Mapping[str, Job]) -> None:
        """One end is recorded for each, is never changed, and ends all that is done for it."""
        with contextlib.closing(self._database()) as database:
            rows = database.execute("SELECT name, at, was, state, status FROM audit").fetchall()
        ends = defaultdict[str, list[tuple[float, int, str, str]]](list)
        for name, *row in rows:
            ends[name].append((row[0], row[1], row[2], row[3]))
        journal = self._journal()
        self.done["steps"] += len(children)
        for name, child in (*children.items(), ("", run.job.job)):
            assert len(ends[child.name]) == 1, f"{child.name}: {ends[child.name]}"
            [(at, was, state, status)] = ends[child.name]
            assert not was, f"{child.name} ended twice"
            assert state == child.status.state, f"{child.name}: {state}, {child.status}"
            told = json.loads(status)
            assert told["state"] == state, f"{child.name}: {state}, {told}"
            assert set(told["outputs"]) == set(child.status.outputs), f"{child.name}: {told}"
            lines = journal[child.name]
            self.done["attempts"] += sum(line.what == "begin" for line in lines)
            late = [line for line in lines if line.at > at + _SLACK_SECONDS]
            assert not late, f"{child.name} ended ({state}) at {at}, and then: {late}"
            assert "overlap" not in {line.what for line in lines}, f"{child.name}: {lines}"
            for need in run.graph.steps[name].needs if name and lines else ():
                [(before, _, how, _)] = ends[children[need].name]
                assert how == "Completed", f"{child.name} began, though {need} is {how}"
                assert lines[0].at >= before - _SLACK_SECONDS, f"{child.name} before {need}"

    def _check_parent(self, run: Run, children: Mapping[str, Job]) -> None:
        status = run.job.status
        states = Counter(child.status.state for child in children.values())
        told = f"{run.job.name}: {status.state} {status.error} {states}"
        assert set(states) <= TERMINAL_STATES, told
        if states[JobState.COMPLETED] == len(children):
            assert status.state is JobState.COMPLETED, told
        else:
            assert status.state is JobState.FAILED or (
                status.state is JobState.CANCELED and run.canceled
            ), told
        counts = status.progress
        assert counts.steps_total == len(children), told
        assert counts.steps_done == states[JobState.COMPLETED], told
        assert counts.steps_failed == states[JobState.FAILED], told
        assert counts.steps_canceled == states[JobState.CANCELED], told
        assert counts.steps_running == 0, told
        if status.state is JobState.FAILED:
            assert status.error is not None, told
            code = "step_failed" if states[JobState.FAILED] else "step_canceled"
            assert status.error.code == code, told
        bound = {f"{name}_{output}" for name in run.graph.bound
                 if children[name].status.state is JobState.COMPLETED
                 for output in run.graph.steps[name].outputs}  # fmt: skip
        assert set(status.outputs) == bound, told

    def _check_state(self, run: Run, name: str, children: Mapping[str, Job]) -> None:
        """Each end has its reason."""
        step, child = run.graph.steps[name], children[name]
        status, lines = child.status, self._journal()[child.name]
        told = f"{child.name} ({step}): {status}; {lines}; killed {self.killed_commands}"
        begun = sum(line.what == "begin" for line in lines)
        failures = sum(line.what == "fail" for line in lines) + self.killed_commands[child.name]
        failures += self.done["guard"]  # it may die before it can be told whose command it starts
        storms = sum(self.done[kind] for kind in _INFRASTRUCTURE)
        assert begun <= 1 + step.max_retries + storms, told
        anybody_failed = any(each.status.state is JobState.FAILED for each in children.values())
        ready = all(children[n].status.state is JobState.COMPLETED for n in step.needs)
        if not ready:
            assert status.state is JobState.CANCELED, told
            assert not lines, told
        if status.state is JobState.COMPLETED:
            assert step.behaviour not in ("fails", "stalls") or status.reused_from, told
            assert status.error is None, told
            if step.shape != "rows" and not status.reused_from:
                assert "end" in {line.what for line in lines}, told
        elif status.state is JobState.FAILED:
            assert step.shape != "rows", told
            assert failures >= 1 + step.max_retries, told
            assert status.error is not None, told
            assert status.error.code in ("command_failed", "command_timed_out"), told
        else:
            by_others = anybody_failed and not run.graph.goes_on
            assert name in run.canceled_steps or run.canceled or by_others or not ready, told

    def _check_outputs(self, run: Run, name: str, child: Job) -> None:
        if child.status.state is not JobState.COMPLETED:
            assert not child.status.outputs, child.status
            return
        if child.status.reused_from:
            self.done["reused"] += 1
        assert set(child.status.outputs) == set(run.graph.steps[name].outputs), child.status
        for output, made in child.status.outputs.items():
            path = path_of(made.uri)
            assert _files(path) == run.graph.content(name, output), f"{child.name}: {path}"
            if name in run.graph.bound:
                assert path == run.results / name / output, f"{child.name}: {path}"

    def _check_leftovers(self) -> None:
        """Every file below the places of outputs belongs to a success that is recorded."""
        wanted: set[Path] = set()
        for run in self.runs:
            for child in run.job.children():
                for made in child.status.outputs.values():
                    path = path_of(made.uri)
                    wanted |= {path / name if name != "." else path for name in _files(path)}
        places = (self.home / "outputs", self.world / "results")
        found = {path for place in places for path in place.rglob("*") if not path.is_dir()}
        assert found == wanted, f"nobody's: {found - wanted}; missing: {wanted - found}"
        partial = [str(path) for place in places for path in place.rglob(".*")]
        assert not partial, f"left behind: {partial}"

    def _journal(self) -> dict[str, list[Line]]:
        """Read what commands have noted, by their jobs, in order of time."""
        lines = defaultdict[str, list[Line]](list)
        with contextlib.suppress(FileNotFoundError):
            for line in (self.world / "journal").read_text().splitlines():
                job, pid, what, at = line.split()
                lines[job].append(Line(int(pid), what, float(at)))
        return lines


def _files(path: Path) -> dict[str, bytes]:
    if not path.is_dir():
        return {".": path.read_bytes()}
    files = sorted(each for each in path.rglob("*") if not each.is_dir())
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


def _within(seconds: float, look: Callable[[], bool], tell: Callable[[], str]) -> None:
    give_up = time.monotonic() + seconds
    while not look():
        if time.monotonic() > give_up:
            raise AssertionError(tell())
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(pid)
        return [supervisor, *supervisor.children(recursive=True)]
    return []


def _is_guard(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("command_guard" in each for each in psutil.Process(pid).cmdline())
    return False


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _job_of(pid: int, sign: bytes = b"WORLD=") -> str:
    """Name the job whose command a process is, or ""."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    if not any(each.startswith(sign) for each in variables):
        return ""
    jobs = [each for each in variables if each.startswith(b"AZUREML_RUN_ID=")]
    return os.fsdecode(jobs[0].partition(b"=")[2]) if jobs else ""


def run_campaign(folder: Path, seed: int) -> Campaign:
    """Run one seed in `folder` and return its counts; raises AssertionError naming the seed."""
    campaign = Campaign(folder, random.Random(seed))
    try:
        campaign.run()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, {dict(campaign.done)}: {error}") from error
    return campaign


def main() -> None:
    """Run a campaign from the command line; folders of seeds that fail are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=int.from_bytes(os.urandom(3), "big"))
    chosen = parser.parse_args()
    done, ends, failed = Counter[str](), Counter[str](), dict[int, str]()
    began = time.monotonic()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        folder = Path(tempfile.mkdtemp(prefix=f"campaign-{seed}-"))
        started = time.monotonic()
        try:
            campaign = run_campaign(folder, seed)
        except Exception as error:  # noqa: BLE001 - told with all others in the end
            failed[seed] = f"{folder}: {type(error).__name__}: {error}"
            sys.stdout.write(f"FAILED {seed}: {failed[seed][:1500]}\n")
        else:
            done += campaign.done
            ends += campaign.ends
            shutil.rmtree(folder)
            sys.stdout.write(
                f"{seed} {time.monotonic() - started:.1f} s {dict(campaign.done)} "
                f"{dict(campaign.ends)}\n"
            )
        sys.stdout.flush()
    counts = {
        "seeds": chosen.seeds,
        "failed": list(failed),
        "done": dict(done),
        "ends": dict(ends),
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main()
