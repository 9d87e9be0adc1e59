"""Receipts: read back as written, never with the values of variables."""

import json

import pytest

from batchpoint.domain.job_pointers import JobInput
from batchpoint.formats import receipt as receipts
from batchpoint.formats.documents import readable
from batchpoint.formats.receipt import (
    Receipt,
    ReceiptAttempt,
    ReceiptFailure,
    ReceiptFile,
    ReceiptItems,
)
from tests.unit.resolved_jobs import new_job


def a_receipt() -> Receipt:
    spec = new_job().scoring
    return Receipt(
        job="heart-1",
        batchpoint_version="0.1.0",
        assembly="ff" * 32,
        source=receipts.source_of(spec, "ab" * 32),
        settings=receipts.settings_of(spec),
        items=ReceiptItems(planned=3, scored=2, failed=1),
        mini_batches=2,
        rows=20,
        failed_rows=1,
        unattributed=0,
        retries=3,
        files=[ReceiptFile(path="predictions.csv", size=10, sha256="cd" * 32)],
        failures=[
            ReceiptFailure(
                name=readable("ä\udc80.csv"),
                type="ValueError",
                attempts=[ReceiptAttempt(outcome="crashed", seconds=0.25)],
            )
        ],
        timings={"started_at": "2026-05-04T12:00:00+00:00", "seconds": 12.5},
    )


def test_a_receipt_is_read_back():
    assert receipts.decode(receipts.encode(a_receipt())) == a_receipt()


def test_names_that_are_not_unicode_do_not_break_it():
    assert a_receipt().failures[0].name == "ä\\udc80.csv"
    json.loads(receipts.encode(a_receipt()))


def test_values_of_variables_are_left_out():
    spec = new_job().scoring
    settings = spec.settings.model_copy(update={"environment_variables": {"KEY": "hunter2"}})
    told = receipts.settings_of(spec.model_copy(update={"settings": settings}))
    assert told["environment_variables"] == ["KEY"]
    assert "hunter2" not in str(told)


def test_a_model_without_code_has_no_code():
    spec = new_job().scoring.model_copy(update={"code": None})
    assert receipts.source_of(spec, "")["code"] == {"scoring_script": None, "hash": None}


def test_several_inputs_are_all_told():
    several = JobInput(type="uri_file", uris=("file:///a.csv", "s3://b/c.csv"))
    spec = new_job().scoring.model_copy(update={"input": several})
    receipt = a_receipt().model_copy(update={"source": receipts.source_of(spec, "ab" * 32)})
    read = receipts.decode(receipts.encode(receipt))
    assert read.source["input"]["uris"] == ["file:///a.csv", "s3://b/c.csv"]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"format":"other/1"}'])
def test_other_files_are_not_receipts(data):
    with pytest.raises(ValueError, match="not a receipt"):
        receipts.decode(data)
