"""Why a job ended without a result, in one sentence for people."""

from __future__ import annotations

from batchpoint.core.messages import AttemptError, Finish
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import ErrorInfo, JobSpec, Progress


def cause_of(finish: Finish, spec: JobSpec, progress: Progress) -> ErrorInfo:
    """Turn the decision to end a job as failed into the error that `job show` leads with."""
    error = finish.error
    return ErrorInfo(
        origin=error.origin if error is not None else _origin(finish.code),
        code=finish.code,
        message=_sentence(finish.code, spec, progress) + _because(error),
        type=error.type or None if error is not None else None,
        traceback=_short(error.traceback, limits.TRACEBACK_CHARS_MAX) if error else None,
        file=error.file or None if error is not None else None,
        row=error.row if error is not None and error.row >= 0 else None,
        line=error.line or None if error is not None else None,
        log=error.log or None if error is not None else None,
    )


def cause_from(error: BatchpointError) -> ErrorInfo:
    """Turn an error of our own that ended a job into what `job show` leads with."""
    if error.code.startswith("input_") or error.code in ("uri_invalid", "no_input_items"):
        origin = "input"
    elif error.code.startswith(("environment_", "interpreter_")):
        origin = "environment"
    elif error.code.startswith(("storage_", "ledger_")):
        origin = "storage"
    elif error.code.startswith("output_"):
        origin = "user"
    else:
        origin = "batchpoint"
    return ErrorInfo(origin=origin, code=error.code, message=str(error))


def _sentence(code: str, spec: JobSpec, progress: Progress) -> str:
    attempts = spec.settings.max_retries + 1
    match code:
        case "no_input_items":
            return (
                f"{spec.input.uri} holds no files; point --input at a file, or at a folder with "
                "files in it"
            )
        case "init_failed":
            what = "init() of the scoring script" if spec.code else "loading the model"
            return f"{what} failed in {attempts} fresh worker{'s' if attempts > 1 else ''}"
        case "error_threshold_exceeded":
            return (
                f"{progress.items_failed} items failed, and error_threshold allows "
                f"{spec.settings.error_threshold}"
            )
        case "nothing_scored":
            return f"none of the {progress.items_failed} items could be scored"
        case "systemic_failure":
            return "the first mini-batches all failed in the same way and nothing was scored"
        case "poison_mini_batch":
            return (
                f"a mini-batch was lost {limits.INFRASTRUCTURE_LOSSES_IN_A_ROW_MAX} times in a row "
                "with the worker or node that held it"
            )
        case _:
            return "the job could not be finished"


def _because(error: AttemptError | None) -> str:
    if error is None:
        return ""
    place = f" at {error.line}" if error.line else ""
    about = f" ({error.file}{f', row {error.row}' if error.row >= 0 else ''})" if error.file else ""
    kind = f"{error.type}: " if error.type else ""
    return f": {kind}{_short(error.message, 500)}{place}{about}"


def _origin(code: str) -> str:
    return {"no_input_items": "input", "poison_mini_batch": "batchpoint"}.get(code, "user")


def _short(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
