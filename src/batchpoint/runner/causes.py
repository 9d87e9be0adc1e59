"""Why a job ended without a result, in one sentence for people."""

from __future__ import annotations

from typing import Literal

from batchpoint.core.messages import AttemptError, Finish
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import ErrorInfo, Progress
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.formats.documents import readable

_Origin = Literal["user", "environment", "input", "storage", "batchpoint"]
_ORIGINS: dict[str, _Origin] = {"no_input_items": "input"}
_ORIGINS_OF_FAMILIES: dict[str, _Origin] = {
    "input": "input",
    "uri": "input",
    "environment": "environment",
    "interpreter": "environment",
    "storage": "storage",
    "ledger": "storage",
    "output": "user",
    # What a step wrote is not what it was to be registered as, or under a version that exists.
    "model": "user",
    "asset": "user",
    "field": "user",
}


def cause_of(finish: Finish, spec: ScoreSpec, progress: Progress) -> ErrorInfo:
    """Turn the decision to end a job as failed into the error that `job show` leads with."""
    error = finish.error
    message = readable(_sentence(finish.code, spec, progress) + _because(error))
    if error is None:
        origin = _ORIGINS.get(finish.code, "user")
        return ErrorInfo(origin=origin, code=finish.code, message=message)
    return ErrorInfo(
        origin=error.origin,
        code=finish.code,
        message=message,
        type=readable(error.type) or None,
        traceback=readable(_short(error.traceback, limits.TRACEBACK_CHARS_MAX)),
        file=readable(error.file) or None,
        row=error.row if error.row >= 0 else None,
        line=readable(error.line) or None,
        log=readable(error.log) or None,
    )


def cause_from(error: BatchpointError) -> ErrorInfo:
    """Turn an error of our own that ended a job into what `job show` leads with."""
    family = error.code.partition("_")[0]
    return ErrorInfo(
        origin=_ORIGINS_OF_FAMILIES.get(family, "batchpoint"),
        code=error.code,
        message=readable(str(error)),
    )


def _sentence(code: str, spec: ScoreSpec, progress: Progress) -> str:
    attempts = spec.settings.max_retries + 1
    loading = "init() of the scoring script" if spec.code else "loading the model"
    sentences = {
        "no_input_items": _nothing_listed(spec.input),
        "init_failed": f"{loading} failed in {attempts} fresh worker{'s'[: attempts - 1]}",
        "error_threshold_exceeded": f"{_items(progress.items_failed)} failed, and error_threshold "
        f"allows {spec.settings.error_threshold}",
        "mini_batch_threshold_exceeded": _too_many_mini_batches(spec),
        "nothing_scored": "the only item could not be scored"
        if progress.items_failed == 1
        else f"none of the {progress.items_failed} items could be scored",
        "systemic_failure": "the first mini-batches all failed in the same way and nothing was "
        "scored",
    }
    return sentences.get(code, "the job could not be finished")


def _too_many_mini_batches(spec: ScoreSpec) -> str:
    count, percent = (
        spec.settings.mini_batch_error_threshold,
        spec.settings.allowed_failed_percent,
    )
    allowed = [f"mini_batch_error_threshold {count}"] if count is not None and count >= 0 else []
    allowed += [f"--allowed_failed_percent {percent}"] if percent is not None else []
    return f"items failed in more mini-batches than {' or '.join(allowed)} allows"


def _nothing_listed(source: JobInput) -> str:
    if source.pattern:
        folder = source.model_copy(update={"pattern": None}).shown
        return (
            f"no file below {folder} matches the pattern {source.pattern!r}; `**/` before a name "
            "looks into all folders, upper and lower case differ"
        )
    return (
        f"{source.shown} holds no files; point --input at a file, or at a folder with files in it"
    )


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _because(error: AttemptError | None) -> str:
    if error is None:
        return ""
    place = f" at {error.line}" if error.line else ""
    about = f" ({error.file}{f', row {error.row}' if error.row >= 0 else ''})" if error.file else ""
    kind = f"{error.type}: " if error.type else ""
    return f": {kind}{_short(error.message, 500)}{place}{about}"


def _short(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
