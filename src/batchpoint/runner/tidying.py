"""Tidying up after jobs that have ended: what nobody needs any more is deleted."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from batchpoint.domain import limits
from batchpoint.domain.errors import NotFound
from batchpoint.domain.job import TERMINAL_STATES, Job, JobState
from batchpoint.formats.durable import TEMPORARY_SUFFIX
from batchpoint.formats.layout import JobFolder, job_folder
from batchpoint.storage.tree_store import TreeStore


def tidy(job: Job, folder: JobFolder, now: datetime) -> None:
    """Delete what an ended job no longer needs; never raises for files that cannot be deleted.

    Scratch and half-written files go at once. Parts and harvested files go with the publication of
    the output; those of a failed or cancelled job are kept for `PARTS_KEPT_DAYS`, for a retry.
    Manifest and logs stay.
    """
    shutil.rmtree(folder.work, ignore_errors=True)
    kept = timedelta(days=limits.PARTS_KEPT_DAYS)
    ended = job.status.ended_at or now
    if job.status.state == JobState.COMPLETED or now - ended > kept:
        shutil.rmtree(folder.parts, ignore_errors=True)
        shutil.rmtree(folder.files, ignore_errors=True)
        _delete(folder.assembly_plan)
        return
    for path in folder.parts.glob(f"*{TEMPORARY_SUFFIX}"):
        _delete(path)


def tidy_all(home: Path, get_job: Callable[[str], Job], now: datetime) -> None:
    """Tidy up after every ended job of a home, and uploads that nobody finished; blocking."""
    TreeStore(home / "store").sweep((now - timedelta(days=1)).timestamp())
    for folder in _untidy(home):
        try:
            job = get_job(folder.root.name)
        except NotFound:
            continue  # not ours to judge
        if job.status.state in TERMINAL_STATES:
            tidy(job, folder, now)


def _untidy(home: Path) -> Iterator[JobFolder]:
    try:
        names = [path.name for path in (home / "jobs").iterdir()]
    except FileNotFoundError:
        return
    for name in names:
        folder = job_folder(home, name)
        if folder.work.exists() or folder.parts.exists() or folder.files.exists():
            yield folder


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
