"""The courier on a real ledger and a real receiver: what arrives, what is tried again, what not."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from batchpoint.clock import SystemClock
from batchpoint.control.webhooks import Webhooks
from batchpoint.domain.errors import Denied, Invalid
from batchpoint.domain.job import JobState, JobStatus
from batchpoint.domain.webhook import WebhookDelivery
from batchpoint.ledger.ledger import Ledger
from batchpoint.runner.notify import Courier, CourierOptions
from tests.integration.webhook_receiver import receiving
from tests.unit.resolved_jobs import new_job

QUICK = CourierOptions(try_seconds=5, poll_seconds=0.05)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def ended_job(
    ledger: Ledger, url: str, name: str = "heart-1", *, private_allowed: bool = True
) -> str:
    """A job that has ended and asked for a message; what it tells of is not looked up here."""
    webhooks = Webhooks(private_allowed=private_allowed, look_up=lambda _host, _port: ["10.0.0.1"])
    job, notice = webhooks.notice(new_job(name), url)
    ledger.create_job(job, None, None, notice)
    epoch = ledger.acquire_lease(name, "me", 0.0, 15)
    assert epoch is not None
    ended = JobStatus(state=JobState.COMPLETED, ended_at=SystemClock().now())
    ledger.finish(name, epoch, ended)
    return name


@asynccontextmanager
async def sending(courier: Courier) -> AsyncGenerator[None]:
    task = asyncio.create_task(courier.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def idle(courier: Courier, within_seconds: float) -> None:
    """Wait until nothing is being sent and nothing is due within so many seconds."""
    while await courier.expects_work(within_seconds):  # noqa: ASYNC110  # asks the ledger
        await asyncio.sleep(0.01)


def delivered(ledger: Ledger, courier: Courier, job: str, *states: str) -> WebhookDelivery:
    """Run a courier until the message of a job is in one of the states."""

    async def run() -> WebhookDelivery:
        async with sending(courier), asyncio.timeout(60):
            while True:
                told = (await asyncio.to_thread(ledger.get_job, job)).webhook
                assert told is not None
                if told.state in states:
                    return told
                await asyncio.sleep(0.01)

    return asyncio.run(run())


def test_a_message_waits_for_its_job(ledger: Ledger) -> None:
    job, notice = Webhooks().notice(new_job("j-1"), "https://example.com/?key=k")
    made = ledger.create_job(job, None, None, notice)
    assert made.webhook is not None
    assert (made.webhook.state, made.webhook.attempts) == ("waiting", 0)
    assert made.spec.webhook_url == "https://example.com/?***"
    assert ledger.next_delivery() is None
    assert ledger.claim_deliveries(1e12, 2e12, 10) == []
    [listed] = ledger.list_jobs()
    assert listed == made


def test_a_message_arrives_and_is_signed(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with receiving() as receiver:
        secret = f"{receiver.url}?token=hush".replace("http://", "http://me:word@")
        job = ended_job(ledger, secret)
        courier = Courier(ledger, SystemClock(), key=b"key", options=QUICK)
        told = delivered(ledger, courier, job, "delivered", "given_up")
        [request] = receiver.received
    assert (told.state, told.attempts, told.said) == ("delivered", 1, "answered 200")
    assert told.ended_at is not None
    assert request.path == "/hook?token=hush"
    assert request.headers["authorization"].startswith("Basic ")
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["webhook-signature"].startswith("v1,")
    assert json.loads(request.body)["data"]["job"] == job
    shown = ledger.get_job(job).model_dump_json()
    for hidden in ("hush", "word"):
        assert hidden not in shown
        assert hidden not in caplog.text


def test_a_message_is_sent_once(ledger: Ledger) -> None:
    with receiving() as receiver:
        for number in range(20):
            ended_job(ledger, receiver.url, f"j-{number}")
        couriers = [Courier(ledger, SystemClock(), options=QUICK) for _ in range(3)]

        async def run() -> None:
            async with sending(couriers[0]), sending(couriers[1]), sending(couriers[2]):
                await asyncio.to_thread(receiver.wait_for, 20)
                await idle(couriers[0], 60)

        asyncio.run(run())
        identities = [request.headers["webhook-id"] for request in receiver.received]
    assert len(identities) == len(set(identities)) == 20
    assert {job.webhook.state for job in ledger.list_jobs() if job.webhook} == {"delivered"}


@pytest.mark.parametrize(
    ("status", "headers"),
    [(500, {}), (404, {}), (302, {"location": "/elsewhere"}), (200, None)],
)
def test_anything_but_success_is_tried_again(
    ledger: Ledger, status: int, headers: dict[str, str] | None
) -> None:
    with receiving(lambda _: (status, headers or {})) as receiver:
        url = receiver.url if headers is not None else "http://127.0.0.1:9/nobody"
        job = ended_job(ledger, url)
        once = replace(QUICK, tries_max=1)
        told = delivered(ledger, Courier(ledger, SystemClock(), options=once), job, "given_up")
        assert told.attempts == 1
        assert {request.path for request in receiver.received} <= {"/hook"}
    assert told.said is not None
    assert told.said.startswith("cannot connect" if headers is None else f"answered {status}")
    assert ledger.next_delivery() is None


def test_gone_means_gone(ledger: Ledger) -> None:
    with receiving(lambda _: (410, {})) as receiver:
        job = ended_job(ledger, receiver.url)
        told = delivered(ledger, Courier(ledger, SystemClock(), options=QUICK), job, "given_up")
        assert len(receiver.received) == 1
    assert (told.said, told.attempts) == ("answered 410", 1)


def test_a_receiver_says_when_to_come_again(ledger: Ledger) -> None:
    with receiving(lambda _: (503, {"retry-after": "1000"})) as receiver:
        job = ended_job(ledger, receiver.url)
        courier = Courier(ledger, SystemClock(), options=QUICK)

        async def run() -> None:
            async with sending(courier):
                await asyncio.to_thread(receiver.wait_for, 1)
                await idle(courier, 900)
                assert await courier.expects_work(1001)

        asyncio.run(run())
    told = ledger.get_job(job).webhook
    assert told is not None
    assert told.next_at is not None
    assert (told.next_at - SystemClock().now()).total_seconds() > 900


def test_a_receiver_that_hangs_hinders_nobody(ledger: Ledger) -> None:
    let_go = threading.Event()

    def answer(number: int) -> tuple[int, dict[str, str]]:
        if number == 1:
            let_go.wait(60)
        return 200, {}

    with receiving(answer) as receiver:
        first = ended_job(ledger, receiver.url, "hangs")
        impatient = replace(QUICK, try_seconds=0.5, tries_max=1)
        courier = Courier(ledger, SystemClock(), options=impatient)

        async def run() -> None:
            async with sending(courier), asyncio.timeout(30):
                await asyncio.to_thread(receiver.wait_for, 1)
                second = await asyncio.to_thread(ended_job, ledger, receiver.url, "passes")
                courier.wake()
                await asyncio.to_thread(receiver.wait_for, 2)
                await idle(courier, 60)
                told = (await asyncio.to_thread(ledger.get_job, second)).webhook
                assert told is not None
                assert told.state == "delivered"

        try:
            asyncio.run(run())
        finally:
            let_go.set()
    told = ledger.get_job(first).webhook
    assert told is not None
    assert (told.state, told.said) == ("given_up", "no answer within 0.5 seconds")


def test_a_message_whose_courier_died_is_sent_by_the_next(ledger: Ledger) -> None:
    with receiving() as receiver:
        job = ended_job(ledger, receiver.url)
        now = SystemClock().seconds()
        [claimed] = ledger.claim_deliveries(now, now + 3600, 10)
        assert ledger.claim_deliveries(now, now + 3600, 10) == []
        told = delivered(ledger, Courier(ledger, SystemClock(), options=QUICK), job, "delivered")
        assert told.attempts == 2
        # The dead one wakes up and has something to say about its try: too late.
        ledger.settle_delivery(claimed.identity, claimed.attempts, now, "late", now)
    assert ledger.get_job(job).webhook == told


def test_old_messages_are_given_up(ledger: Ledger) -> None:
    with receiving(lambda _: (500, {})) as receiver:
        job = ended_job(ledger, receiver.url)
        old = replace(QUICK, give_up_seconds=0.1)
        told = delivered(ledger, Courier(ledger, SystemClock(), options=old), job, "given_up")
    assert told.attempts == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_a_name_that_leads_elsewhere_by_now_is_not_followed(ledger: Ledger, host: str) -> None:
    with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", host)
        job = ended_job(ledger, url, private_allowed=False)
        once = replace(QUICK, tries_max=1)
        told = delivered(ledger, Courier(ledger, SystemClock(), options=once), job, "given_up")
        assert receiver.received == []
    assert told.said is not None
    assert "inside this server" in told.said


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://localhost/x",
        "http://[::1]/x",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/x",
        "http://0x7f.1/x",
    ],
)
def test_a_server_refuses_its_own_addresses_at_invoke(url: str) -> None:
    guarded = Webhooks(private_allowed=False)
    with pytest.raises(Denied, match="inside this server's own machine"):
        guarded.notice(new_job(), url)
    job, notice = Webhooks().notice(new_job(), url)
    assert notice is not None
    assert job.spec.webhook_url == url


def test_jobs_that_name_nobody_tell_whom_the_settings_name() -> None:
    webhooks = Webhooks("https://everything.example/")
    job, notice = webhooks.notice(new_job(), None)
    assert notice is not None
    assert notice.url == "https://everything.example/"
    assert job.spec.webhook_url == "https://everything.example/"
    own, _ = webhooks.notice(new_job(), "https://own.example/")
    assert own.spec.webhook_url == "https://own.example/"
    assert Webhooks().notice(new_job(), None) == (new_job(), None)
    with pytest.raises(Invalid):
        webhooks.notice(new_job(), "own.example")
