"""Messages of jobs' ends, as whole jobs: with kills, restarts and receivers that misbehave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from batchpoint import Client, wiring
from batchpoint.domain.errors import Denied
from batchpoint.domain.job import Job, JobState
from batchpoint.domain.webhook import WebhookDelivery
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from tests.integration.user_files import BATCHPOINT
from tests.integration.webhook_receiver import Received, receiving

KEY = b"0123456789abcdef01234567"
SCRIPT = """
def init():
    pass

def run(mini_batch):
    if any(path.endswith("raises.txt") for path in mini_batch):
        raise ValueError("told to raise")
    return mini_batch
"""
SECONDS_MAX = 60


class Site:
    """A home of its own, whose supervisor leaves soon after its last job and its last message."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.link = SupervisorLink(self.home)
        self.client = Client(app=wiring.embedded_app(Settings(home=self.home)))
        code = folder / "code"
        code.mkdir()
        (code / "score.py").write_text(SCRIPT)
        (folder / "model.txt").write_text("a model")
        for name in ("fine", "raises"):
            (folder / name).mkdir()
            (folder / name / f"{name}.txt").write_text(name)
        self.folder = folder
        self.client.computes.update("local", {"idle_time_before_scale_down": 0})
        self.client.deploy(
            folder / "model.txt", "told", scoring_script=str(code / "score.py"), max_retries=0
        )

    def run(self, data: str, url: str) -> Job:
        handle = self.client.invoke("told", self.folder / data, webhook_url=url)
        return handle.wait(check=False)

    def supervisor(self) -> psutil.Process:
        status = self.link.ask("status")
        assert status is not None
        return psutil.Process(status["pid"])

    def settled(self, job: Job) -> WebhookDelivery:
        """Wait until the supervisor has left, and tell what it did."""
        status = self.link.ask("status")
        if status is not None:
            psutil.wait_procs([psutil.Process(status["pid"])], SECONDS_MAX)
        told = self.client.jobs.get(job.name).webhook
        assert told is not None
        return told


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("BATCHPOINT_WEBHOOK_SECRET", f"whsec_{base64.b64encode(KEY).decode()}")
    monkeypatch.setenv("BATCHPOINT_SUPERVISOR_IDLE_SECONDS", "0.1")
    made = Site(tmp_path)
    yield made
    made.client.close()
    status = made.link.ask("status")
    if status is not None:
        supervisor = psutil.Process(status["pid"])
        made.link.down()
        psutil.wait_procs([supervisor], SECONDS_MAX)


def verified(request: Received) -> dict[str, object]:
    """Check a message as a receiver does, by the specification, and read it."""
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    wanted = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    return json.loads(request.body)


def test_it_is_sent_again_until_it_arrives_and_the_supervisor_stays_for_it(site: Site) -> None:
    with receiving(lambda number: (500 if number < 3 else 200, {})) as receiver:
        job = site.run("fine", f"{receiver.url}?token=hush")
        assert job.status.state == JobState.COMPLETED
        requests = receiver.wait_for(3)
        told = site.settled(job)
    assert (told.state, told.attempts, told.said) == ("delivered", 3, "answered 200")
    assert {request.headers["webhook-id"] for request in requests} == {
        requests[0].headers["webhook-id"]
    }
    assert len({request.body for request in requests}) == 1
    assert len(requests) == 3
    for request in requests:
        message = verified(request)
        assert message["type"] == "job.completed"
        assert isinstance(message["data"], dict)
        assert message["data"]["job"] == job.name
        assert message["data"]["output_uri"] == job.status.output_uri
        assert message["data"]["counts"]["items_scored"] == 1
    for path in (site.home / "jobs").rglob("*"):
        assert path.is_dir() or b"hush" not in path.read_bytes(), path
    assert "hush" not in (site.home / "logs" / "supervisor.log").read_text()
    assert b"hush" not in b"".join(p.read_bytes() for p in site.home.glob("batchpoint.db*"))


def test_failed_jobs_tell_too(site: Site) -> None:
    with receiving() as receiver:
        job = site.run("raises", receiver.url)
        [request] = receiver.wait_for(1)
        site.settled(job)
    message = verified(request)
    assert (job.status.state, message["type"]) == (JobState.FAILED, "job.failed")
    assert isinstance(message["data"], dict)
    assert message["data"]["error"]["message"]


def test_a_killed_supervisor_is_followed_by_one_that_sends(site: Site) -> None:
    let_go = threading.Event()

    def answer(number: int) -> tuple[int, dict[str, str]]:
        if number == 1:
            let_go.wait(SECONDS_MAX)
        return 200, {}

    with receiving(answer) as receiver:
        job = site.run("fine", receiver.url)
        receiver.wait_for(1)
        supervisor = site.supervisor()
        family = supervisor.children(recursive=True)
        supervisor.send_signal(signal.SIGKILL)
        psutil.wait_procs([supervisor, *family], SECONDS_MAX)
        let_go.set()
        shown = site.client.jobs.get(job.name)
        assert shown.webhook is not None
        assert (shown.status.state, shown.webhook.state) == (JobState.COMPLETED, "pending")
        site.link.ensure()
        requests = receiver.wait_for(2)
        told = site.settled(job)
    assert (told.state, told.attempts) == ("delivered", 2)
    assert verified(requests[0]) == verified(requests[1])


def test_a_receiver_that_is_away_keeps_no_job_and_no_command_waiting(site: Site) -> None:
    hangs = threading.Event()
    with receiving(lambda _: (200 if hangs.wait(SECONDS_MAX) else 500, {})) as receiver:
        try:
            jobs = [site.run("fine", receiver.url) for _ in range(3)]
            assert {job.status.state for job in jobs} == {JobState.COMPLETED}
            assert not hangs.is_set()
        finally:
            hangs.set()
        receiver.wait_for(3)
        assert {site.settled(job).state for job in jobs} == {"delivered"}


def test_a_server_does_not_talk_to_itself_for_others(site: Site) -> None:
    environ = {**os.environ, "BATCHPOINT_HOME": str(site.home)}
    environ.pop("BATCHPOINT_URL", None)
    command = [BATCHPOINT, "serve", "--port", "0", "--no-supervisor"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        try:
            with Client(found[0]) as client, receiving() as receiver:
                for host in ("127.0.0.1", "localhost", "169.254.169.254"):
                    url = receiver.url.replace("127.0.0.1", host) + "?token=hush"
                    with pytest.raises(Denied, match="webhook_allow_private") as caught:
                        client.invoke("told", site.folder / "fine", webhook_url=url)
                    assert "hush" not in str(caught.value)
                assert list(client.jobs.list()) == []
                assert receiver.received == []
        finally:
            process.terminate()
            process.stderr.read()
            process.wait(SECONDS_MAX)
