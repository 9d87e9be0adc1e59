"""Publishing: orders what is recorded and has the nodes write it where results appear."""

from __future__ import annotations

from array import array
from datetime import datetime

from batchpoint.core.assembly import RecordedFrames, order
from batchpoint.domain.job import Job, JobStatus
from batchpoint.formats.assembly_plan import AssemblyPlan, write_plan
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import read_segment, read_totals
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.output_request import AssembleRequest, Counts
from batchpoint.runner.progress import unpack


def write_assembly_plan(job: Job, folder: JobFolder, ledger: Ledger) -> Counts:
    """Write the order of all recorded frames and return what they count; blocking.

    Raises:
        BatchpointError: a place of the plan has no result, or two (`internal_error`).
        Unavailable: the disk is full or failing, or the ledger is.
    """
    recorded = RecordedFrames()
    failed: set[int] = set()
    rows = failed_rows = unattributed = 0
    for record in unpack(ledger.checkpoints(job.name)):
        recorded.add(record)
        failed.update(record.failed_items)
        rows += record.rows
        failed_rows += record.failed_rows
        unattributed += record.unattributed
    ordered = order(recorded, _slices(folder))
    write_plan(
        folder.assembly_plan,
        AssemblyPlan(job.name, ordered.parts, ordered.part, ordered.frame),
    )
    return Counts(rows, failed_rows, len(failed), unattributed)


def request_for(
    job: Job, status: JobStatus, folder: JobFolder, counted: Counts | None, now: datetime
) -> AssembleRequest:
    """Build the order to write the output of a job, or to withdraw what there is of it."""
    timings: dict[str, float | str] = {
        "created_at": job.created_at.isoformat(),
        "assembled_at": now.isoformat(),
        "runners": status.attempts,
    }
    if status.started_at is not None:
        timings["started_at"] = status.started_at.isoformat()
        timings["seconds"] = (now - status.started_at).total_seconds()
    return AssembleRequest(
        job=job.name,
        job_dir=folder.root,
        output_uri=job.scoring.output.uri,
        spec=job.scoring,
        counted=counted,
        retries=status.progress.retries,
        timings=timings,
    )


def _slices(folder: JobFolder) -> array[int]:
    """How many slices each mini-batch of the plan has."""
    counts = array("q")
    for index in range(read_totals(folder.plan_totals).segments):
        counts.extend(read_segment(folder.segment(index)).counts())
    return counts
