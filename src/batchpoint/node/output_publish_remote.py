"""Puts finished files into an object store: the receipt is the commit mark, and comes last.

Files are written into the job's own folder first. What has begun to be uploaded is noted there
beforehand (`formats/publication_record.py`), so that the next try knows its own objects from those
of others. A claim in the store keeps two jobs from publishing into one folder, also where the store
ignores conditional writes: each job looks for the other's objects after it has put its claim, and
for the other's claim after it has put its objects. See docs/decisions/0005.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from batchpoint.domain.errors import Conflict, Invalid, Unavailable
from batchpoint.formats.durable import storage_error, sync_folder
from batchpoint.formats.layout import CLAIM, RECEIPT, JobFolder
from batchpoint.formats.publication_record import (
    OutputClaim,
    PublicationRecord,
    decode_claim,
    encode_claim,
    read_record,
    write_record,
)
from batchpoint.formats.receipt import ReceiptFile
from batchpoint.node.output_request import AssembleRequest
from batchpoint.node.output_writing import Step
from batchpoint.storage.store import Found, Location

_TRANSFERS_AT_ONCE = 4
# One more request per object tells our big objects from others without reading them back.
_ETAG_BYTES_MIN = 8 << 20
_GONE = ("input_unreadable", "input_changed")


class ReceiptOfFiles(Protocol):
    """What a receipt has to tell, whatever was done: whose it is, of what, and which files."""

    @property
    def job(self) -> str: ...
    @property
    def assembly(self) -> str: ...
    @property
    def files(self) -> list[ReceiptFile]: ...


R = TypeVar("R", bound=ReceiptOfFiles)


class RemoteTarget(NamedTuple):
    """Who publishes where: the folder `uri`, from the local folder `place`.

    `note` is the file in which the job remembers what it has begun. `created_at`: of the job.
    """

    job: str
    uri: str
    place: Path
    note: Path
    created_at: str = ""

    @classmethod
    def of(cls, request: AssembleRequest) -> RemoteTarget:
        """Return where the output of a job that scores goes."""
        folder = JobFolder(request.job_dir)
        return cls(
            request.job,
            request.output_uri,
            folder.work / "output",
            folder.publication,
            str(request.timings.get("created_at", "")),
        )


class RemotePublication(Generic[R]):
    """The way of one job's files into a folder of an object store; a `Publication`."""

    def __init__(
        self, target: RemoteTarget, location: Location, step: Step, decode: Callable[[bytes], R]
    ) -> None:
        """Publish below `location`; nothing is asked of the store yet.

        `decode` reads the receipt; it raises ValueError for anything else.
        """
        self.place = target.place
        self._note = target.note
        self._uri = target.uri.rstrip("/")
        self._store = location.store
        self._prefix = f"{location.path}/" if location.path else ""
        self._step = step
        self._decode = decode
        claim = OutputClaim(job=target.job, created_at=target.created_at)
        self._claim = encode_claim(claim)
        self._job = target.job
        self._etags: dict[str, str] = {}

    # --- the interface ------------------------------------------------------------------------

    def caught_up(self, assembly: str) -> R | None:
        """See `Publication`."""
        published = self._published(assembly)
        if published is not None:
            self._finish()
            return published
        record = read_record(self._note)
        if record is not None and record.assembly != assembly:
            self.withdraw()
            return None
        finished = self._written(assembly)
        if record is not None and finished is not None:
            self.publish(finished)
            return finished
        self._remove_local()
        return None

    def refuse_existing(self, names: set[str]) -> None:
        """See `Publication`; objects that this job has begun to upload are judged in `publish`."""
        record = read_record(self._note)
        if record is not None and record.uploading:
            return
        self._refuse(self._listing(names))

    def begin(self) -> Path:
        """See `Publication`."""
        self._remove_local()
        self.place.mkdir(parents=True)
        return self.place

    def publish(self, receipt: R) -> None:
        """See `Publication`."""
        body = (self.place / RECEIPT).read_bytes()
        mark = _mark_of(body)
        there = self._reserve(receipt, mark)
        self._upload_all([file for file in receipt.files if file.path not in there])
        self._verify(receipt)
        self._step("commit")
        if not self._store.put(self._prefix + RECEIPT, body, create=True):
            self._refuse({RECEIPT})
        self._step("published")
        self._finish()

    def pause(self) -> None:
        """See `Publication`."""
        if not self._note.exists():
            self._remove_local()

    def withdraw(self) -> None:
        """See `Publication`."""
        record = read_record(self._note)
        if record is not None:
            if record.uploading:
                self._delete_own(record.files)
            self._release()
            self._forget()
        self._remove_local()

    def take_back(self) -> None:
        """Remove what this job has published here, too, as long as it has told nobody of it.

        Raises: as `withdraw`.
        """
        self.withdraw()
        receipt, body = self._told(), self._read(RECEIPT)
        if receipt is not None and body is not None and receipt.job == self._job:
            self._delete_own([*receipt.files, _mark_of(body)])

    def is_published(self) -> bool:
        """Whether the receipt in the store is of this job, and the output whole."""
        receipt = self._told()
        return receipt is not None and self._published(receipt.assembly) is not None

    # --- before the first upload --------------------------------------------------------------

    def _reserve(self, receipt: R, mark: ReceiptFile) -> set[str]:
        """Make sure that nothing but this job's objects is in the way; returns those there."""
        files = [*receipt.files, mark]
        record = read_record(self._note)
        if record is not None and record.uploading and record.files[:-1] != receipt.files:
            self._delete_own(record.files)  # another version of batchpoint wrote other bytes
            record = None
        fresh = record is None or not record.uploading
        new = PublicationRecord(uri=self._uri, assembly=receipt.assembly)
        if fresh:
            self._step("note")
            write_record(self._note, new)
        self._step("claim")
        self._take_claim()
        listing = self._listing({file.path for file in files})
        named = {file.path: file for file in files if file.path in listing}
        own = set[str]()
        if not fresh:
            own = self._own(named.values(), listing)
        self._refuse(named.keys() - own)
        self._step("record")
        write_record(self._note, new.model_copy(update={"uploading": True, "files": files}))
        return own

    def _take_claim(self) -> None:
        """Keep other jobs out of the folder; raises Conflict when one is in there."""
        # Looked at before, because a store may replace it whatever is asked.
        there = self._read(CLAIM)
        if there == self._claim:
            return
        if there is not None or not self._store.put(self._prefix + CLAIM, self._claim, create=True):
            raise self._claimed(self._read(CLAIM))

    def _claimed(self, there: bytes | None) -> Conflict:
        claim = decode_claim(there or b"")
        who = f"job {claim.job!r}" if claim is not None else "another job"
        return Conflict(
            f"{who} publishes into {self._uri} at this time; choose another output folder, or, if "
            f"that job is no more, remove {self._uri}/{CLAIM} and run the job again",
            code="output_exists",
        )

    def _refuse(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            raise Conflict(
                f"{self._uri}/{name} exists already and was left as it is; choose another output "
                "folder, or remove the object and run the job again",
                code="output_exists",
            )

    # --- uploading and looking again ----------------------------------------------------------

    def _upload_all(self, files: list[ReceiptFile]) -> None:
        pool = ThreadPoolExecutor(_TRANSFERS_AT_ONCE, thread_name_prefix="upload")
        begun: deque[Future[None]] = deque()
        try:
            for file in files:
                self._step(f"upload:{file.path}")
                begun.append(pool.submit(self._upload, file))
                if len(begun) > _TRANSFERS_AT_ONCE:
                    begun.popleft().result()
            for each in begun:
                each.result()
        finally:
            # Uploads that go on behind our back could bring objects to life that were withdrawn.
            pool.shutdown(wait=True, cancel_futures=True)

    def _upload(self, file: ReceiptFile) -> None:
        source, key = self.place / file.path, self._prefix + file.path
        try:
            self._store.put_file(source, key)
        except OSError as error:
            raise storage_error(error, source) from error
        if file.size >= _ETAG_BYTES_MIN:
            found = self._store.find(key)
            if found is not None and found.size == file.size:
                self._etags[file.path] = found.etag

    def _verify(self, receipt: R) -> None:
        """Look whether everything is there and the folder still ours; raises when it is not."""
        self._step("verify")
        listing = self._listing({RECEIPT, *(file.path for file in receipt.files)})
        if RECEIPT in listing and not self._is_own(self._marked(), listing[RECEIPT]):
            self._refuse({RECEIPT})
        if (there := self._read(CLAIM)) != self._claim:
            raise self._claimed(there)
        for file in receipt.files:
            found = listing.get(file.path)
            if found is None or found.size != file.size:
                raise Unavailable(
                    f"{self._uri}/{file.path} was uploaded with {file.size:,} bytes and has "
                    f"{'none' if found is None else format(found.size, ',')}; somebody removes or "
                    "replaces objects there, or the store loses them",
                    code="storage_unavailable",
                )
            self._etags.setdefault(file.path, found.etag)

    def _marked(self) -> ReceiptFile:
        record = read_record(self._note)
        assert record is not None
        return record.files[-1]

    def _published(self, assembly: str) -> R | None:
        """Return the receipt in the store when it is of this output, and the output whole."""
        receipt = self._told()
        if receipt is None or (receipt.job, receipt.assembly) != (self._job, assembly):
            return None
        listing = self._listing({file.path for file in receipt.files})
        sizes = {name: found.size for name, found in listing.items()}
        return receipt if all(sizes.get(f.path) == f.size for f in receipt.files) else None

    # --- the end ------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Remove what nobody needs now that the output is complete."""
        # A claim that may not be deleted (`storage_denied`) harms nobody: the results are complete.
        with contextlib.suppress(Invalid):
            self._release()
        self._forget()
        self._remove_local()

    def _release(self) -> None:
        if self._read(CLAIM) == self._claim:
            self._store.delete(self._prefix + CLAIM)

    def _forget(self) -> None:
        if self._note.exists():
            self._note.unlink()
            sync_folder(self._note.parent)

    def _remove_local(self) -> None:
        if self.place.exists():
            shutil.rmtree(self.place)

    def _delete_own(self, files: list[ReceiptFile]) -> None:
        """Delete those objects that are this job's, the receipt (the last of them) first."""
        listing = self._listing({file.path for file in files})
        present = [file for file in files if file.path in listing]
        own = self._own(present, listing)
        if RECEIPT in own:
            self._store.delete(self._prefix + RECEIPT)
        keys = [self._prefix + name for name in sorted(own - {RECEIPT})]
        with ThreadPoolExecutor(_TRANSFERS_AT_ONCE, thread_name_prefix="delete") as pool:
            deque(pool.map(self._store.delete, keys), maxlen=0)

    # --- looking ------------------------------------------------------------------------------

    def _own(self, files: Iterable[ReceiptFile], listing: dict[str, Found]) -> set[str]:
        """Return the names of those files whose objects are this job's."""
        asked = list(files)
        with ThreadPoolExecutor(_TRANSFERS_AT_ONCE, thread_name_prefix="compare") as pool:
            told = pool.map(self._is_own, asked, (listing[file.path] for file in asked))
            return {file.path for file, own in zip(asked, told, strict=True) if own}

    def _is_own(self, file: ReceiptFile, found: Found) -> bool:
        """Whether an object has the content of a file of this job."""
        if found.size != file.size:
            return False
        if found.etag and self._etags.get(file.path) == found.etag:
            return True
        digest = hashlib.sha256()
        try:
            for chunk in self._store.stream(found.path, etag=found.etag):
                digest.update(chunk)
        except Invalid as error:
            if error.code in _GONE:
                return False
            raise
        return digest.hexdigest() == file.sha256

    def _listing(self, names: AbstractSet[str]) -> dict[str, Found]:
        """Return those objects that have one of these names; there may be millions of others."""
        start = len(self._prefix)
        pages = self._store.list(self._prefix, ordered=False)
        return {
            name: found for page in pages for found in page if (name := found.path[start:]) in names
        }

    def _read(self, name: str) -> bytes | None:
        """Return a small object; None when there is none."""
        found = self._store.find(self._prefix + name)
        try:
            return found and b"".join(self._store.stream(found.path, etag=found.etag))
        except Invalid as error:
            if error.code in _GONE:
                return None
            raise

    def _told(self) -> R | None:
        """Return the receipt in the store; None when there is none, or something else."""
        body = self._read(RECEIPT)
        try:
            return None if body is None else self._decode(body)
        except ValueError:
            return None

    def _written(self, assembly: str) -> R | None:
        """Return the receipt of the files that an earlier try has written, when all are there."""
        try:
            receipt = self._decode((self.place / RECEIPT).read_bytes())
            whole = all((self.place / f.path).stat().st_size == f.size for f in receipt.files)
        except (OSError, ValueError):
            return None
        return receipt if whole and receipt.assembly == assembly else None


def _mark_of(body: bytes) -> ReceiptFile:
    return ReceiptFile(path=RECEIPT, size=len(body), sha256=hashlib.sha256(body).hexdigest())
