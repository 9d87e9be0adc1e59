"""What a command's job notes about its outputs, for the next attempt; and its receipt in stores."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from batchpoint.domain.job import PublishedOutput
from batchpoint.domain.model_shape import Noun
from batchpoint.formats.durable import (
    damaged,
    read_whole,
    storage_error,
    temporary_of,
    write_durably,
)
from batchpoint.formats.receipt import ReceiptFile

RECEIPT_FORMAT = "batchpoint-command-receipt/1"


class PlacedEntry(Noun):
    """A file or folder that is renamed to `path`; its identity on the disk says that it is ours.

    `modified` is its time of modification in nanoseconds, which a rename leaves as it is.
    """

    path: str
    device: int
    inode: int
    modified: int


class PlacedObject(Noun):
    """An object that is written as the only one of an output; its content says that it is ours."""

    uri: str
    size: int
    sha256: str


class CommandRecord(Noun):
    """What an attempt has begun to publish: in the job's folder, written before the first step.

    `published` is set, once all is there, to what was: a later attempt has nothing to do then.
    `folders` were made to hold outputs, the deepest first: without those they are removed again.
    """

    version: Literal[1] = 1
    entries: list[PlacedEntry] = Field(default_factory=list[PlacedEntry])
    objects: list[PlacedObject] = Field(default_factory=list[PlacedObject])
    folders: list[str] = Field(default_factory=list[str])
    published: dict[str, PublishedOutput] | None = None


class CommandReceipt(Noun):
    """The object `_receipt.json` beside a step's output in a store: written last, of what is there.

    `assembly` names the attempt.
    """

    format: Literal["batchpoint-command-receipt/1"] = RECEIPT_FORMAT
    job: str
    output: str
    assembly: str
    files: list[ReceiptFile]


def write_command_record(path: Path, record: CommandRecord) -> None:
    """Write a record durably, in place of the one before; raises Unavailable."""
    write_durably(path, [record.model_dump_json().encode()])


def note_published(path: Path, record: CommandRecord) -> None:
    """Replace a record by one that says what was published; raises Unavailable.

    It need not outlive a power cut: the attempt is then made again, and takes back what is there.
    """
    temporary = temporary_of(path)
    try:
        temporary.write_bytes(record.model_dump_json().encode())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, path) from error


def read_command_record(path: Path) -> CommandRecord:
    """Read a record back; an empty one when there is none.

    Raises: Unavailable (`storage_unavailable`).
    """
    if not path.exists():
        return CommandRecord()
    try:
        return CommandRecord.model_validate_json(read_whole(path))
    except ValidationError as error:
        raise damaged(path, "it is not the record of a command") from error


def encode_command_receipt(receipt: CommandReceipt) -> bytes:
    """Return the receipt as indented JSON in UTF-8."""
    return (receipt.model_dump_json(indent=2) + "\n").encode()


def decode_command_receipt(data: bytes) -> CommandReceipt:
    """Read a receipt back; raises ValueError when it is not one of a command."""
    try:
        return CommandReceipt.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(f"this is not the receipt of a command ({error})") from error
