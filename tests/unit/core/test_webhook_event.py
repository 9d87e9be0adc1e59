"""Messages follow the Standard Webhooks specification, and are the same bytes at every try."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.webhook_event import (
    backoff_seconds,
    message_body,
    message_headers,
    message_id,
    retry_after_seconds,
    signing_key,
)
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import ErrorInfo, JobState, JobStatus, Progress, PublishedOutput
from tests.unit.resolved_jobs import NOON, new_job
from tests.unit.resolved_pipelines import pipeline


def test_the_body_tells_what_became_of_the_job() -> None:
    progress = Progress(items_total=5, items_done=5, items_failed=2, rows_done=9, rows_failed=1)
    error = ErrorInfo(origin="user", code="ValueError", message="no", traceback="secret code")
    status = JobStatus(
        state=JobState.FAILED, progress=progress, error=error, ended_at=NOON + timedelta(hours=1)
    )
    job = new_job().model_copy(update={"status": status})
    body = message_body(job)
    assert body == message_body(job)
    told = json.loads(body)
    assert (told["type"], told["timestamp"]) == ("job.failed", "2026-05-04T13:00:00.123456+00:00")
    data = told["data"]
    assert (data["job"], data["endpoint"], data["deployment"]) == (job.name, "heart", "first")
    assert data["counts"] == {
        "items": 5,
        "items_scored": 3,
        "items_failed": 2,
        "rows": 9,
        "rows_failed": 1,
    }
    assert data["error"] == {"origin": "user", "code": "ValueError", "message": "no"}
    assert (data["state"], data["output_uri"]) == ("Failed", None)


def test_of_a_pipeline_it_tells_of_steps_and_outputs() -> None:
    model = PublishedOutput(type="custom_model", uri="file:///m", asset="azureml:m:1")
    progress = Progress(steps_total=4, steps_done=2, steps_failed=1, steps_canceled=1)
    status = JobStatus(state=JobState.FAILED, progress=progress, outputs={"model": model})
    job = pipeline("flow", [])
    data = json.loads(message_body(job.model_copy(update={"status": status})))["data"]
    assert data["outputs"] == {
        "model": {"type": "custom_model", "uri": "file:///m", "asset": "azureml:m:1"}
    }
    told = {name: count for name, count in data["counts"].items() if name.startswith("steps")}
    assert told == {"steps": 4, "steps_done": 2, "steps_failed": 1, "steps_canceled": 1}
    scored = json.loads(message_body(new_job().model_copy(update={"status": status})))
    assert "outputs" not in scored["data"]


def test_each_end_has_its_type() -> None:
    for state, name in (("Completed", "completed"), ("Canceled", "canceled")):
        job = new_job().model_copy(update={"status": JobStatus(state=JobState(state))})
        assert json.loads(message_body(job))["type"] == f"job.{name}"


def test_the_published_example_of_the_specification_verifies() -> None:
    # The known vector of the specification's own libraries.
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    headers = message_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", body, 1614265330, key)
    assert headers == {
        "content-type": "application/json",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.binary(), st.text(min_size=1))
def test_any_text_is_a_secret(body: bytes, secret: str) -> None:
    if secret.startswith("whsec_"):
        return
    signature = message_headers("msg_1", body, 7, signing_key(secret))["webhook-signature"]
    wanted = hmac.new(secret.encode(), b"msg_1.7." + body, hashlib.sha256).digest()
    assert base64.b64decode(signature.removeprefix("v1,")) == wanted


def test_without_a_secret_nothing_is_signed() -> None:
    assert "webhook-signature" not in message_headers("msg_1", b"", 7, None)


def test_a_secret_that_is_no_base64_is_not_repeated() -> None:
    with pytest.raises(Invalid) as caught:
        signing_key("whsec_hush!")
    assert "hush" not in str(caught.value)


def test_a_message_is_named_by_its_job_and_by_nothing_else() -> None:
    assert message_id("j", NOON) == message_id("j", NOON)
    assert message_id("j", NOON) != message_id("k", NOON)
    assert message_id("j", NOON) != message_id("j", NOON + timedelta(microseconds=1))
    assert "." not in message_id("j", NOON)


@given(st.integers(1, 1000), st.floats(0, 1))
def test_tries_come_ever_more_seldom_but_never_cease(attempts: int, chance: float) -> None:
    wait = backoff_seconds(attempts, chance)
    assert 1.0 <= wait <= 3600.0
    assert wait <= 2.0**attempts
    assert backoff_seconds(attempts + 1, 0.0) >= wait / 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Mon, 04 May 2026 12:01:00 GMT", 60.0),
        ("Mon, 04 May 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("٣", None),
        ("9" * 30, None),
        ("", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, datetime(2026, 5, 4, 12, tzinfo=UTC)) == seconds


@given(st.text())
def test_any_retry_after_is_survived(value: str) -> None:
    wait = retry_after_seconds(value, NOON)
    assert wait is None or wait >= 0
