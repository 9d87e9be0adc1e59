"""What a job notes about itself while it publishes into an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from batchpoint.domain.model_shape import Noun
from batchpoint.formats.durable import damaged, read_whole, write_durably
from batchpoint.formats.receipt import ReceiptFile


class PublicationRecord(Noun):
    """Which output a job has begun to publish: in the job's folder, as long as that lasts.

    It is written before the claim is put into the store. `uploading` comes later, when none of
    `files` (the receipt among them) was there: what has their content from then on is this job's.
    """

    version: Literal[1] = 1
    uri: str
    assembly: str
    uploading: bool = False
    files: list[ReceiptFile] = Field(default_factory=list[ReceiptFile])


class OutputClaim(Noun):
    """The object that says which job is publishing into a folder of an object store."""

    format: Literal["batchpoint-claim/1"] = "batchpoint-claim/1"
    job: str
    created_at: str


def write_record(path: Path, record: PublicationRecord) -> None:
    """Write a record durably, in place of the one before; raises Unavailable."""
    write_durably(path, [record.model_dump_json().encode()])


def read_record(path: Path) -> PublicationRecord | None:
    """Read a record back; None when there is none. Raises: Unavailable (`storage_unavailable`)."""
    if not path.exists():
        return None
    try:
        return PublicationRecord.model_validate_json(read_whole(path))
    except ValidationError as error:
        raise damaged(path, "it is not the record of a publication") from error


def encode_claim(claim: OutputClaim) -> bytes:
    """Return the claim as a line of JSON."""
    return claim.model_dump_json().encode() + b"\n"


def decode_claim(data: bytes) -> OutputClaim | None:
    """Read a claim back; None when it is something else."""
    try:
        return OutputClaim.model_validate_json(data)
    except ValidationError:
        return None
