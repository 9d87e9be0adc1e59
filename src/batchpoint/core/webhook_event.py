"""The message that tells of a job's end: its body, its signature, and when it is tried again.

As the Standard Webhooks specification has them, so that any of its libraries can verify it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import UTC, datetime

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Job, JobState, JobStatus, Progress
from batchpoint.domain.job_spec import PipelineSpec

SECRET_PREFIX = "whsec_"  # noqa: S105  # how a secret begins that is given as base64
_TYPES = {
    JobState.COMPLETED: "job.completed",
    JobState.FAILED: "job.failed",
    JobState.CANCELED: "job.canceled",
}
_BACKOFF_SECONDS_MAX = 3_600.0


def message_id(job: str, created_at: datetime) -> str:
    """Name the one message of a job: the same at every try, and in no other home."""
    digest = hashlib.sha256(f"{job}\0{created_at.isoformat()}".encode()).hexdigest()
    return f"msg_{digest[:32]}"


def message_body(job: Job) -> bytes:
    """Return the body of the message about a job that has ended: the same bytes at every try."""
    spec, status, progress = job.spec, job.status, job.status.progress
    ended = status.ended_at or job.created_at
    error = status.error
    is_pipeline = isinstance(spec, PipelineSpec)
    message = {
        "type": _TYPES[status.state],
        "timestamp": ended.isoformat(),
        "data": {
            "job": job.name,
            "endpoint": spec.endpoint_name,
            "deployment": spec.deployment_name,
            "state": status.state.value,
            "counts": {
                "items": progress.items_total,
                "items_scored": progress.items_done - progress.items_failed,
                "items_failed": progress.items_failed,
                "rows": progress.rows_done,
                "rows_failed": progress.rows_failed,
                **(_steps(progress) if is_pipeline else {}),
            },
            "error": None
            if error is None
            else {"origin": error.origin, "code": error.code, "message": error.message},
            "output_uri": status.output_uri,
            **({"outputs": _outputs(status)} if is_pipeline else {}),
            "experiment_name": spec.experiment_name,
            "tags": dict(spec.tags),
            "created_at": job.created_at.isoformat(),
            "started_at": None if status.started_at is None else status.started_at.isoformat(),
            "ended_at": ended.isoformat(),
        },
    }
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()


def _steps(progress: Progress) -> dict[str, int]:
    return {
        "steps": progress.steps_total,
        "steps_done": progress.steps_done,
        "steps_failed": progress.steps_failed,
        "steps_canceled": progress.steps_canceled,
    }


def _outputs(status: JobStatus) -> dict[str, dict[str, str | None]]:
    return {
        name: {"type": output.type, "uri": output.uri, "asset": output.asset}
        for name, output in status.outputs.items()
    }


def message_headers(
    identity: str, body: bytes, now_seconds: int, key: bytes | None
) -> dict[str, str]:
    """Return the headers of one try; with a `key` the message is signed."""
    headers = {
        "content-type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(now_seconds),
    }
    if key is not None:
        import hmac  # noqa: PLC0415  # only who sends messages needs it

        signed = b".".join((identity.encode(), str(now_seconds).encode(), body))
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def signing_key(secret: str) -> bytes:
    """Return the key of a secret: base64 after `whsec_`, else the text's own bytes.

    Raises: Invalid (`settings_invalid`), without repeating the secret.
    """
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise Invalid(
            f"expected base64 after {SECRET_PREFIX!r}",
            code="settings_invalid",
            where="webhook_secret",
        ) from error


def backoff_seconds(attempts: int, chance: float) -> float:
    """Return how long to wait after so many tries; `chance` (0 to 1) spreads those of many jobs."""
    return min(_BACKOFF_SECONDS_MAX, 2.0 ** min(attempts, 12)) * (0.5 + chance / 2)


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """Read `Retry-After`: seconds or a date; None when there is none that can be read."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  # slow, and seldom needed

    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
