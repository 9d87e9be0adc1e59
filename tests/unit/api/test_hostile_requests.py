"""Nasty requests: each gets its status, a code and a sentence, and the server stays as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from batchpoint import wiring
from batchpoint.api.problems import MEDIA_TYPE, Problem
from batchpoint.client.embedded_transport import EmbeddedTransport
from batchpoint.domain.errors import CODES
from batchpoint.settings import Settings
from tests.api_world import populate

JSON = {"content-type": "application/json"}
JOBS = "/endpoints/heart/jobs"
FILE = "/jobs/heart-done/outputs/score/predictions.csv"
INPUT = b'"input": {"type": "uri_folder", "uri": "azureml:patients:1"}'
LAKE = "/datastores/lake2"
FIRST = "/endpoints/heart/deployments/first"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with something of everything in it."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    app = wiring.server_app(Settings(home=folder / "home"), None)
    populate(app, folder)
    with httpx.Client(transport=EmbeddedTransport(lambda: app), base_url="http://test") as client:
        yield client


def invoke(more: str) -> bytes:
    return b"{" + INPUT + b", " + more.encode() + b"}"


def reading(uri: str, more: str = "") -> bytes:
    return f'{{"input": {{"type": "uri_folder", "uri": "{uri}"{more}}}}}'.encode()


def deploying(more: str) -> bytes:
    said = '"name": "first", "endpoint_name": "heart", "model": "azureml:weights:1"'
    return f"{{{said}, {more}}}".encode()


def lake(more: str) -> bytes:
    return f'{{"name": "lake2", {more}}}'.encode()


SCRIPT = '"code_configuration": {"code": "azureml:scoring:1", "scoring_script": "%s"}'
BODIES = [
    # what is no JSON, or could be read as two things
    ("POST", JOBS, b"", 400, "field_invalid", "field required"),
    ("POST", JOBS, b"null", 400, "field_invalid", "dictionary"),
    ("POST", JOBS, b"[]", 400, "field_invalid", "dictionary"),
    ("POST", JOBS, b"{" + INPUT, 400, "field_invalid", "is not JSON"),
    ("POST", JOBS, b"\xff\xfe", 400, "field_invalid", "is not UTF-8: byte 0 is 0xff"),
    ("POST", JOBS, b'{"a": "\xff"}', 400, "field_invalid", "is not UTF-8: byte 7"),
    ("POST", JOBS, b"[" * 100_000, 400, "field_invalid", "nested deeper than 50 levels"),
    ("POST", JOBS, b'{"a":' * 60 + b"1" + b"}" * 60, 400, "field_invalid", "deeper than 50"),
    ("POST", JOBS, invoke('"tags": {}, "tags": {}'), 400, "field_invalid", "'tags' twice"),
    ("POST", JOBS, invoke('"tags": {"a": "\\ud800"}'), 400, "field_invalid", "\\ud800"),
    ("POST", JOBS, invoke('"tags": {"\\udfff": "a"}'), 400, "field_invalid", "\\udfff"),
    (
        "PATCH",
        "/endpoints/heart",
        b'{"tags": {"a": "\\ud800"}}',
        400,
        "field_invalid",
        "no Unicode",
    ),
    ("PATCH", "/endpoints/heart", b"[]", 400, "field_invalid", "dictionary"),
    # numbers
    ("POST", JOBS, invoke('"overrides": {"parameters": {"a": NaN}}'), 400, "field_invalid", "NaN"),
    (
        "POST",
        JOBS,
        invoke('"overrides": {"parameters": {"a": 1e999}}'),
        400,
        "field_invalid",
        "1e999",
    ),
    (
        "POST",
        JOBS,
        invoke('"overrides": {"parameters": {"a": ' + "9" * 5000 + "}}"),
        400,
        "field_invalid",
        "too many digits",
    ),
    (
        "POST",
        JOBS,
        invoke('"overrides": {"mini_batch_size": ' + "9" * 400 + "}"),
        400,
        "field_invalid",
        "1000000",
    ),
    ("POST", JOBS, invoke('"overrides": {"timeout": 0}'), 400, "field_invalid", "greater"),
    ("POST", JOBS, invoke('"overrides": {"instance_count": true}'), 400, "field_invalid", "truth"),
    ("POST", JOBS, invoke('"overrides": {"error_threshold": -2}'), 400, "field_invalid", "-1"),
    ("PATCH", "/computes/small", b'{"max_instances": 1.5}', 400, "field_invalid", "integer"),
    (
        "PATCH",
        "/computes/small",
        b'{"idle_time_before_scale_down": "PT' + b"9" * 400 + b'S"}',
        400,
        "field_invalid",
        "integer",
    ),
    # fields
    ("POST", JOBS, invoke('"colour": 1'), 400, "field_unknown", "unknown field"),
    ("POST", JOBS, invoke('"job_name": "../x"'), 400, "field_invalid", "is not a job name"),
    ("POST", JOBS, invoke('"job_name": "a\\u0000"'), 400, "field_invalid", "is not a job name"),
    ("POST", JOBS, invoke('"deployment_name": "ghost"'), 404, "deployment_not_found", "ghost"),
    ("POST", "/endpoints/ghost/jobs", invoke('"tags": {}'), 404, "endpoint_not_found", "ghost"),
    ("PUT", "/endpoints/lung", b'{"name": "heart"}', 400, "field_invalid", "make them the same"),
    ("PUT", "/endpoints/h%00t", b'{"name": "h\\u0000t"}', 400, "field_invalid", "is not a name"),
    ("PATCH", "/endpoints/heart", b'{"name": "lung"}', 400, "field_invalid", "never changes"),
    ("PATCH", FIRST, b'{"endpoint_name": "x"}', 400, "field_invalid", "never changes"),
    ("PATCH", "/models/weights/versions/1", b'{"path": "x"}', 409, "asset_immutable", "path"),
    (
        "POST",
        "/codes",
        b'{"name": "x", "path": "", "archived": 1}',
        400,
        "field_invalid",
        "boolean",
    ),
    ("POST", "/data", b'{"path": "s3://b", "created_at": 5}', 400, "field_invalid", "a time such"),
    # URIs and files
    ("POST", JOBS, reading("/a\\u0000b"), 400, "uri_invalid", "does not name data"),
    ("POST", JOBS, reading("http://["), 400, "uri_invalid", "host"),
    ("POST", JOBS, reading("file://[bad/x"), 400, "uri_invalid", "host"),
    ("POST", JOBS, reading("ftp://there/x"), 400, "uri_invalid", "ftp"),
    ("POST", JOBS, reading("azureml:patients:99"), 404, "data_not_found", "patients"),
    ("POST", JOBS, reading("azureml://datastores/lake/paths/../x"), 400, "reference_invalid", ".."),
    ("POST", JOBS, reading("azureml:patients:1", ', "pattern": "["'), 400, "field_invalid", "]"),
    ("POST", JOBS, reading("/" + "a/" * 5000), 400, "input_unreadable", "a/a"),
    ("POST", JOBS, invoke('"output": {"uri": "s3://"}'), 400, "uri_invalid", "s3://"),
    ("POST", JOBS, invoke('"output": {"uri": "/\\u0000"}'), 400, "uri_invalid", "does not name"),
    ("POST", JOBS, invoke('"webhook_url": "http://127.0.0.1/"'), 403, "denied", "inside this"),
    ("POST", JOBS, invoke('"webhook_url": "http://[::1]:99999/"'), 400, "field_invalid", "URL"),
    ("POST", JOBS, invoke('"webhook_url": "file:///etc"'), 400, "field_invalid", "https://"),
    ("POST", "/models", b'{"path": "/etc/passwd"}', 400, "field_unsupported", "upload"),
    ("POST", "/models", b'{"path": "upload:x/../y"}', 400, "reference_invalid", "upload:HASH"),
    ("PUT", FIRST, deploying(SCRIPT % "../../x"), 400, "scoring_script_invalid", "no file"),
    ("PUT", FIRST, deploying(SCRIPT % "a\\u0000b"), 400, "scoring_script_invalid", "no file"),
    ("PUT", LAKE, lake('"type": "local", "path": "relative"'), 400, "uri_invalid", "absolute"),
    ("PUT", LAKE, lake('"type": "s3"'), 400, "field_invalid", "needs bucket"),
    (
        "PUT",
        LAKE,
        lake('"type": "http", "endpoint": "https://me:secret-word@there"'),
        400,
        "field_invalid",
        "user name or password",
    ),
    (
        "PUT",
        LAKE + "?skip_validation=true",
        lake('"type": "s3", "bucket": "b", "endpoint": "http://["'),
        400,
        "field_invalid",
        "is not a URL",
    ),
    ("PATCH", "/datastores/lake", b'{"credentials": 5}', 400, "field_invalid", "dictionary"),
    ("POST", "/uploads", b'{"entries": []}', 400, "field_invalid", "at least 1 item"),
    (
        "POST",
        "/uploads",
        b'{"entries": [{"path": "../x", "size": 0, "sha256": "' + b"0" * 64 + b'"}]}',
        400,
        "field_invalid",
        "has to be relative",
    ),
    ("PUT", "/uploads/" + "0" * 64 + "/files/a", b"x", 404, "upload_not_found", "no upload"),
    ("PUT", "/uploads/%00/files/a", b"x", 404, "upload_not_found", "no upload"),
]
PATHS = [
    ("GET", "/nowhere", 404, "not_found", "no route"),
    ("GET", "/endpoints/heart/", 404, "not_found", "no route"),
    ("GET", "/endpoints/a%2Fb", 404, "not_found", "no route"),
    ("GET", "/endpoints/%ff", 404, "endpoint_not_found", "no endpoint"),
    ("GET", "/endpoints/%00", 404, "endpoint_not_found", "\\x00"),
    ("GET", "/models/weights/versions/%00", 404, "model_not_found", "\\x00"),
    ("GET", "/endpoints?limit=99999999999999999999", 400, "field_invalid", "1000"),
    ("GET", "/endpoints?limit=1.5", 400, "field_invalid", "integer"),
    ("GET", "/jobs?after=%00", 404, "job_not_found", "\\x00"),
    ("GET", "/jobs/heart-done?wait_seconds=nan", 400, "field_invalid", "60"),
    ("GET", "/jobs/heart-done/logs/..%2F..%2Fbatchpoint.db", 404, "output_not_found", "no log"),
    ("GET", "/jobs/heart-done/logs/job.log?offset=" + "9" * 30, 400, "field_invalid", "less"),
    ("GET", "/jobs/heart-done/outputs/score/..%2F..%2Fx", 404, "output_not_found", "no file"),
    ("GET", "/jobs/heart-done/outputs/score/" + "a" * 5000, 404, "output_not_found", "no file"),
    ("GET", "/jobs/heart-queued/outputs/score", 409, "job_not_finished", "Queued"),
    ("DELETE", "/datastores/workspaceblobstore", 409, "conflict", "built in"),
    ("DELETE", "/endpoints/heart/deployments/first", 409, "deployment_in_use", "first"),
]


def problem(answer: httpx.Response, status: int) -> Problem:
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == MEDIA_TYPE
    told = json.loads(answer.content)
    assert told["status"] == status
    told.pop("error", None)
    found = Problem.model_validate(told)
    assert found.code in CODES
    assert found.type == f"urn:batchpoint:error:{found.code}"
    return found


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "word"), BODIES)
def test_bodies(
    http: httpx.Client, method: str, path: str, body: bytes, status: int, code: str, word: str
) -> None:
    found = problem(http.request(method, path, content=body, headers=JSON), status)
    assert found.code == code
    assert word in found.detail
    assert "secret-word" not in found.model_dump_json()


@pytest.mark.parametrize(("method", "path", "status", "code", "word"), PATHS)
def test_paths(
    http: httpx.Client, method: str, path: str, status: int, code: str, word: str
) -> None:
    found = problem(http.request(method, path), status)
    assert found.code == code
    assert word in found.detail


@pytest.mark.parametrize(
    "given", ["text/plain", "text/json", "garbage", "application/x-www-form-urlencoded", None]
)
def test_bodies_that_do_not_say_that_they_are_json(http: httpx.Client, given: str | None) -> None:
    headers = {} if given is None else {"content-type": given}
    found = problem(http.post(JOBS, content=invoke('"tags": {}'), headers=headers), 415)
    assert "application/json" in found.detail


@pytest.mark.parametrize(
    "given", ["application/json; charset=utf-8", "application/merge-patch+json"]
)
def test_other_names_of_json(http: httpx.Client, given: str) -> None:
    answer = http.patch("/endpoints/heart", content=b"{}", headers={"content-type": given})
    assert answer.status_code == 200


def test_a_byte_order_mark_and_paired_surrogates_are_fine(http: httpx.Client) -> None:
    body = b'\xef\xbb\xbf{"description": "\\ud83d\\ude00"}'
    answer = http.patch("/endpoints/heart", content=body, headers=JSON)
    assert answer.json()["description"] == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/endpoints", "GET"),
        ("OPTIONS", "/endpoints/heart", "GET, PUT, PATCH, DELETE"),
        ("TRACE", "/models", "GET, POST"),
        ("BREW", "/models/weights/versions/1", "GET, PUT, PATCH, DELETE"),
        ("PUT", "/jobs/heart-done", "GET"),
        ("GET", "/jobs/heart-done/cancel", "POST"),
    ],
)
def test_methods_that_a_route_does_not_take(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    assert answer.headers["content-type"] == MEDIA_TYPE
    if method != "HEAD":
        assert allowed in problem(answer, 405).detail


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-4", 206, b"_file"),
        ("bytes=-4", 206, b"0.5\n"),
        ("bytes=0-99999", 206, None),
        # what is no range is as if it were not there
        ("bytes=5-2", 200, None),
        ("bytes=a-b", 200, None),
        ("bytes=-", 200, None),
        ("lines=1", 200, None),
        ("bytes=0-" + "9" * 30, 200, None),
        ("bytes=0-1,3-4", 200, None),
        ("bytes=99999-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
def test_ranges(http: httpx.Client, asked: str, status: int, content: bytes | None) -> None:
    whole = http.get(FILE).content
    answer = http.get(FILE, headers={"range": asked})
    assert answer.status_code == status
    if status == 416:
        problem(answer, 416)
        assert answer.headers["content-range"] == f"bytes */{len(whole)}"
    else:
        assert answer.content == (whole if content is None else content)


def test_a_complete_upload_takes_no_file_that_it_did_not_announce(http: httpx.Client) -> None:
    reference = http.get("/models/weights/versions/1").json()["path"]
    tree = reference.removeprefix("upload:").partition("/")[0]
    assert http.put(f"/uploads/{tree}/files/model.txt", content=b"weights").status_code == 204
    for path in ("other.txt", "..%2F..%2Fbatchpoint.db", "%00"):
        problem(http.put(f"/uploads/{tree}/files/{path}", content=b"x"), 404)


def test_a_long_idempotency_key(http: httpx.Client) -> None:
    headers = {**JSON, "idempotency-key": "x" * 300}
    found = problem(http.post(JOBS, content=invoke('"tags": {}'), headers=headers), 400)
    assert found.where == "Idempotency-Key"
