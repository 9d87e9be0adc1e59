"""The job's log takes whatever it is told, and never hurts the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.clock import SystemClock
from batchpoint.domain import limits
from batchpoint.runner.job_log import JobLog


def test_names_that_are_no_utf8_are_written_escaped(tmp_path: Path) -> None:
    JobLog(tmp_path / "job.log", SystemClock())("cannot score a\udcff.txt\nat all")
    assert (tmp_path / "job.log").read_text().endswith("Z cannot score a\\udcff.txt at all\n")


def test_a_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_BYTES_PER_FILE_MAX", 1000)
    log = JobLog(tmp_path / "job.log", SystemClock())
    for number in range(100):
        log(f"line {number}")
    text = (tmp_path / "job.log").read_text()
    assert len(text) < 1200
    assert text.endswith("this log is full; what follows is left out\n")


def test_a_folder_that_went_away_is_no_trouble(tmp_path: Path) -> None:
    log = JobLog(tmp_path / "logs" / "job.log", SystemClock())
    (tmp_path / "logs").rmdir()
    log("nobody reads this")
    assert not (tmp_path / "logs").exists()
