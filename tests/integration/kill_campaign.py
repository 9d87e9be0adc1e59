"""A campaign of kill -9: workers, runners and supervisors, until so many of each have died.

Two jobs run at a time over the same items, some of which raise or crash their worker; each result
is compared byte for byte with the oracle's. `python -m tests.integration.kill_campaign` runs a long
one (`make torture`) and prints seed and counts as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from batchpoint import Client, JobHandle, wiring
from batchpoint.domain.job import TERMINAL_STATES, JobState
from batchpoint.formats.layout import job_folder
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from sim import oracle

ITEMS = 1_500
MINI_BATCH_SIZE = 3
JOBS_AT_A_TIME = 2
WORKERS = 2
RAISES, CRASHES = range(100, ITEMS, 499), range(250, ITEMS, 700)

SCRIPT = """
import os, time

def init():
    print("ready", flush=True)

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    time.sleep(0.004)
    if any(name.endswith("-raises.txt") for name in names):
        raise ValueError("this item cannot be scored")
    if any(name.endswith("-crashes.txt") for name in names):
        os._exit(7)
    return ["scored " + name for name in names]
"""


def item_name(number: int) -> str:
    """Name an item after what it does to the script."""
    kind = "raises" if number in RAISES else "crashes" if number in CRASHES else "good"
    return f"item-{number:05d}-{kind}.txt"


def expected_result() -> oracle.Expected:
    """Ask the oracle what every job must come to."""
    items = [
        oracle.Item(
            name,
            rows=(f"scored {name}",),
            fails="raises" if "raises" in name else "crashes" if "crashes" in name else "",
        )
        for name in map(item_name, range(ITEMS))
    ]
    return oracle.expect(items, oracle.Settings(mini_batch_size=MINI_BATCH_SIZE))


def children(pid: int) -> list[int]:
    """List a process's children; quickly where the kernel keeps such a list."""
    try:
        lists = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(child) for each in lists for child in each.split()]
    except OSError:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(pid).children()]
        return []


@dataclass
class Wanted:
    """How many processes of each kind are to be killed."""

    worker: int
    runner: int
    supervisor: int


@dataclass
class Campaign:
    """One home, its jobs, and what was done to them."""

    folder: Path
    wanted: Wanted
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter[str])
    jobs_done: int = 0
    seen: dict[int, psutil.Process] = field(default_factory=dict[int, psutil.Process])

    def run(self) -> None:
        """Kill until enough have died, and check every job's result; raises AssertionError."""
        self._lay_out()
        settings = Settings(home=self.folder / "home")
        self.link = SupervisorLink(settings.home)
        self.expected = expected_result()
        self.failed_lines: bytes | None = None
        with Client(app=wiring.embedded_app(settings)) as client:
            client.deploy(
                self.folder / "model",
                "kills",
                scoring_script=str(self.folder / "code" / "score.py"),
                mini_batch_size=MINI_BATCH_SIZE,
                max_concurrency_per_instance=WORKERS,
            )
            running: list[JobHandle] = []
            while running or not self._enough():
                while len(running) < JOBS_AT_A_TIME and not self._enough():
                    running.append(client.invoke("kills", self.folder / "items"))
                self._kill_one()
                for job in [j for j in running if j.status.state in TERMINAL_STATES]:
                    running.remove(job)
                    self._check(job)
        self._end()

    def _lay_out(self) -> None:
        for name in ("code", "model", "items"):
            (self.folder / name).mkdir()
        (self.folder / "code" / "score.py").write_text(SCRIPT)
        (self.folder / "model" / "model.txt").write_text("nothing to load")
        for number in range(ITEMS):
            (self.folder / "items" / item_name(number)).write_text(str(number))

    def _enough(self) -> bool:
        return all(self.killed[kind] >= count for kind, count in vars(self.wanted).items())

    # --- killing ------------------------------------------------------------------------------

    def _kill_one(self) -> None:
        """Kill a process of a kind of which too few have died, at a random moment from now."""
        missing = {
            kind: count - self.killed[kind]
            for kind, count in vars(self.wanted).items()
            if count > self.killed[kind]
        }
        if not missing:
            time.sleep(0.05)
            self.link.ensure()
            return
        time.sleep(self.chance.uniform(0, 0.06))
        kind = self.chance.choices(list(missing), weights=list(missing.values()))[0]
        candidates = self._processes(kind)
        if not candidates:
            self.link.ensure()  # what the next command does
            return
        victim = self.chance.choice(candidates)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            self.killed[kind] += 1
            if kind == "supervisor":
                victim.wait(10)
                self.link.ensure()

    def _processes(self, kind: str) -> list[psutil.Process]:
        status = self.link.ask("status")
        if status is None:
            return []
        runners = [job["pid"] for job in status["jobs"]]
        agents = [node["pid"] for node in status["nodes"]]
        workers = [worker for agent in agents for worker in children(agent)]
        pids = {"supervisor": [status["pid"]], "runner": runners, "worker": workers}
        for pid in (status["pid"], *runners, *agents, *workers):
            if pid not in self.seen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.seen[pid] = psutil.Process(pid)
        return [self.seen[pid] for pid in pids[kind] if pid in self.seen]

    # --- checking -----------------------------------------------------------------------------

    def _check(self, job: JobHandle) -> None:
        state = job.job.status
        log = (job_folder(self.folder / "home", job.name).job_log).read_text()
        assert state.state == JobState.COMPLETED, f"{state.error}\n{log}"
        output = self.folder / "home" / "outputs" / job.name / "score"
        rows = "".join(f"{row.file},{row.value}\n" for row in self.expected.rows)
        assert (output / "predictions.csv").read_text() == "_file,prediction\n" + rows
        failed = (output / "_failed_items.jsonl").read_bytes()
        names = [json.loads(line)["name"] for line in failed.splitlines()]
        assert names == [entry.name for entry in self.expected.failed]
        assert failed == (self.failed_lines or failed), "the list of failed items differs"
        self.failed_lines = failed
        receipt = json.loads((output / "_receipt.json").read_text())
        assert receipt["items"] == {
            "planned": ITEMS,
            "scored": ITEMS - self.expected.failures,
            "failed": self.expected.failures,
        }
        assert sorted(p.name for p in output.iterdir()) == [
            "_failed_items.jsonl",
            "_receipt.json",
            "predictions.csv",
        ]
        self.jobs_done += 1

    def _end(self) -> None:
        """End everything; no process, socket or temporary file may be left."""
        self.link.ensure()
        give_up = time.monotonic() + 20
        while self._left_of_jobs() and time.monotonic() < give_up:
            time.sleep(0.05)
        assert not self._left_of_jobs(), f"left behind: {self._left_of_jobs()}"
        self._processes("supervisor")
        runtime = self.link.socket_path.parent
        self.link.down()
        _, alive = psutil.wait_procs(list(self.seen.values()), timeout=5)
        alive = [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
        assert not alive, f"still there: {[p.cmdline() for p in alive]}"
        left = [str(p) for p in runtime.iterdir()] if runtime.exists() else []
        assert not left, f"left behind: {left}"

    def _left_of_jobs(self) -> list[str]:
        """What ended jobs should not leave: parts, scratch, half-written files."""
        jobs = self.folder / "home" / "jobs"
        names = ("parts", "files", "work", "assembly.plan")
        places = (job / name for job in jobs.iterdir() for name in names)
        return [str(path) for path in places if path.exists()]


def run_campaign(folder: Path, wanted: Wanted, seed: int) -> Campaign:
    """Run a campaign in `folder` and return its counts; raises AssertionError naming the seed."""
    campaign = Campaign(folder, wanted, random.Random(seed))
    try:
        campaign.run()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}, killed {dict(campaign.killed)}: {error}") from error
    finally:
        campaign.link.down()
    return campaign


def main() -> None:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2_500)
    parser.add_argument("--runners", type=int, default=400)
    parser.add_argument("--supervisors", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    chosen = parser.parse_args()
    wanted = Wanted(chosen.workers, chosen.runners, chosen.supervisors)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        campaign = run_campaign(Path(folder), wanted, chosen.seed)
    counts = {
        "seed": chosen.seed,
        "killed": dict(campaign.killed),
        "jobs": campaign.jobs_done,
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main()
