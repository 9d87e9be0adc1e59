"""The outputs of a command: empty places to write to, and all of them published or none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from batchpoint.domain.component import DataType
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepOutput
from batchpoint.formats.command_record import (
    CommandRecord,
    note_published,
    read_command_record,
    write_command_record,
)
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import JobFolder
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.command_output_local import LocalOutput
from batchpoint.node.output_writing import Step
from batchpoint.storage.content_identity import content_identity
from batchpoint.storage.locate import local_path_of

# Reading more than that again only to name it is not worth the while.
_NAMED_BYTES_MAX = 64 << 30
_AT_ONCE = 8


class CommandOutput(Protocol):
    """One output that the command writes to this machine's disk. Blocking.

    The order of calls: `take_back`, `prepare`, the command, `check`, `note`, `flush`, `publish`,
    `settle`.
    """

    name: str
    bytes: int

    @property
    def text(self) -> str:
        """The path that stands for the output in the command."""
        ...

    def take_back(self, record: CommandRecord) -> None:
        """Remove what earlier attempts have left: half done, or placed and told to nobody.

        Raises: Unavailable, Invalid (`storage_denied`), OSError.
        """
        ...

    def prepare(self) -> None:
        """Have an empty place for the command to write to.

        Raises:
            Conflict: something is in the place of the output (`output_exists`).
            Unavailable, Invalid, OSError: the place cannot be looked at or written to.
        """
        ...

    def check(self) -> None:
        """Look at what the command has left, and make it fit to be published.

        Raises:
            JobFailed: it is not what the output is to be (`output_missing`).
            OSError: the disk.
        """
        ...

    def flush(self) -> None:
        """Have what was written on the disk, before it becomes the output; raises OSError."""
        ...

    def note(self, record: CommandRecord) -> None:
        """Note by what the output will be known as ours."""
        ...

    def publish(self) -> None:
        """Make what was written the output; after Unavailable it may be called again.

        Raises:
            Conflict: somebody has put something into its place meanwhile (`output_exists`).
            Unavailable, Invalid, OSError: the place cannot be written to.
        """
        ...

    def settle(self) -> None:
        """Have the output outlive a power cut; raises OSError."""
        ...

    def is_there(self, record: CommandRecord) -> bool:
        """Whether all that was published is still there."""
        ...


Patience = Callable[[BatchpointError], bool]


def _go_on(_: str) -> None:
    pass


def _give_up(_: BatchpointError) -> bool:
    return False


class CommandOutputs:
    """The outputs of one attempt at a command; blocking, used by one thread at a time."""

    def __init__(self, order: CommandOrder, scratch: Path, step: Step = _go_on) -> None:
        """Outputs for stores are written below `scratch` first.

        Raises: Invalid (`uri_invalid`, `reference_invalid`), NotFound (`datastore_not_found`).
        """
        self._access: StorageAccess = order.access
        self._path = JobFolder(order.job_dir).command_record
        self._step = step
        declared = order.spec.step.outputs if order.spec.step is not None else {}
        self._declared = declared
        self._outputs = [
            _output(order, name, each, scratch, step)
            for name, each in declared.items()
            if each.mode != "direct"
        ]

    def earlier(self) -> dict[str, PublishedOutput] | None:
        """Return what an earlier attempt has published, if it came so far and all is still there.

        Raises: Unavailable, Invalid: nobody can tell now.
        """
        record = read_command_record(self._path)
        if record.published is None or not all(each.is_there(record) for each in self._outputs):
            return None
        return record.published

    def texts(self) -> dict[str, str]:
        """Return what stands for each output in the command: a path, or the URI where `direct`."""
        direct = {name: each.uri for name, each in self._declared.items() if each.mode == "direct"}
        return direct | {each.name: each.text for each in self._outputs}

    def prepare(self) -> None:
        """Clean up after earlier attempts, and have empty places to write to.

        Raises: as `CommandOutput.prepare`, but Unavailable in place of OSError.
        """
        self.withdraw()
        for each in self._outputs:
            _told(each, each.prepare)

    def publish(self, patience: Patience = _give_up) -> dict[str, PublishedOutput]:
        """Publish all outputs; after an error nothing is published.

        `patience` is asked when storage cannot take an output now; it waits, and says whether to
        try again.

        Raises:
            JobFailed: an output is not there (`output_missing`).
            Conflict: something is in the place of one (`output_exists`).
            Unavailable, Invalid: a place cannot be written to.
        """
        record = CommandRecord()
        try:
            for each in self._outputs:
                self._step(f"check:{each.name}")
                _told(each, each.check)
                _told(each, partial(each.note, record))
            if self._outputs:
                self._on_disk(record, patience)
            for each in self._outputs:
                _patiently(partial(_told, each, each.publish), patience)
            self._together(CommandOutput.settle)
            published = {name: self._published(name, each) for name, each in self._declared.items()}
            if self._outputs:
                self._step("done")
                done = record.model_copy(update={"published": published})
                _patiently(partial(note_published, self._path, done), patience)
        except BatchpointError:
            self.withdraw()
            raise
        return published

    def withdraw(self) -> None:
        """Remove all that attempts have left, half done or placed; nothing of anybody else.

        Raises: Unavailable, Invalid (`storage_denied`): it could not be removed.
        """
        record = read_command_record(self._path)
        for each in reversed(self._outputs):  # the first has made the folders above
            _told(each, partial(each.take_back, record))
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _on_disk(self, record: CommandRecord, patience: Patience) -> None:
        """Flush outputs and the record at a time: it takes a disk no longer than one of them."""
        self._step("record")
        with ThreadPoolExecutor(1, thread_name_prefix="record") as beside:
            write = partial(write_command_record, self._path, record)
            writing = beside.submit(_patiently, write, patience)
            self._together(CommandOutput.flush)
            writing.result()

    def _together(self, work: Callable[[CommandOutput], None]) -> None:
        if len(self._outputs) <= 1:
            for each in self._outputs:
                _told(each, partial(work, each))
            return
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="outputs") as threads:
            begun = [threads.submit(_told, each, partial(work, each)) for each in self._outputs]
            for each in begun:
                each.result()

    def _published(self, name: str, declared: StepOutput) -> PublishedOutput:
        told = PublishedOutput(type=declared.type, uri=declared.uri)
        size = next((each.bytes for each in self._outputs if each.name == name), None)
        if size is None or size > _NAMED_BYTES_MAX:
            return told
        return told.model_copy(update={"hash": self._identity(declared.type, declared.uri)})

    def _identity(self, kind: DataType, uri: str) -> str | None:
        try:
            return content_identity(JobInput(type=kind, uri=uri), self._access) or None
        except BatchpointError:
            return None  # it is published all the same


def _patiently(work: Callable[[], None], patience: Patience) -> None:
    while True:
        try:
            work()
        except BatchpointError as error:
            if not error.retryable or not patience(error):
                raise
        else:
            return


def _told(about: CommandOutput, work: Callable[[], None]) -> None:
    """Do something for an output; what the operating system says about it becomes ours."""
    try:
        work()
    except OSError as error:
        raise storage_error(error, Path(about.text)) from error


def _output(
    order: CommandOrder, name: str, declared: StepOutput, scratch: Path, step: Step
) -> CommandOutput:
    local = local_path_of(declared.uri, order.access)
    if local is not None:
        parent = order.spec.step.parent if order.spec.step is not None else ""
        return LocalOutput(name, declared, local, job=order.job, parent=parent, step=step)
    # Only commands that write to object stores pay for their client.
    from batchpoint.node.command_output_store import (  # noqa: PLC0415
        StoreFileOutput,
        StoreFolderOutput,
    )
    from batchpoint.node.output_publish_remote import RemoteTarget  # noqa: PLC0415
    from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

    location = ObjectLocations(order.access).at(declared.uri)
    folder = scratch / "outputs" / name
    if declared.type == "uri_file":
        return StoreFileOutput(name, declared, location, folder, step=step)
    note = JobFolder(order.job_dir).output_publication(name)
    target = RemoteTarget(order.job, declared.uri, folder, note)
    return StoreFolderOutput(
        name, location, target, assembly=f"{order.job}/{order.attempt}", step=step
    )
