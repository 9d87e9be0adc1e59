"""Errors of batchpoint's own: a stable code, one sentence, retryable or not, and no HTTP in them.

    BatchpointError
    |-- Invalid        the caller's input is wrong (exit code 2)
    |-- NotFound       what was named does not exist (exit code 2)
    |-- Conflict       the state of the thing forbids it (exit code 2)
    |-- Denied         not allowed (exit code 5)
    |-- Unavailable    try again later; the only retryable family (exit code 5)
    `-- JobFailed      a job ended without a result (exit code 1)

Failures of user code are not here: they are data (`batchpoint.domain.job.ErrorInfo`).
"""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One of several things that are wrong: the field (`jobs.train.inputs.data`), a sentence."""

    where: str
    message: str
    code: str


class BatchpointError(Exception):
    """Base of all our errors. `code` is stable; `message` is one sentence for people."""

    code: str = "internal_error"
    retryable: bool = False

    def __init__(self, message: str, *, code: str | None = None, where: str | None = None) -> None:
        """Build from one sentence; `where` names file:line:column, field or URI."""
        super().__init__(f"{where}: {message}" if where else message)
        if code is not None:
            self.code = code
        self.where = where
        self.message = message
        # All that was found, when that is more than one thing; `message` tells it, too.
        self.findings: tuple[Finding, ...] = ()


class Invalid(BatchpointError, ValueError):
    """The caller's input is wrong.

    Also a ValueError, so that a noun's validators may raise it: pydantic then names the field and
    collects the other findings too (ValidationError).
    """

    code = "invalid"


class NotFound(BatchpointError):
    """What was named does not exist."""

    code = "not_found"


class Conflict(BatchpointError):
    """The present state of the thing forbids what was asked."""

    code = "conflict"


class Denied(BatchpointError):
    """The caller may not do this."""

    code = "denied"


class Unavailable(BatchpointError):
    """A part of the system cannot be reached now; trying again may help."""

    code = "unavailable"
    retryable = True


class JobFailed(BatchpointError):
    """A job ended without a result."""

    code = "job_failed"


FAMILIES: tuple[type[BatchpointError], ...] = (
    Invalid,
    NotFound,
    Conflict,
    Denied,
    Unavailable,
    JobFailed,
)

# Every stable code with its family; docs/errors.md has a heading for each (tests/test_docs.py).
CODES: dict[str, type[BatchpointError]] = {
    "internal_error": BatchpointError,
    "invalid": Invalid,
    "not_found": NotFound,
    "conflict": Conflict,
    "denied": Denied,
    "unavailable": Unavailable,
    "job_failed": JobFailed,
    # files and fields
    "yaml_invalid": Invalid,
    "field_invalid": Invalid,
    "field_unknown": Invalid,
    "field_unsupported": Invalid,
    "reference_invalid": Invalid,
    "uri_invalid": Invalid,
    "settings_invalid": Invalid,
    "query_invalid": Invalid,
    # resources
    "endpoint_not_found": NotFound,
    "deployment_not_found": NotFound,
    "component_not_found": NotFound,
    "model_not_found": NotFound,
    "environment_not_found": NotFound,
    "compute_not_found": NotFound,
    "data_not_found": NotFound,
    "code_not_found": NotFound,
    "datastore_not_found": NotFound,
    "job_not_found": NotFound,
    "output_not_found": NotFound,
    "upload_not_found": NotFound,
    "default_deployment_unset": Conflict,
    "deployment_in_use": Conflict,
    "endpoint_in_use": Conflict,
    "asset_immutable": Conflict,
    "asset_archived": Conflict,
    "datastore_in_use": Conflict,
    "idempotency_conflict": Conflict,
    "job_not_finished": Conflict,
    "output_exists": Conflict,
    "upload_corrupt": Invalid,
    # models, code, environments
    "model_invalid": Invalid,
    "scoring_script_invalid": Invalid,
    "environment_invalid": Invalid,
    "environment_unbuildable": Invalid,
    "interpreter_not_found": Invalid,
    # components and pipelines
    "component_invalid": Invalid,
    "pipeline_invalid": Invalid,
    "binding_invalid": Invalid,
    "input_missing": Invalid,
    "job_type_wrong": Invalid,
    # inputs
    "input_not_found": Invalid,
    "input_unreadable": Invalid,
    "input_changed": Invalid,
    "storage_denied": Invalid,
    "no_input_items": JobFailed,
    # ways in which a job fails
    "init_failed": JobFailed,
    "error_threshold_exceeded": JobFailed,
    "mini_batch_threshold_exceeded": JobFailed,
    "nothing_scored": JobFailed,
    "systemic_failure": JobFailed,
    "output_columns_reserved": JobFailed,
    "output_files_clash": JobFailed,
    # ways in which a step of a pipeline fails
    "command_failed": JobFailed,
    "command_timed_out": JobFailed,
    "output_missing": JobFailed,
    "step_canceled": JobFailed,
    "step_failed": JobFailed,
    "step_not_run": JobFailed,
    "storage_full": Unavailable,
    "storage_unavailable": Unavailable,
    "ledger_unavailable": Unavailable,
    "secrets_unreadable": Unavailable,
    "lease_lost": Unavailable,
    "server_unreachable": Unavailable,
    "runner_failed": Unavailable,
    "node_lost": Unavailable,
}


def error_from(code: str, message: str, where: str | None = None) -> BatchpointError:
    """Build the error of a known code (as read back from a problem document)."""
    return CODES.get(code, BatchpointError)(message, code=code, where=where)
