"""Why a pipeline or a step of it ended without a result, in one sentence for people."""

from __future__ import annotations

from batchpoint.domain.job import ErrorInfo


def pipeline_error(step: str, cause: ErrorInfo | None) -> ErrorInfo:
    """Return the error of a pipeline whose `step` failed: it leads with the cause of that."""
    if cause is None:
        cause = ErrorInfo(origin="user", code="canceled", message="it was canceled")
    return cause.model_copy(
        update={"code": "step_failed", "message": f"step {step!r}: {cause.message}"}
    )
