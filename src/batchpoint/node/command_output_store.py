"""An output of a command in an object store: written to this node's disk, uploaded at the end."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath

from batchpoint.domain import limits
from batchpoint.domain.errors import Conflict, Invalid, JobFailed
from batchpoint.domain.job_spec import StepOutput
from batchpoint.formats.command_record import (
    CommandReceipt,
    CommandRecord,
    PlacedObject,
    decode_command_receipt,
    encode_command_receipt,
)
from batchpoint.formats.layout import CLAIM, RECEIPT
from batchpoint.formats.receipt import ReceiptFile
from batchpoint.node.output_links import settle_links
from batchpoint.node.output_publish_remote import RemotePublication, RemoteTarget
from batchpoint.node.output_writing import Step
from batchpoint.storage.content_identity import file_digest
from batchpoint.storage.local_listing import local_entries
from batchpoint.storage.locate import shown_of
from batchpoint.storage.store import Location

_RESERVED = frozenset({RECEIPT, CLAIM})
_GONE = ("input_unreadable", "input_changed")


class StoreFolderOutput:
    """The way of a folder into a store: claim, objects, receipt; a `CommandOutput`."""

    def __init__(
        self, name: str, location: Location, target: RemoteTarget, *, assembly: str, step: Step
    ) -> None:
        """Upload from the folder `target.place`, which the command fills."""
        self.name = name
        self._location = location
        self._target = target
        self._assembly = assembly
        self._publication = RemotePublication(target, location, step, decode_command_receipt)
        self._receipt: CommandReceipt | None = None
        self._begun = False
        self.bytes = 0

    @property
    def text(self) -> str:
        """The path that stands for the output in the command."""
        return str(self._target.place)

    def take_back(self, record: CommandRecord) -> None:  # noqa: ARG002 - it has notes of its own
        """See `CommandOutput`; also raises Unavailable, Invalid (`storage_denied`)."""
        if self._target.note.exists() or self._publication.is_published():
            self._publication.take_back()

    def prepare(self) -> None:
        """See `CommandOutput`."""
        self._target.note.parent.mkdir(parents=True, exist_ok=True)
        path = self._location.path
        pages = self._location.store.list(f"{path}/" if path else "", ordered=False)
        for page in pages:
            for found in page:
                raise _exists(f"{shown_of(self._target.uri)}: {found.path}", self.name)
        self._publication.begin()

    def check(self) -> None:
        """See `CommandOutput`."""
        place = self._target.place
        if place.is_symlink() or not place.is_dir():
            raise JobFailed(
                f"the command ended without an error, but output {self.name} is no folder any "
                f"more; write into the folder that ${{{{outputs.{self.name}}}}} stands for",
                code="output_missing",
            )
        settle_links(place, self.name)
        files = [
            ReceiptFile(
                path=_key(entry.below, self.name),
                size=entry.size,
                sha256=file_digest(Path(entry.path)).decode(),
            )
            for entry in local_entries(place)
            if entry.is_item
        ]
        self.bytes = sum(file.size for file in files)
        self._receipt = CommandReceipt(
            job=self._target.job, output=self.name, assembly=self._assembly, files=files
        )
        (place / RECEIPT).write_bytes(encode_command_receipt(self._receipt))

    def flush(self) -> None:
        """See `CommandOutput`: a store keeps what it has taken."""

    def note(self, record: CommandRecord) -> None:
        """See `CommandOutput`: it has notes of its own."""

    def publish(self) -> None:
        """See `CommandOutput`."""
        assert self._receipt is not None
        if self._begun and self._publication.is_published():
            self._publication.caught_up(self._assembly)
            return
        self._begun = True
        self._publication.publish(self._receipt)

    def settle(self) -> None:
        """See `CommandOutput`: a store keeps what it has taken."""

    def is_there(self, record: CommandRecord) -> bool:  # noqa: ARG002 - the receipt tells
        """See `CommandOutput`."""
        return self._publication.is_published()


class StoreFileOutput:
    """The way of one file into a store: a single write; a `CommandOutput`."""

    def __init__(
        self, name: str, declared: StepOutput, location: Location, folder: Path, *, step: Step
    ) -> None:
        """Upload a file that the command writes into `folder`, under the name it gets there."""
        self.name = name
        self._uri = declared.uri
        self._location = location
        self._folder = folder
        self._step = step
        self._placed: PlacedObject | None = None
        self._begun = False
        self._written = folder / (PurePosixPath(location.path).name or name)
        self.bytes = 0

    @property
    def text(self) -> str:
        """The path that stands for the output in the command."""
        return str(self._written)

    def take_back(self, record: CommandRecord) -> None:
        """See `CommandOutput`; also raises Unavailable, Invalid (`storage_denied`)."""
        for placed in record.objects:
            if placed.uri == self._uri and self._is_own(placed):
                self._location.store.delete(self._location.path)
        shutil.rmtree(self._folder, ignore_errors=True)

    def prepare(self) -> None:
        """See `CommandOutput`."""
        if self._location.store.find(self._location.path) is not None:
            raise _exists(shown_of(self._uri), self.name)
        self._folder.mkdir(parents=True)

    def check(self) -> None:
        """See `CommandOutput`."""
        if os.path.lexists(self._written):
            settle_links(self._written, self.name)
        if not self._written.is_file():
            what = "is a folder" if self._written.is_dir() else "was not written"
            raise JobFailed(
                f"the command ended without an error, but output {self.name} {what}; write a file "
                f"at the path that ${{{{outputs.{self.name}}}}} stands for",
                code="output_missing",
            )
        self.bytes = self._written.stat().st_size

    def flush(self) -> None:
        """See `CommandOutput`: a store keeps what it has taken."""

    def note(self, record: CommandRecord) -> None:
        """See `CommandOutput`."""
        sha256 = file_digest(self._written).decode()
        self._placed = PlacedObject(uri=self._uri, size=self.bytes, sha256=sha256)
        record.objects.append(self._placed)

    def publish(self) -> None:
        """See `CommandOutput`."""
        self._step(f"place:{self.name}")
        again, self._begun = self._begun, True
        store, key = self._location
        if self.bytes < limits.STORAGE_PART_BYTES_MIN:
            if not store.put(key, self._written.read_bytes(), create=True):
                self._refuse_unless(own=again)
        elif store.find(key) is not None:
            self._refuse_unless(own=again)
        else:
            store.put_file(self._written, key)
        self._step(f"placed:{self.name}")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _refuse_unless(self, *, own: bool) -> None:
        """Of a try before this one the store may have taken the file, and not have said so."""
        if not (own and self._placed is not None and self._is_own(self._placed)):
            raise _exists(shown_of(self._uri), self.name)

    def settle(self) -> None:
        """See `CommandOutput`: a store keeps what it has taken."""

    def is_there(self, record: CommandRecord) -> bool:
        """See `CommandOutput`."""
        return any(placed.uri == self._uri and self._is_own(placed) for placed in record.objects)

    def _is_own(self, placed: PlacedObject) -> bool:
        found = self._location.store.find(self._location.path)
        if found is None or found.size != placed.size:
            return False
        digest = hashlib.sha256()
        try:
            for chunk in self._location.store.stream(found.path, etag=found.etag):
                digest.update(chunk)
        except Invalid as error:
            if error.code in _GONE:
                return False
            raise
        return digest.hexdigest() == placed.sha256


def _key(below: str, output: str) -> str:
    if below in _RESERVED:
        raise JobFailed(
            f"output {output} holds a file {below}, a name that is ours in object stores; give it "
            "another name",
            code="output_missing",
        )
    try:
        below.encode()
    except UnicodeEncodeError:
        raise JobFailed(
            f"output {output} holds a file whose name is not UTF-8 ({below!r}), which no object "
            "can have; give it another name",
            code="output_missing",
        ) from None
    return below


def _exists(place: str, output: str) -> Conflict:
    return Conflict(
        f"{place} exists already and was left as it is; choose another place for output {output}, "
        "or remove it and run the job again",
        code="output_exists",
    )
