"""Finished jobs on disk, waiting for their output to be assembled."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from batchpoint.core.assembly import RecordedFrames, order
from batchpoint.core.messages import Record
from batchpoint.domain.minibatch import Slice, Task
from batchpoint.formats.assembly_plan import AssemblyPlan, write_plan
from batchpoint.formats.layout import JobFolder, job_folder, part_name
from batchpoint.formats.manifest import PlanTotals, write_segment, write_totals
from batchpoint.formats.parts import FrameFiles, PartWriter
from batchpoint.node.output_request import AssembleRequest
from batchpoint.storage.locate import path_of, uri_of
from tests.unit.resolved_jobs import new_job

FILE_ROW_Y = (("_file", "string"), ("_row", "int"), ("y", "int"))


class OutputJob:
    """A job whose frames are given one by one, a mini-batch (and an item) each."""

    def __init__(self, home: Path, *, frames_per_part: int = 3, **settings: object) -> None:
        job = new_job()
        environment = job.scoring.environment.model_copy(update={"python": sys.executable})
        self.name = job.name
        self.spec = job.scoring.model_copy(
            update={
                "settings": job.scoring.settings.model_copy(update=settings),
                "environment": environment,
            }
        )
        self.folder: JobFolder = job_folder(home, job.name)
        self.folder.make()
        self.output = home / "outputs" / job.name / "score"
        self._frames_per_part = frames_per_part
        self._frames: list[dict] = []
        self._encoding = "csv"

    def add(self, rows: bytes = b"", failures=(), *, task=None, files=None, **given) -> Task:
        """Add the frame of the next mini-batch (or of `task`); `files` maps names to bytes."""
        ordinal = len(self._frames)
        task = task or Task(ordinal, 0, 1)
        frame = {
            "rows": given.pop("rows_count", rows.count(b"\n")),
            "failed_rows": 0,
            "columns": FILE_ROW_Y,
            "encoding": "csv",
            "items": 1,
            **given,
        }
        if files:
            folder = f"000001-node-0-{ordinal}"
            for name, data in files.items():
                path = self.folder.files / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            frame["files"] = FrameFiles(folder, tuple((n, len(d)) for n, d in files.items()))
        lines = b"".join(json.dumps(line).encode() + b"\n" for line in failures)
        self._frames.append({"task": task, "rows_bytes": rows, "failures": lines, **frame})
        return task

    def fail(self, item: int, row: int | None = None, **more) -> dict:
        """A failure line as a worker writes it."""
        return {
            "item": item,
            "name": f"{item}.csv",
            "row": row,
            "type": "ValueError",
            "message": "no",
            "traceback": "Traceback ...",
            **more,
        }

    def seal(self, *, backwards: bool = False) -> AssembleRequest:
        """Write parts, manifest and plan; `backwards`: as if the last had been scored first."""
        frames = self._frames[::-1] if backwards else self._frames
        recorded = RecordedFrames()
        for number in range(0, len(frames), self._frames_per_part):
            name = part_name(1, "node-0", number)
            writer = PartWriter(self.folder.part(name), job=self.name, epoch=1, node="node-0")
            chosen = frames[number : number + self._frames_per_part]
            tasks = [(writer.add(**frame), frame["task"]) for frame in chosen]
            writer.seal()
            recorded.add(Record(name, tuple(tasks), 0, 0, ()))
        batches = 1 + max(frame["task"].mini_batch for frame in frames)
        counts = [1] * batches
        for frame in frames:
            task = frame["task"]
            counts[task.mini_batch] = max(counts[task.mini_batch], task.stop)
        slices = [
            Slice(item, f"file:///in/{item}.csv", f"{item}.csv", 1, "")
            for item in range(sum(counts))
        ]
        cuts = [sum(counts[:index]) for index in range(batches)]
        write_segment(self.folder.segment(0), slices, cuts, 0)
        write_totals(self.folder.plan_totals, PlanTotals(1, batches, len(slices), "ab" * 32))
        ordered = order(recorded, counts)
        plan = AssemblyPlan(self.name, ordered.parts, ordered.part, ordered.frame)
        write_plan(self.folder.assembly_plan, plan)
        return AssembleRequest(
            job=self.name,
            job_dir=self.folder.root,
            output_uri=uri_of(self.output),
            spec=self.spec,
            retries=2,
            timings={"started_at": "2026-05-04T12:00:00+00:00", "scoring_seconds": 1.5},
        )


def into(request: AssembleRequest, output: Path) -> AssembleRequest:
    """The same job with another output folder."""
    return replace(request, output_uri=uri_of(output))


def folder_of(request: AssembleRequest) -> Path:
    """The local folder a job writes to."""
    return path_of(request.output_uri)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder but receipts, hidden ones included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "_receipt.json"
    }
