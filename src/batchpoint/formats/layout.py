"""Where everything lies: the names of all files and folders under BATCHPOINT_HOME."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from batchpoint.domain.minibatch import Task

RECEIPT = "_receipt.json"
FAILED_ITEMS = "_failed_items.jsonl"
# In an object store, while a job publishes there: keeps other jobs out.
CLAIM = ".batchpoint-claim"
PART_SUFFIX = ".part"
INIT_SUFFIX = "-init"

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PART = re.compile(r"(\d{6})-([A-Za-z0-9_][A-Za-z0-9_.-]*)-(\d{6,})\.part")


def _safe(name: str) -> str:
    """Return a node name that may stand in a file name; raises ValueError."""
    if _SAFE.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot be part of a file name")
    return name


def job_folder(home: Path, job: str) -> JobFolder:
    """The folder of a job below BATCHPOINT_HOME."""
    return JobFolder(home / "jobs" / job)


def default_output(home: Path, job: str, output: str = "score") -> Path:
    """The folder (or file) as which an output appears when the caller names none."""
    return home / "outputs" / job / output


def part_name(epoch: int, node: str, sequence: int) -> str:
    """Name a part so that no other runner epoch and no other node can choose the same name."""
    return f"{epoch:06d}-{_safe(node)}-{sequence:06d}{PART_SUFFIX}"


def parse_part_name(name: str) -> tuple[int, str, int] | None:
    """Return (epoch, node, sequence) of a part's name, or None for any other file."""
    found = _PART.fullmatch(name)
    return None if found is None else (int(found[1]), found[2], int(found[3]))


def harvest_name(epoch: int, node: str, task: Task, attempt: int) -> str:
    """Name the folder that keeps the files a script wrote during one attempt at a task."""
    rows = "" if task.row_start == 0 and task.row_stop < 0 else f"-r{task.row_start}"
    if task.row_stop >= 0:
        rows += f"to{task.row_stop}"
    place = f"{task.mini_batch}-{task.start}to{task.stop}{rows}"
    return f"{epoch:06d}-{_safe(node)}-{place}-a{attempt}"


def init_harvest_name(epoch: int, node: str) -> str:
    """Name the folder that keeps the files a script wrote during `init` on one node.

    No frame speaks of it: assembly finds such folders by their name and publishes each file once.
    """
    return f"{epoch:06d}-{_safe(node)}{INIT_SUFFIX}"


@dataclass(frozen=True, slots=True)
class JobFolder:
    """Storage of one job; `root` is its folder. Only `make` touches the disk."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Manifest segments and the plan's totals."""
        return self.root / "manifest"

    def segment(self, index: int) -> Path:
        """Manifest segment `index`, from 0."""
        return self.manifest / f"segment-{index:06d}.bpm"

    @property
    def plan_totals(self) -> Path:
        """How many segments, mini-batches and items there are; present once listing has ended."""
        return self.manifest / "plan.json"

    @property
    def parts(self) -> Path:
        """Sealed parts: rows and failures of scored tasks."""
        return self.root / "parts"

    def part(self, name: str) -> Path:
        """The part of a name made by `part_name` (as in `Reported.part` and `Record.part`)."""
        if parse_part_name(name) is None:
            raise ValueError(f"{name!r} is not the name of a part")
        return self.parts / name

    @property
    def files(self) -> Path:
        """Files that scripts wrote, one folder per attempt (`harvest_name`)."""
        return self.root / "files"

    @property
    def logs(self) -> Path:
        """The job's logs."""
        return self.root / "logs"

    @property
    def job_log(self) -> Path:
        """What batchpoint itself has to say about the job."""
        return self.logs / "job.log"

    def user_log(self, node: str, slot: int) -> Path:
        """What user code printed in one worker slot of one node."""
        return self.logs / "user" / f"{_safe(node)}-{slot}.txt"

    def command_log(self, attempt: int) -> Path:
        """What the command of a step printed in one attempt, the first being 1."""
        name = f"std_log-{attempt}.txt" if attempt > 1 else "std_log.txt"
        return self.logs / "user" / name

    @property
    def work(self) -> Path:
        """Scratch space, deleted when the job ends."""
        return self.root / "work"

    @property
    def arguments(self) -> Path:
        """What the script of a pipeline's step gets on its command line; written once."""
        return self.root / "arguments.json"

    @property
    def results(self) -> Path:
        """The results of a pipeline's step that scores, beside what it publishes elsewhere."""
        return self.root / "results"

    @property
    def assembly_plan(self) -> Path:
        """The order in which recorded frames make up the output."""
        return self.root / "assembly.plan"

    @property
    def publication(self) -> Path:
        """What this job has begun to put into an object store; absent before and after."""
        return self.root / "publication.json"

    @property
    def command_lock(self) -> Path:
        """Locked by the processes of an attempt at a command, as long as any of them runs."""
        return self.root / "command.lock"

    @property
    def command_record(self) -> Path:
        """What an attempt at a command has begun to publish, and what it has published."""
        return self.root / "command.json"

    def output_publication(self, output: str) -> Path:
        """What a command has begun to put into an object store for one of its outputs."""
        return self.root / "publications" / f"{output}.json"

    def make(self) -> None:
        """Create the folders; raises OSError."""
        for folder in (self.manifest, self.parts, self.files, self.logs / "user", self.work):
            folder.mkdir(parents=True, exist_ok=True)
