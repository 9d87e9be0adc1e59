"""Runs the scoring job of a step as its parent's runner does, also in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchpoint.clock import SystemClock
from batchpoint.domain.component import Scalar
from batchpoint.domain.job import Job, JobState, JobStatus
from batchpoint.domain.job_pointers import JobInput, JobOutput
from batchpoint.domain.job_spec import (
    PipelineSpec,
    ResolvedCode,
    ResolvedEnvironment,
    ScoreSpec,
    ScoringSettings,
    StepInput,
    StepOutput,
    StepPlace,
)
from batchpoint.engines.local import LocalEngine, LocalPlace
from batchpoint.formats.layout import JobFolder, job_folder
from batchpoint.ledger.ledger import Ledger
from batchpoint.runner.score_step import ScoreStepParts, StepResult, run_score_step
from batchpoint.storage.locate import uri_of

PARENT = "pipe-00000001"
SETTINGS: dict[str, Any] = {
    "instance_count": 1,
    "max_concurrency_per_instance": 2,
    "mini_batch_size": 2,
    "max_retries": 0,
    "timeout_seconds": 60,
    "error_threshold": None,
    "logging_level": "info",
    "output_action": "append_row",
    "output_file_name": "predictions.csv",
    "output_format": "batchpoint",
    "environment_variables": {},
    "split_files": False,
    "coalesce_files": False,
}


class StepWorld:
    """A pipeline of one scoring step with a ledger of its own; nodes are a supervisor's."""

    def __init__(self, home: Path, socket: Path) -> None:
        self.home = home
        self.socket = socket
        home.mkdir(exist_ok=True)
        self.ledger = Ledger(home / "ledger.db")
        self.clock = SystemClock()

    def make(
        self,
        script: str,
        data: Path,
        *,
        inputs: Mapping[str, StepInput] | None = None,
        outputs: Mapping[str, StepOutput] | None = None,
        arguments: str | None = None,
        append_row_to: str | None = "rows",
        **settings: Any,
    ) -> Job:
        """Record the pipeline and its step; returns the step's job."""
        code = self.home / "code"
        code.mkdir(exist_ok=True)
        (code / "score.py").write_text(script)
        name = f"{PARENT}-score"
        place = StepPlace(
            parent=PARENT,
            name="score",
            component="azureml:score:1",
            identity="i",
            inputs={
                "data": StepInput(
                    type="uri_folder", data=JobInput(type="uri_folder", uri=uri_of(data))
                ),
                **(inputs or {}),
            },
            outputs=dict(
                {"rows": self.output("uri_file", "rows.csv")} if outputs is None else outputs
            ),
        )
        spec = ScoreSpec(
            step=place,
            environment=ResolvedEnvironment(
                name="e", version="1", hash="c" * 64, python=sys.executable
            ),
            compute="local",
            idle_seconds=5,
            model=None,
            code=ResolvedCode(path=str(code), scoring_script="score.py", hash=str(hash(script))),
            settings=ScoringSettings.model_validate(SETTINGS | settings),
            input=JobInput(type="uri_folder", uri="file:///nowhere/yet"),
            output=JobOutput(uri=uri_of(job_folder(self.home, name).results)),
            arguments=arguments,
            input_data="data",
            append_row_to=append_row_to,
        )
        now = self.clock.now()
        child = Job(name=name, spec=spec, status=JobStatus(), created_at=now)
        parent = Job(
            name=PARENT,
            spec=PipelineSpec(component="azureml:pipe:1", steps={"score": name}),
            status=JobStatus(state=JobState.RUNNING),
            created_at=now,
        )
        self.ledger.create_job(parent, None, None, children=(child,))
        return child

    def output(self, kind: Any, name: str, **fields: Any) -> StepOutput:
        """An output below the home."""
        return StepOutput(type=kind, uri=uri_of(self.home / "out" / name), **fields)

    def folder(self, child: Job) -> JobFolder:
        """The step's own folder."""
        return job_folder(self.home, child.name)

    async def run(self, child: Job, **parts: Any) -> StepResult:
        """Run the step to its end in this process."""
        place = child.scoring.step
        assert place is not None
        inputs: dict[str, Scalar | JobInput] = {}
        for name, each in place.inputs.items():
            value = each.data if each.data is not None else each.value
            if value is not None:
                inputs[name] = value
        folder = self.folder(child)
        given = ScoreStepParts(
            ledger=self.ledger,
            engine_for=lambda job, epoch: LocalEngine(
                job, epoch, LocalPlace(self.socket, folder.root, 4)
            ),
            clock=self.clock,
            folder=folder,
            owner="test",
            prepare=list,
            **parts,
        )
        return await run_score_step(child, inputs, given)


def main() -> None:
    """Run a step that is recorded: HOME SOCKET JOB."""
    home, socket, name = sys.argv[1:]
    world = StepWorld(Path(home), Path(socket))
    result = asyncio.run(world.run(world.ledger.get_job(name)))
    print(result.outcome)


if __name__ == "__main__":
    main()
