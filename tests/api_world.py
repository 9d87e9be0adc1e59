"""A server with something of everything in it, and a fence around what is fuzzed."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
from fastapi import FastAPI

from batchpoint import wiring
from batchpoint.client.embedded_transport import EmbeddedTransport
from batchpoint.domain.job import JobState, JobStatus, PublishedOutput
from batchpoint.domain.job_spec import PipelineSpec
from batchpoint.formats.layout import default_output, job_folder
from batchpoint.ledger.ledger import Ledger
from batchpoint.storage.locate import path_of

SCRIPT = b"def init():\n    pass\n\n\ndef run(mini_batch):\n    return mini_batch\n"

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rename": 2,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "shutil.rmtree": 1,
}
_fences: list[Path] = []
_NAMES = {
    "models": "weights",
    "codes": "scoring",
    "environments": "plain",
    "data": "patients",
    "components": "copy",
    "datastores": "lake",
    "computes": "small",
}


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse what a fuzzed server must not do, as an operating system would that forbids it."""
    if not _fences:
        return
    if event == "open":
        path, mode, flags = (*arguments, None, 0)[:3]
        writes = isinstance(flags, int) and flags & _WRITES
        if isinstance(path, str | bytes) and writes and not _inside(path):
            raise PermissionError(13, "outside the fence", path)
        assert mode is None or isinstance(mode, str)
    elif event in _CHANGES:
        for path in arguments[: _CHANGES[event]]:
            if isinstance(path, str | bytes) and not _inside(path):
                raise PermissionError(13, "outside the fence", path)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        if arguments[0] not in ("127.0.0.1", "localhost", "::1"):
            raise socket.gaierror(socket.EAI_NONAME, "outside the fence")
    elif event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1"):
            raise PermissionError(13, "outside the fence")
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system"):
        raise PermissionError(13, "outside the fence")


def _inside(path: str | bytes) -> bool:
    place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # looks at no disk
    return place == "/dev/null" or any(
        place == str(fence) or place.startswith(f"{fence}/") for fence in _fences
    )


@cache
def _watch() -> None:
    """Have this process audited; hooks cannot be removed, so there is one for all fences."""
    sys.addaudithook(_audit)


@contextmanager
def fenced(folder: Path) -> Generator[None]:
    """Let this process write below `folder` only, start no process and reach no other machine."""
    _watch()
    _fences.append(folder.resolve())
    try:
        yield
    finally:
        _fences.pop()


def populate(app: FastAPI, folder: Path) -> dict[str, list[str]]:
    """Make an endpoint, deployments, assets, a datastore, jobs that are done and some that wait.

    `folder` holds the server's home as `home` and gets the data. Returns words that mean something
    there, by the parameter (`path.NAME`, `body.NAME`, of some routes only `ROUTES NAME`).
    """
    data = folder / "data"
    (data / "more").mkdir(parents=True)
    (data / "a.csv").write_text("x\n1\n")
    (data / "more" / "b.csv").write_text("x\n2\n")
    with httpx.Client(transport=EmbeddedTransport(lambda: app), base_url="http://test") as http:
        code = _uploaded(http, "code/score.py", SCRIPT)
        model = _uploaded(http, "model.txt", b"weights")
        _made(http, "PUT", "/endpoints/heart", {"name": "heart"})
        _made(http, "POST", "/models", {"name": "weights", "path": model})
        _made(http, "POST", "/codes", {"name": "scoring", "path": code})
        _made(http, "POST", "/environments", {"name": "plain", "requirements": []})
        local = {"name": "lake", "type": "local", "path": str(data)}
        _made(http, "PUT", "/datastores/lake", local)
        _made(http, "PUT", "/computes/small", {"name": "small", "max_instances": 2})
        uri = "azureml://datastores/lake/paths/more"
        _made(http, "POST", "/data", {"name": "patients", "path": uri})
        deployment = {
            "name": "first",
            "endpoint_name": "heart",
            "model": "azureml:weights:1",
            "code_configuration": {"code": "azureml:scoring:1", "scoring_script": "score.py"},
        }
        path = "/endpoints/heart/deployments/first?set_default=true"
        _made(http, "PUT", path, deployment)
        _make_pipelines(http)
        asked = {"input": {"type": "uri_folder", "uri": "azureml:patients:1"}}
        done = {**asked, "job_name": "heart-done"}
        _made(http, "POST", "/endpoints/heart/jobs", done)
        _made(http, "POST", "/endpoints/heart/jobs", {**asked, "job_name": "heart-queued"})
    _complete(folder / "home", "heart-done")
    _complete_pipeline(folder / "home", "pipeline-done")
    return {
        "path.endpoint": ["heart"],
        "path.deployment": ["first", "graph"],
        "path.job": ["heart-done", "heart-queued", "pipeline-done", "pipeline-done-one"],
        "path.output": ["score", "copied"],
        "query.parent": ["pipeline-done"],
        "query.tag": ["night", "night=1"],
        "path.path": ["predictions.csv", "job.log", "user/node-0.txt"],
        "path.tree": [each.removeprefix("upload:").partition("/")[0] for each in (code, model)],
        "path.version": ["1", "2"],
        "body.version": ["1", "2"],
        "body.endpoint_name": ["heart"],
        "body.deployment_name": ["first"],
        "body.model": ["azureml:weights:1", "azureml:weights@latest"],
        "body.code_configuration.code": ["azureml:scoring:1"],
        "body.code_configuration.scoring_script": ["score.py"],
        "body.component": ["azureml:graph:1", "azureml:copy@latest"],
        "body.job_definition": ["azureml:pipeline-done"],
        "body.inputs.data.uri": [uri],
        "body.input.uri": [uri, "azureml:patients:1"],
        "body.input.type": ["uri_folder"],
        **{
            f"/{routes} {where}.name": [name]
            for routes, name in _NAMES.items()
            for where in ("path", "body")
        },
        "/endpoints/{endpoint} body.name": ["heart"],
        "/endpoints/{endpoint}/deployments body.name": ["first"],
        "/models body.path": [model],
        "/codes body.path": [code],
        "/data body.path": [uri],
        "/datastores body.path": [str(data)],
        "/datastores body.type": ["local"],
    }


def _make_pipelines(http: httpx.Client) -> None:
    component = {
        "name": "copy",
        "inputs": {"data": {"type": "uri_folder"}, "rate": {"type": "number", "default": 0.5}},
        "outputs": {"copied": {}},
        "command": "cp -r ${{inputs.data}}/. ${{outputs.copied}}",
    }
    _made(http, "POST", "/components", component)
    graph = {
        "name": "graph",
        "inputs": {"data": {"type": "uri_folder"}},
        "outputs": {"copied": {}},
        "jobs": {
            "one": {
                "component": "azureml:copy:1",
                "inputs": {"data": "${{parent.inputs.data}}"},
                "outputs": {"copied": "${{parent.outputs.copied}}"},
            }
        },
    }
    _made(http, "POST", "/components", graph)
    deployment = {"name": "graph", "endpoint_name": "heart", "component": "azureml:graph:1"}
    _made(http, "PUT", "/endpoints/heart/deployments/graph", deployment)
    data = {"type": "uri_folder", "uri": "azureml:patients:1"}
    job = {
        "name": "pipeline-done",
        "component": "azureml:graph:1",
        "inputs": {"data": data},
        "tags": {"night": "1"},
    }
    _made(http, "POST", "/jobs", job)


def _made(http: httpx.Client, method: str, path: str, body: object = None) -> httpx.Response:
    answer = http.request(method, path, json=body)
    assert answer.is_success, f"{method} {path}: {answer.text}"
    return answer


def _uploaded(http: httpx.Client, path: str, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    entry = {"path": path, "size": len(content), "sha256": digest}
    tree = _made(http, "POST", "/uploads", {"entries": [entry]}).json()["hash"]
    http.put(f"/uploads/{tree}/files/{path}", content=content).raise_for_status()
    reference: str = _made(http, "POST", f"/uploads/{tree}/commit").json()["reference"]
    return reference


def _complete(home: Path, name: str) -> None:
    """End a job as its runner does, with results and logs where they belong."""
    ledger = Ledger(wiring.ledger_path(home))
    output = default_output(home, name)
    output.mkdir(parents=True)
    (output / "predictions.csv").write_text("_file,prediction\nb.csv,0.5\n")
    (output / "_failed_items.jsonl").write_text('{"name":"a.csv","message":"no"}\n')
    logs = job_folder(home, name).logs
    (logs / "user").mkdir(parents=True)
    (logs / "job.log").write_text("one\ntwo\n")
    (logs / "user" / "node-0.txt").write_text("print\n")
    epoch = ledger.acquire_lease(name, "me", 0.0, 15)
    assert epoch is not None
    uri = ledger.get_job(name).scoring.output.uri
    ledger.finish(name, epoch, JobStatus(state=JobState.COMPLETED, output_uri=uri))
    ledger.close()


def _complete_pipeline(home: Path, name: str) -> None:
    """End a pipeline and its step as their runner does."""
    ledger = Ledger(wiring.ledger_path(home))
    job = ledger.get_job(name)
    assert isinstance(job.spec, PipelineSpec)
    child = ledger.get_job(job.spec.steps["one"])
    assert child.spec.step is not None
    uri = child.spec.step.outputs["copied"].uri
    path_of(uri).mkdir(parents=True)
    (path_of(uri) / "predictions.csv").write_text("x\n1\n")
    outputs = {"copied": PublishedOutput(type="uri_folder", uri=uri)}
    ended = JobStatus(state=JobState.COMPLETED, outputs=outputs)
    epoch = ledger.acquire_lease(name, "me", 0.0, 15)
    assert epoch is not None
    ledger.finish(name, epoch, ended, children={child.name: ended})
    ledger.close()
