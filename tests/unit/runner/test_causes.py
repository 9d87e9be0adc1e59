"""Why a job ended: sentences that can be stored and that count right."""

from __future__ import annotations

import pytest

from batchpoint.core.messages import AttemptError, Finish
from batchpoint.domain.errors import Unavailable, error_from
from batchpoint.domain.job import JobStatus, Progress
from batchpoint.formats import documents
from batchpoint.runner import causes
from tests.unit.resolved_jobs import new_job

SPEC = new_job().scoring


def test_whatever_the_names_of_files_are_the_cause_can_be_stored() -> None:
    error = AttemptError("user", "k", "ValueError", "bad \udcff", "in \udcff", "\udcff.csv", 3)
    cause = causes.cause_of(Finish("failed", "systemic_failure", error), SPEC, Progress())
    assert JobStatus(error=cause, warnings=[documents.readable("\udcff")]).model_dump_json()
    assert cause.file == "\\udcff.csv"
    ours = causes.cause_from(Unavailable("cannot read \udcff", code="storage_unavailable"))
    assert JobStatus(error=ours).model_dump_json()
    assert ours.origin == "storage"


def test_one_is_not_many() -> None:
    def sentence(code: str, failed: int) -> str:
        return causes.cause_of(Finish("failed", code), SPEC, Progress(items_failed=failed)).message

    assert sentence("error_threshold_exceeded", 1).startswith("1 item failed, and")
    assert sentence("error_threshold_exceeded", 2).startswith("2 items failed, and")
    assert sentence("nothing_scored", 1) == "the only item could not be scored"
    assert sentence("nothing_scored", 7) == "none of the 7 items could be scored"


@pytest.mark.parametrize("code", ["asset_immutable", "model_invalid", "field_invalid"])
def test_what_cannot_be_registered_is_no_mistake_of_ours(code: str) -> None:
    error = error_from(code, "there is a version '7' already", "version")
    assert causes.cause_from(error).origin == "user"
