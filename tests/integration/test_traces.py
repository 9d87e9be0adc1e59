"""Spans of requests and jobs, as a collector of OpenTelemetry gets them."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from batchpoint import Client
from tests.integration.user_files import write_files

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """An OTLP/HTTP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        with self.changed:
            for resource in request.resource_spans:
                named = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self.spans += [(named["service.name"], span) for span in scope.spans]
            self.changed.notify_all()

    def wait_for(self, *names: str) -> dict[str, Span]:
        """Wait until a span of each name is there."""

        def found() -> dict[str, Span]:
            return {span.name: span for _, span in self.spans}

        with self.changed:
            assert self.changed.wait_for(lambda: set(names) <= set(found()), 60), set(found())
            return found()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def served(tmp_path: Path, collector: Collector) -> Iterator[tuple[str, Path]]:
    """A server that sends its traces to the collector, and a user's files."""
    write_files(tmp_path, "served")
    environ = {
        **os.environ,
        "BATCHPOINT_HOME": str(tmp_path / "home"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "batchpoint", "serve", "--port", "0"],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        yield found[0], tmp_path
        process.terminate()
        process.stderr.read()


def test_a_job_belongs_to_the_trace_of_its_caller(
    served: tuple[str, Path], collector: Collector
) -> None:
    url, folder = served
    with Client(url) as client:
        client.deploy(folder / "model.txt", "traced", scoring_script=str(folder / "code/score.py"))
        answer = httpx.post(
            f"{url}/endpoints/traced/jobs",
            json={"input": {"type": "uri_folder", "uri": str(folder / "good")}},
            headers={"traceparent": CALLER},
        )
        assert answer.status_code == 201, answer.text
        client.job(answer.json()["name"]).wait()
    spans = collector.wait_for("POST /endpoints/{endpoint}/jobs", "job", "queued", "writing")
    request, job = spans["POST /endpoints/{endpoint}/jobs"], spans["job"]
    _, trace, parent, _ = CALLER.split("-")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (trace, parent)
    assert (job.trace_id, job.parent_span_id) == (request.trace_id, request.span_id)
    told = {a.key: a.value for a in job.attributes}
    assert told["batchpoint.job"].string_value == answer.json()["name"]
    assert told["batchpoint.state"].string_value == "Completed"
    assert told["batchpoint.items"].int_value == 5
    for name in ("queued", "writing"):
        phase = spans[name]
        assert phase.parent_span_id == job.span_id
        assert job.start_time_unix_nano <= phase.start_time_unix_nano
        assert phase.start_time_unix_nano <= phase.end_time_unix_nano <= job.end_time_unix_nano
    assert {name for name, span in collector.spans if span.name == "job"} == {"batchpoint-runner"}


def test_a_failed_job_has_a_failed_span(served: tuple[str, Path], collector: Collector) -> None:
    url, folder = served
    (folder / "code" / "score.py").write_text(
        "def init():\n    raise ValueError('no weights')\n\ndef run(batch):\n    return batch\n"
    )
    with Client(url) as client:
        client.deploy(folder / "model.txt", "traced", scoring_script=str(folder / "code/score.py"))
        handle = client.invoke("traced", folder / "good")
        handle.wait(check=False)
    job = collector.wait_for("job")["job"]
    assert job.status.code == Status.STATUS_CODE_ERROR
    assert {a.key: a.value.string_value for a in job.attributes}["error.type"] == "init_failed"
    assert "no weights" in job.status.message
