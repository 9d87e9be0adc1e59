"""The receipt beside the results: what was scored, with what, and what came out of it.

It is written last: where there is a receipt, the output is complete.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, ValidationError

from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.domain.model_shape import Noun

FORMAT = "batchpoint-receipt/1"
# The list of failed items is complete in `_failed_items.jsonl`; the receipt adds their attempts.
FAILURES_MAX = 100


class ReceiptItems(Noun):
    """Input items: `planned` = `scored` + `failed`, always."""

    planned: int
    scored: int
    failed: int


class ReceiptFile(Noun):
    """A published file: path below the output folder, size in bytes, hex sha256."""

    path: str
    size: int
    sha256: str


class ReceiptAttempt(Noun):
    """How one attempt at a task ended, and how long it took."""

    outcome: str
    seconds: float


class ReceiptFailure(Noun):
    """A failed item or row with the history of its attempts, where there is one."""

    name: str | None
    row: int | None = None
    type: str
    attempts: list[ReceiptAttempt] = Field(default_factory=list[ReceiptAttempt])


class Receipt(Noun):
    """Everything that is needed to say what an output is.

    `assembly` names the exact frames the output was made of. `source` and `settings` tell what was
    scored with what, by names and content hashes; values of environment variables are left out,
    they may be secret. `timings` holds moments (ISO 8601) and durations (seconds) by name.
    """

    format: Literal["batchpoint-receipt/1"] = FORMAT
    job: str
    batchpoint_version: str
    assembly: str
    source: dict[str, dict[str, str | list[str] | None]]
    settings: dict[str, object]
    items: ReceiptItems
    mini_batches: int
    rows: int
    failed_rows: int
    unattributed: int
    retries: int
    files: list[ReceiptFile]
    failures: list[ReceiptFailure]
    timings: dict[str, float | str]


def source_of(spec: ScoreSpec, inputs_hash: str) -> dict[str, dict[str, str | list[str] | None]]:
    """Name everything a job scored and scored with, by name and content hash.

    Args:
        spec: the job's specification.
        inputs_hash: hash over all slices of the manifest (`PlanTotals.inputs_hash`).
    """
    code, environment, model = spec.code, spec.environment, spec.model
    return {
        "endpoint": {"name": spec.endpoint_name},
        "deployment": {"name": spec.deployment_name},
        "model": {
            "name": model.name if model else None,
            "version": model.version if model else None,
            "type": model.type if model else None,
            "hash": model.hash if model else None,
        },
        "code": {
            "scoring_script": code.scoring_script if code else None,
            "hash": code.hash if code else None,
        },
        "environment": {
            "name": environment.name,
            "version": environment.version,
            "hash": environment.hash,
        },
        "input": {
            **spec.input.model_dump(mode="json", exclude_defaults=True),
            "hash": inputs_hash,
        },
    }


def settings_of(spec: ScoreSpec) -> dict[str, object]:
    """Return the effective settings, with the names but not the values of variables."""
    settings: dict[str, object] = spec.settings.model_dump(mode="json")
    settings["environment_variables"] = sorted(spec.settings.environment_variables)
    return settings


def encode(receipt: Receipt) -> bytes:
    """Return the receipt as indented JSON in UTF-8.

    Raises:
        UnicodeEncodeError: a text has lone surrogates in it; see `documents.readable`.
    """
    document = receipt.model_dump(mode="json")
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def decode(data: bytes) -> Receipt:
    """Read a receipt back; raises ValueError when it is not one."""
    try:
        return Receipt.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(f"this is not a receipt of batchpoint ({error})") from error
