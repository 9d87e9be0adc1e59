"""The standing of a running job: state, progress and warnings, as they are committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from batchpoint.core.accounting import Tally
from batchpoint.core.lifecycle import advance
from batchpoint.domain.job import (
    TERMINAL_STATES,
    ErrorInfo,
    JobState,
    JobStatus,
    Progress,
    PublishedOutput,
)
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.node.output_request import AssembledOutput
from batchpoint.runner.progress import Display, passes


class Standing:
    """The one place in a runner where the status of its job changes.

    `trouble` is why the job cannot go on now ("storage: ..."), shown as a warning while it lasts.
    """

    def __init__(
        self, spec: ScoreSpec, status: JobStatus, saw: Callable[[JobStatus], None] = lambda _: None
    ) -> None:
        """Go on from the status that an earlier runner, or the invoke, has left.

        `saw` is told every status from then on.
        """
        self._spec = spec
        self._status = status
        self._saw = saw
        self.display = Display(status.progress)
        self.trouble = ""
        # An earlier runner had everything scored, and may have published it before it died.
        self.was_writing = status.progress.phase == "writing"

    @property
    def status(self) -> JobStatus:
        """What is known of the job now."""
        return self._status

    @status.setter
    def status(self, status: JobStatus) -> None:
        self._status = status
        self._saw(status)

    def begin(self, now: datetime) -> None:
        """Note that a runner has taken the job up."""
        self._become(JobState.PREPARING)
        self.status = self.status.model_copy(
            update={
                "started_at": self.status.started_at or now,
                "attempts": self.status.attempts + 1,
            }
        )

    def cancel_requested(self) -> None:
        """Note that somebody wants the job to stop."""
        self._become(JobState.CANCEL_REQUESTED)

    def writing(self) -> None:
        """Note that all is scored and the results are being written."""
        if self.status.state == JobState.PREPARING:
            self._become(JobState.RUNNING)  # an earlier runner had scored everything
        self._become(JobState.FINALIZING)
        self._update_progress({"phase": "writing"})

    def published(
        self, output: AssembledOutput, outputs: Mapping[str, PublishedOutput] | None = None
    ) -> None:
        """Note what was published: from here on the numbers are those of the receipt.

        `outputs` are those of a pipeline's step.
        """
        self.trouble = ""
        self.status = self.status.model_copy(
            update={"output_uri": self._spec.output.uri, "outputs": dict(outputs or {})}
        )
        self._update_progress(
            {
                "phase": "done",
                "items_total": output.items,
                "items_done": output.items,
                "items_failed": output.failed,
                "rows_done": output.rows,
                "rows_failed": output.failed_rows,
            }
        )

    def ended(self, state: JobState, error: ErrorInfo | None, now: datetime) -> JobStatus:
        """Return the last status of the job; it is not the standing before it is committed."""
        progress = self.status.progress.model_copy(update={"eta_seconds": None})
        return self.status.model_copy(
            update={
                "state": advance(self.status.state, state),
                "error": error,
                "ended_at": now,
                "warnings": self._warnings(),
                "progress": progress,
            }
        )

    def show(self, tally: Tally, totals: Progress, monotonic: float) -> JobStatus:
        """Fold what is decided and what nodes tell into the status that people see.

        `totals` brings what the plan knows: `listed`, `items_total` and `mini_batches_total`.
        """
        counted = totals.model_copy(
            update={
                "phase": self.status.progress.phase,
                "items_done": tally.items_done,
                "items_failed": tally.items_failed,
                "rows_done": tally.rows,
                "rows_failed": tally.failed_rows,
                "mini_batches_done": tally.mini_batches_done,
                "retries": tally.retries,
                "workers_wanted": self._spec.settings.instance_count
                * self._spec.settings.max_concurrency_per_instance,
                "timeout_seconds": tally.timeout_seconds if tally.timeout_known else None,
            }
        )
        shown = self.display.show(counted, monotonic)
        if shown.phase == "scoring" and self.status.state == JobState.PREPARING:
            self._become(JobState.RUNNING)
        warnings = sorted({*self._warnings(), *self.display.warnings})
        self.status = self.status.model_copy(update={"progress": shown, "warnings": warnings})
        return self.status

    def _warnings(self) -> list[str]:
        lasting = [warning for warning in self.status.warnings if not passes(warning)]
        return [*lasting, self.trouble] if self.trouble else lasting

    def _update_progress(self, update: dict[str, object]) -> None:
        progress = self.status.progress.model_copy(update=update)
        self.status = self.status.model_copy(update={"progress": progress})

    def _become(self, to: JobState) -> None:
        """Go to a state by the lifecycle; a wish to cancel stays until the job has ended."""
        now = self.status.state
        if now == to or (now == JobState.CANCEL_REQUESTED and to not in TERMINAL_STATES):
            return
        self.status = self.status.model_copy(update={"state": advance(now, to)})
