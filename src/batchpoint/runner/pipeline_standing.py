"""The standing of a running pipeline: its own status and those of its steps, as committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

from batchpoint.core.lifecycle import advance
from batchpoint.domain.job import (
    TERMINAL_STATES,
    ErrorInfo,
    Job,
    JobState,
    JobStatus,
    Progress,
    PublishedOutput,
)
from batchpoint.domain.job_spec import PipelineSpec, ScoreSpec

_SUMMED = (
    "items_total",
    "items_done",
    "items_failed",
    "rows_done",
    "rows_failed",
    "mini_batches_total",
    "mini_batches_done",
    "retries",
    "workers",
)
_Phase = Literal["environment", "inputs", "command", "writing"]


class PipelineStanding:
    """The one place in a runner where statuses of a pipeline and its steps change.

    `changed` holds the steps (by their job's name) whose status is not committed yet, `ended` those
    of them that have ended. Rows of steps that score are written by whoever scores; what is heard
    of them from there (`heard`) counts for the pipeline and is not written again.
    """

    def __init__(
        self,
        job: Job,
        spec: PipelineSpec,
        children: Mapping[str, Job],
        saw: Callable[[JobStatus], None] = lambda _: None,
    ) -> None:
        """Go on from the statuses that an earlier runner, or the invoke, has left.

        `children` are the jobs of the steps, by the step's name. `saw` is told every status of the
        pipeline from then on.
        """
        self._spec = spec
        self._saw = saw
        self._status = job.status
        self._steps = {step: child.name for step, child in children.items()}
        self._step_of = {child: step for step, child in self._steps.items()}
        self._of = {step: child.status for step, child in children.items()}
        self._scores = {
            step for step, child in children.items() if isinstance(child.spec, ScoreSpec)
        }
        self.changed: set[str] = set()
        self.ended: set[str] = set()
        self.warnings: dict[str, str] = {}  # what holds a step up now, by the step

    @property
    def status(self) -> JobStatus:
        """What is known of the pipeline now."""
        return self._status

    def of(self, step: str) -> JobStatus:
        """What is known of a step now."""
        return self._of[step]

    def begin(self, now: datetime) -> None:
        """Note that a runner has taken the pipeline up."""
        self._become(JobState.PREPARING)
        self._update(started_at=self._status.started_at or now, attempts=self._status.attempts + 1)
        self._become(JobState.RUNNING)

    def cancel_requested(self) -> None:
        """Note that somebody wants the pipeline to stop."""
        self._become(JobState.CANCEL_REQUESTED)

    def started(self, step: str, attempt: int, now: datetime) -> None:
        """Note that an attempt at a step begins."""
        status = self._of[step]
        state = JobState.RUNNING
        if status.state == JobState.CANCEL_REQUESTED:
            state = status.state
        self._set(
            step,
            status.model_copy(
                update={
                    "state": state,
                    "attempts": attempt,
                    "started_at": status.started_at or now,
                    "progress": Progress(phase="inputs"),
                }
            ),
        )

    def phase(self, step: str, phase: _Phase) -> None:
        """Note how far a step that runs a command is."""
        status = self._of[step]
        if status.progress.phase != phase and status.state not in TERMINAL_STATES:
            progress = status.progress.model_copy(update={"phase": phase})
            self._set(step, status.model_copy(update={"progress": progress}))

    def between(self, step: str) -> None:
        """Note that an attempt at a step has ended; it counts as one from here on."""
        status = self._of[step]
        if status.state is JobState.RUNNING:
            self._set(step, status.model_copy(update={"state": JobState.PREPARING}))

    def heard(self, child: str, status: JobStatus) -> None:
        """Take note of how far the job of a step that scores is."""
        step = self._step_of[child]
        if self._of[step].state not in TERMINAL_STATES:
            self._of[step] = status

    def closed(self, step: str, status: JobStatus) -> None:
        """Note how a step has ended; its outputs become those of the pipeline."""
        assert status.state in TERMINAL_STATES, status.state
        self.warnings.pop(step, None)
        self._set(step, status)
        self.ended.add(step)
        if status.state is JobState.COMPLETED:
            made = self._outputs_by(step)
            if made:
                self._update(outputs={**self._status.outputs, **made})

    def take_changes(self) -> dict[str, JobStatus]:
        """Return the statuses that are to be committed now, by the names of the steps' jobs."""
        told = {self._steps[step]: self._of[step] for step in self.changed}
        self.changed.clear()
        self.ended.clear()
        return told

    def give_back(self, changes: Mapping[str, JobStatus]) -> None:
        """Take back what could not be committed."""
        for name in changes:
            step = self._step_of[name]
            self.changed.add(step)
            if self._of[step].state in TERMINAL_STATES:
                self.ended.add(step)

    def show(self) -> JobStatus:
        """Return the status of the pipeline as it is to be committed."""
        states = [status.state for status in self._of.values()]
        done = states.count(JobState.COMPLETED)
        ended = sum(state in TERMINAL_STATES for state in states)
        counts: dict[str, object] = {
            "phase": "steps",
            "listed": True,
            "steps_total": len(states),
            "steps_done": done,
            "steps_failed": states.count(JobState.FAILED),
            "steps_canceled": states.count(JobState.CANCELED),
            "steps_reused": sum(each.reused_from is not None for each in self._of.values()),
            "steps_running": len(states) - ended - states.count(JobState.QUEUED),
        }
        if self._scores:
            counts |= self._scored()
        progress = self._status.progress.model_copy(update=counts)
        self._update(progress=progress, warnings=sorted(set(self.warnings.values())))
        return self._status

    def final(self, state: JobState, error: ErrorInfo | None, now: datetime) -> JobStatus:
        """Return the last status of the pipeline; it is not the standing before it is committed."""
        shown = self.show()
        progress = shown.progress.model_copy(
            update={"phase": "done" if state is JobState.COMPLETED else "steps"}
        )
        return shown.model_copy(
            update={
                "state": advance(shown.state, state),
                "error": error,
                "ended_at": now,
                "progress": progress,
                "warnings": [],
            }
        )

    def finished(self, status: JobStatus) -> None:
        """Note the last status once it is committed."""
        self._status = status
        self._saw(status)

    def _outputs_by(self, step: str) -> dict[str, PublishedOutput]:
        outputs = self._of[step].outputs
        return {
            name: outputs[source.output]
            for name, source in self._spec.outputs.items()
            if source.step == step and source.output in outputs
        }

    def _scored(self) -> dict[str, object]:
        told = [self._of[step].progress for step in self._scores]
        sums: dict[str, object] = {
            name: sum(getattr(each, name) for each in told) for name in _SUMMED
        }
        running = [
            self._of[step].progress
            for step in self._scores
            if self._of[step].state not in TERMINAL_STATES
        ]
        return {
            **sums,
            "workers": sum(each.workers for each in running),
            "workers_wanted": sum(each.workers_wanted for each in running),
            "rows_per_second": sum(each.rows_per_second for each in running),
        }

    def _set(self, step: str, status: JobStatus) -> None:
        self._of[step] = status
        if status.state in TERMINAL_STATES or step not in self._scores:
            self.changed.add(step)

    def _update(self, **update: object) -> None:
        self._status = self._status.model_copy(update=update)
        self._saw(self._status)

    def _become(self, to: JobState) -> None:
        """Go to a state by the lifecycle; a wish to cancel stays until the job has ended."""
        now = self._status.state
        if now == to or (now == JobState.CANCEL_REQUESTED and to not in TERMINAL_STATES):
            return
        self._update(state=advance(now, to))
