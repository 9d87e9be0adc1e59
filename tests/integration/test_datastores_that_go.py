"""A job whose datastore is gone when it starts fails with that cause, at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from batchpoint import Client, Datastore, wiring
from batchpoint.domain.job import JobState
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings

SCRIPT = "def init():\n    pass\n\ndef run(batch):\n    return batch\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server with one file."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_datastore_deleted_by_force_fails_the_jobs_that_wait_for_it(
    tmp_path: Path, web: str
) -> None:
    home = tmp_path / "home"
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "weights").write_text("w")
    link = SupervisorLink(home)
    with Client(app=wiring.embedded_app(Settings(home=home))) as client:
        client.datastores.create_or_update(Datastore(name="lake", type="http", endpoint=web))
        client.deploy(tmp_path / "weights", "echo", scoring_script=str(tmp_path / "score.py"))
    # A server's app starts no supervisor: the job waits until there is one.
    with Client(app=wiring.server_app(Settings(home=home), None)) as client:
        handle = client.invoke("echo", "azureml://datastores/lake/paths/a.txt")
        client.datastores.delete("lake", force=True)
        try:
            link.ensure()
            job = handle.wait(check=False)
        finally:
            link.down()
    assert job.status.state == JobState.FAILED
    assert job.status.error is not None
    assert job.status.error.code == "datastore_not_found"
    assert "'lake'" in job.status.error.message
    assert job.status.attempts == 1
