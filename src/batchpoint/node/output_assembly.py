"""Writes the output of a job: complete or absent, the same bytes after any number of kills."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Generator
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from batchpoint.core.assembly import Column
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable, error_from
from batchpoint.formats import receipt as receipts
from batchpoint.formats.assembly_plan import read_plan
from batchpoint.formats.durable import damaged, storage_error, sync_folder, write_fully
from batchpoint.formats.frame_table import Schema
from batchpoint.formats.layout import FAILED_ITEMS, RECEIPT, JobFolder
from batchpoint.formats.manifest import PlanTotals, read_totals
from batchpoint.formats.receipt import Receipt, ReceiptFile, ReceiptItems
from batchpoint.node.output_failures import FailureList
from batchpoint.node.output_frames import Frame, OutputFrames
from batchpoint.node.output_harvest import HarvestedFiles
from batchpoint.node.output_parquet import write_parquet
from batchpoint.node.output_publish import Publication, publication_for
from batchpoint.node.output_request import AssembledOutput, AssembleRequest, Counts
from batchpoint.node.output_text import csv_anew, csv_header, fits, jsonl_anew
from batchpoint.node.output_writing import OutputFile, Step
from batchpoint.node.worker_launch import render_of

_RECEIPT_BYTES = 64 * 1024


_NO_DATASTORES = StorageAccess()


def _go_on(_: str) -> None:
    """Pass every step."""


def assemble(
    request: AssembleRequest,
    step: Step = _go_on,
    *,
    access: StorageAccess = _NO_DATASTORES,
) -> AssembledOutput:
    """Write a job's output from its parts and publish it; blocking, run it in a thread.

    May be called again after any failure or kill: an output that is already published is found and
    described again, a half-written one is written anew.

    Args:
        request: which job, and where to.
        step: called with the name of each step; raising there stops the assembly.
        access: the datastores that an output in an object store needs.

    Raises:
        Conflict: a file of the output exists already (`output_exists`); nothing was touched.
        Invalid: the store does not allow it (`storage_denied`).
        JobFailed: files that scripts wrote clash (`output_files_clash`).
        Invalid: there is no pyarrow to write Parquet with (`environment_invalid`).
        Unavailable: the disk is full (`storage_full`), something cannot be read or is damaged
            (`storage_unavailable`), or another node is assembling the job at this moment.
        BatchpointError: the parts do not come to what the runner counted (`internal_error`).
    """
    folder = JobFolder(request.job_dir)
    plan = read_plan(folder.assembly_plan)
    totals = read_totals(folder.plan_totals)
    with _alone(request.job_dir), OutputFrames(folder, plan) as frames:
        assembly = _identity(request, frames)
        publication = publication_for(request, access, step)
        work = _Assembly(request, folder, frames, totals, step)
        try:
            published = publication.caught_up(assembly)
            if published is None:
                published = work.run(publication, assembly)
        except OSError as error:
            with contextlib.suppress(OSError):
                publication.pause()
            raise storage_error(error, publication.place, work.bytes_needed) from error
        except BatchpointError as error:
            _step_back(publication, error)
            raise
    return _answer(request, published)


def withdraw(request: AssembleRequest, access: StorageAccess) -> None:
    """Remove what an output that will not be completed has left; blocking.

    Raises:
        Unavailable: it cannot be removed now, or another process is still writing it.
        Invalid: the store does not allow it (`storage_denied`).
    """
    with _alone(request.job_dir):
        publication = publication_for(request, access, _go_on)
        try:
            publication.withdraw()
        except OSError as error:
            raise storage_error(error, publication.place) from error


def _step_back(publication: Publication, error: BatchpointError) -> None:
    """Leave nothing behind after a failure; after a trouble that may pass only what helps."""
    with contextlib.suppress(OSError):
        if error.retryable:
            publication.pause()
            return
        try:
            publication.withdraw()
        except BatchpointError as left:
            raise error_from(
                error.code,
                f"{error.message}; and what was uploaded until then could not be deleted: "
                f"{left.message}",
                error.where,
            ) from error


@contextlib.contextmanager
def _alone(job_dir: Path) -> Generator[None]:
    """Keep a second assembly of the job out, such as one of a node thought to be lost."""
    try:
        fd = os.open(job_dir, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, job_dir) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"another process is writing the output of the job in {job_dir}; this one can try "
                "again when that has ended"
            ) from error
        yield
    finally:
        os.close(fd)


def _identity(request: AssembleRequest, frames: OutputFrames) -> str:
    """Name the exact content of the output: what is assembled, in which order, and how."""
    spec = json.dumps(request.spec.model_dump(mode="json")).encode("ascii")
    return hashlib.sha256(spec + frames.fingerprint()).hexdigest()


class _Assembly:
    """One run from parts to a published output."""

    def __init__(
        self,
        request: AssembleRequest,
        folder: JobFolder,
        frames: OutputFrames,
        totals: PlanTotals,
        step: Step,
    ) -> None:
        self._request = request
        self._folder = folder
        self._frames = frames
        self._totals = totals
        self._step = step
        self._render = render_of(request.spec.settings)
        self._predictions = _predictions_name(request)
        self.bytes_needed = 0

    def run(self, publication: Publication, assembly: str) -> Receipt:
        """Write everything, the receipt last, and publish it."""
        frames = self._frames
        columns = frames.columns()
        harvested = HarvestedFiles(self._folder, frames)
        ours = {FAILED_ITEMS, RECEIPT, self._predictions or RECEIPT}
        harvested.refuse(ours)
        publication.refuse_existing(ours | set(harvested.sources))
        self.bytes_needed = (
            frames.total("length")
            + frames.total("failures_length")
            + harvested.size
            + _RECEIPT_BYTES
        )
        temporary = publication.begin()
        self._step("begin")
        files, failures = self._write_rows(temporary, columns)
        self._step("rows")
        files += harvested.write(temporary, self._step)
        self._step("files")
        receipt = self._receipt(assembly, files, failures)
        self._write_receipt(temporary, receipt)
        self._step("receipt")
        publication.publish(receipt)
        self._step("done")
        return receipt

    def _write_rows(
        self, temporary: Path, columns: tuple[Column, ...]
    ) -> tuple[list[ReceiptFile], FailureList]:
        """Write predictions and the list of failed items in one pass over the parts."""
        files: list[ReceiptFile] = []
        with OutputFile(temporary / FAILED_ITEMS, self._step) as failed:
            failures = FailureList(failed, self._folder)
            if self._render in ("none", "arrow"):
                for frame in self._frames.failing():
                    failures.take(frame)
            else:
                with OutputFile(temporary / self._predictions, self._step) as rows:
                    self._write_text(rows, columns, failures)
                    files.append(rows.finish(self._predictions))
            files.append(failed.finish(FAILED_ITEMS))
        if self._render == "arrow":
            python = self._request.spec.environment.python
            target = temporary / self._predictions
            files.insert(0, write_parquet(self._frames, columns, target, python))
        return files, failures

    def _write_text(
        self, out: OutputFile, columns: tuple[Column, ...], failures: FailureList
    ) -> None:
        """Write the header and the rows of all frames."""
        if self._render == "csv" and columns:
            out.write(csv_header(columns))
        fitting: dict[Schema, bool] = {}
        for frame in self._frames:
            if frame.rows:
                schema = frame.schema
                fit = fitting.get(schema)
                if fit is None:
                    if schema.encoding != self._render:
                        raise damaged(frame.path, f"its rows are not {self._render}")
                    fit = fitting[schema] = fits(self._render, schema.columns, columns)
                out.write(frame.rows if fit else self._anew(frame, columns))
            if frame.failures or frame.table.unattributed[frame.ordinal]:
                failures.take(frame)

    def _anew(self, frame: Frame, columns: tuple[Column, ...]) -> bytes:
        render = csv_anew if self._render == "csv" else jsonl_anew
        try:
            return render(str(frame.rows, "utf-8"), frame.schema.columns, columns)
        except ValueError as error:
            raise damaged(frame.path, f"rows of frame {frame.ordinal}: {error}") from error

    def _receipt(self, assembly: str, files: list[ReceiptFile], failures: FailureList) -> Receipt:
        """Draw up the receipt; raises BatchpointError when the sums do not come out."""
        request, frames, totals = self._request, self._frames, self._totals
        found = Counts(
            rows=frames.total("rows"),
            failed_rows=frames.total("failed_rows"),
            failed_items=len(failures.items),
            unattributed=failures.unattributed,
        )
        if request.counted is not None and found != request.counted:
            raise BatchpointError(
                f"the output was not published: its parts hold {found}, but the runner counted "
                f"{request.counted}; this is a defect of batchpoint, please report it"
            )
        failed = min(totals.items, found.failed_items + found.unattributed)
        items = ReceiptItems(planned=totals.items, scored=totals.items - failed, failed=failed)
        assert items.planned == items.scored + items.failed
        assert max(failures.items, default=-1) < totals.items
        return Receipt(
            job=request.job,
            batchpoint_version=version("batchpoint"),
            assembly=assembly,
            source=receipts.source_of(request.spec, totals.inputs_hash),
            settings=receipts.settings_of(request.spec),
            items=items,
            mini_batches=totals.mini_batches,
            rows=found.rows,
            failed_rows=found.failed_rows,
            unattributed=found.unattributed,
            retries=request.retries,
            files=files,
            failures=failures.first,
            timings=dict(request.timings),
        )

    def _write_receipt(self, temporary: Path, receipt: Receipt) -> None:
        fd = os.open(temporary / RECEIPT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_fully(fd, receipts.encode(receipt))
            os.fsync(fd)
        finally:
            os.close(fd)
        sync_folder(temporary)


def _predictions_name(request: AssembleRequest) -> str:
    """The name of the file with the rows; empty when there is none."""
    settings = request.spec.settings
    if settings.output_action == "summary_only":
        return ""
    name = settings.output_file_name
    if PurePosixPath(name).name != name or name in ("", "..", FAILED_ITEMS, RECEIPT):
        raise Invalid(
            f"output_file_name {name!r} cannot name a file in the output folder; choose a plain "
            "file name such as predictions.csv",
            code="field_invalid",
        )
    return name


def _answer(request: AssembleRequest, receipt: Receipt) -> AssembledOutput:
    return AssembledOutput(
        output_uri=request.output_uri,
        predictions=_predictions_name(request),
        items=receipt.items.planned,
        scored=receipt.items.scored,
        failed=receipt.items.failed,
        rows=receipt.rows,
        failed_rows=receipt.failed_rows,
        unattributed=receipt.unattributed,
        files=tuple(receipt.files),
    )
