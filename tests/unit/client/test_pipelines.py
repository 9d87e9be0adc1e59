"""Pipelines by the SDK, with and without a server: files inside components, names, outputs."""

from pathlib import Path
from typing import Any

import pytest

from batchpoint import (
    BatchEndpoint,
    Client,
    CommandComponent,
    Environment,
    Input,
    JobInput,
    JobState,
    ParallelComponent,
    PipelineComponent,
    PipelineDeployment,
    PipelineJob,
    PipelineOutput,
)
from batchpoint.client.connection import Connection
from batchpoint.client.jobs import JobHandle
from batchpoint.client.local_files import LocalFiles
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.job_spec import PipelineSpec
from batchpoint.storage.locate import path_of
from tests.unit.client.conftest import Server
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model
from tests.unit.pipeline_documents import COPY, completed_step, graph, step_of

Either = tuple[Client, ControlPlane]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "copy.py").write_text("print(1)\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return data_folder(tmp_path / "data")


def command(code: Path) -> CommandComponent:
    return CommandComponent.model_validate({**COPY, "code": str(code)})


def pipeline(code: Path) -> PipelineComponent:
    return PipelineComponent.model_validate(graph(command(code)))


def deployed(client: Client, code: Path) -> None:
    client.endpoints.create_or_update(BatchEndpoint(name="flow"))
    client.deployments.create_or_update(
        PipelineDeployment(name="nightly", endpoint_name="flow", component=pipeline(code)),
        set_default=True,
    )


# --- components --------------------------------------------------------------------------------


def test_components_are_registered_with_their_code(either: Either, code: Path) -> None:
    client, plane = either
    made = client.components.create_or_update(command(code))
    assert isinstance(made, CommandComponent)
    assert (made.name, made.version) == ("copy", "1")
    assert made.code is not None
    assert made.code.startswith("upload:")
    stored = plane.assets.code_files(made.code, "code")
    assert (Path(stored.path) / "copy.py").read_text() == "print(1)\n"
    outer = client.components.create_or_update(pipeline(code))
    assert isinstance(outer, PipelineComponent)
    assert client.components.get("graph") == client.components.get("graph", label="latest") == outer
    assert {each.name for each in client.components.list()} >= {"copy", "graph"}
    assert [each.version for each in client.components.list("copy")] == ["1"]
    client.components.archive("copy")
    assert "copy" not in {each.name for each in client.components.list()}
    client.components.restore("copy", "1")
    changed = client.components.update("copy", None, {"description": "copies"})
    assert changed.description == "copies"
    client.components.delete("copy")
    with pytest.raises(NotFound) as caught:
        client.components.get("copy")
    assert caught.value.code == "component_not_found"


def test_findings_come_back_with_their_fields(either: Either, code: Path) -> None:
    client, _ = either
    wrong = graph(command(code))
    wrong["jobs"]["one"]["component"] = "azureml:ghost:1"
    wrong["jobs"]["two"]["component"] = "azureml:ghost:2"
    with pytest.raises(NotFound) as caught:
        client.components.create_or_update(PipelineComponent.model_validate(wrong))
    assert [found.where for found in caught.value.findings] == [
        "jobs.one.component",
        "jobs.two.component",
    ]


class Recorded(LocalFiles):
    """Remembers what would be sent where, as to a server on another machine."""

    def __init__(self) -> None:
        connection = Connection("http://batchpoint.example.com")
        super().__init__(connection)
        self.paths: list[tuple[str, str]] = []

    def sent(
        self, path: str, where: str, *, is_data: bool = False, pattern: str | None = None
    ) -> str:
        self.paths.append((where, path))
        return f"upload:{'0' * 64}/{Path(path).name}"


def test_everything_local_in_a_component_is_sent(tmp_path: Path) -> None:
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]\n")
    conda = Environment(conda_file=str(tmp_path / "conda.yml"))
    score = {
        "inputs": {"data": {"type": "uri_folder"}},
        "input_data": "${{inputs.data}}",
        "task": {"code": "/score", "entry_script": "s.py", "environment": conda},
    }
    inner = {"jobs": {"deep": {"component": {"command": "x", "code": "/deep"}}}}
    job = PipelineJob.model_validate(
        {
            "jobs": {
                "fit": {
                    "component": {"command": "x", "code": "/fit", "environment": conda},
                    "environment": conda,
                    "inputs": {
                        "data": {"type": "uri_folder", "path": "/given"},
                        "model": {"type": "mlflow_model", "path": "azureml:m:1"},
                        "bound": {"path": "${{parent.inputs.data}}", "mode": "download"},
                        "rate": 3,
                    },
                },
                "score": {"component": ParallelComponent.model_validate(score)},
                "inner": {"component": inner},
                "known": {"component": "azureml:known:1"},
            },
            "inputs": {"x": {"type": "uri_file", "uri": "x.csv"}, "n": 1},
        }
    )
    files = Recorded()
    sent = files.pipeline_job(job).model_dump(exclude_unset=True)
    upload = f"upload:{'0' * 64}"
    assert dict(files.paths) == {
        "inputs.x.uri": str(Path.cwd() / "x.csv"),
        "jobs.fit.component.code": "/fit",
        "jobs.fit.inputs.data.path": "/given",
        "jobs.score.component.task.code": "/score",
        "jobs.inner.component.jobs.deep.component.code": "/deep",
    }
    assert sent["inputs"]["x"]["uri"] == f"{upload}/x.csv"
    fit = sent["jobs"]["fit"]
    assert fit["inputs"]["data"]["path"] == f"{upload}/given"
    assert fit["inputs"]["model"]["path"] == "azureml:m:1"
    assert fit["inputs"]["bound"]["path"] == "${{parent.inputs.data}}"
    assert fit["environment"]["conda_file"] == {"dependencies": ["python=3.11"]}
    assert fit["component"]["environment"] == fit["environment"]
    assert sent["jobs"]["score"]["component"]["task"]["code"] == f"{upload}/score"
    deep = sent["jobs"]["inner"]["component"]["jobs"]["deep"]["component"]
    assert deep["code"] == f"{upload}/deep"
    assert sent["jobs"]["known"] == {"component": "azureml:known:1"}


def test_results_never_go_to_a_folder_that_the_server_cannot_reach() -> None:
    output = PipelineOutput(uri="/here")
    job = PipelineJob(component="azureml:c:1", outputs={"scores": output})
    with pytest.raises(Invalid) as caught:
        Recorded().pipeline_job(job)
    assert (caught.value.code, caught.value.where) == ("uri_invalid", "outputs.scores.uri")


# --- jobs --------------------------------------------------------------------------------------


def test_a_pipeline_job_from_python(
    either: Either, code: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, plane = either
    monkeypatch.chdir(data.parent)
    job = PipelineJob(
        component=pipeline(code),
        inputs={"data": JobInput(type="uri_folder", uri=data.name), "rate": 0.25},
        outputs={"scores": PipelineOutput(uri="mine")},
        tags={"night": "1"},
    )
    first, again = (client.jobs.create(job, idempotency_key="k") for _ in range(2))
    assert first.name == again.name
    spec = plane.ledger.get_job(first.name).spec
    assert isinstance(spec, PipelineSpec)
    given = spec.inputs["data"]
    assert isinstance(given, JobInput)
    assert given.uri == data.as_uri()
    assert spec.inputs["rate"] == 0.25
    assert path_of(first.outputs()["scores"].uri) == data.parent / "mine"
    assert [child.name for child in first.children()] == [f"{first.name}-one", f"{first.name}-two"]

    def names(**query: Any) -> list[str]:
        return [each.name for each in client.jobs.list(**query)]

    assert names() == names(type="pipeline") == names(tags={"night": None}) == [first.name]
    assert names(tags={"night": "1"}, states=[JobState.QUEUED, JobState.RUNNING]) == [first.name]
    assert names(tags={"night": "2"}) == names(states=[JobState.FAILED]) == []
    assert names(parent=first.name) == [child.name for child in first.children()]
    with pytest.raises(NotFound) as caught:
        client.jobs.create(PipelineJob(component="azureml:graph_of_nobody:1"))
    assert (caught.value.code, caught.value.where) == ("component_not_found", "component")


def test_outputs_are_downloaded_by_name_or_all(either: Either, code: Path, data: Path) -> None:
    client, plane = either
    deployed(client, code)
    handle = client.invoke("flow", inputs={"data": data})
    one, two = (step_of(plane, handle.job, step) for step in ("one", "two"))
    with pytest.raises(Conflict) as early:
        handle.download(data.parent / "early")
    assert early.value.code == "job_not_finished"
    done = completed_step(one, {"copied/a.csv": b"x", "report": b"how it went"})
    epoch = plane.ledger.acquire_lease(handle.name, "me", 0.0, 15, force=True)
    assert epoch is not None
    running = handle.job.status.model_copy(update={"state": JobState.RUNNING})
    plane.ledger.renew_pipeline(
        handle.name, epoch, 1.0, 15, status=running, children={one.name: done}, results={}
    )
    folder = data.parent / "some"
    [report] = handle.download(folder)
    assert report.parent == folder / "report"
    assert report.read_bytes() == b"how it went"
    done = completed_step(two, {"copied/b/c.csv": b"y", "report": b"z"})
    ended = running.model_copy(update={"state": JobState.COMPLETED})
    plane.ledger.finish(handle.name, epoch, ended, children={two.name: done})
    folder = data.parent / "all"
    seen: list[str] = []
    written = handle.download(folder, lambda file: seen.append(file.path))
    assert written == [folder / "report" / seen[0], folder / "scores" / "b" / "c.csv"]
    [scores] = handle.download(data.parent / "one", output_name="scores")
    assert scores == data.parent / "one" / "b" / "c.csv"
    assert [file.path for file in handle.files("scores")] == ["b/c.csv"]
    step: JobHandle = client.job(one.name)
    assert set(step.outputs()) == {"copied", "report"}
    assert len(step.download(data.parent / "step")) == 2


# --- invoke ------------------------------------------------------------------------------------


def test_named_inputs_are_what_the_component_declares(
    either: Either, code: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, plane = either
    deployed(client, code)
    monkeypatch.chdir(data.parent)
    out = data.parent / "out"
    # A text is data where data is declared.
    for given in (data.name, data, Input(data.name), JobInput(type="uri_folder", uri=str(data))):
        handle = client.invoke(
            "flow", inputs={"data": given, "rate": 0.75}, outputs={"scores": out}
        )
        spec = handle.job.spec
        assert isinstance(spec, PipelineSpec)
        source = spec.inputs["data"]
        assert isinstance(source, JobInput)
        assert (source.type, source.uri) == ("uri_folder", data.as_uri())
        assert spec.inputs["rate"] == 0.75
        assert path_of(handle.outputs()["scores"].uri) == out
        plane.invocations.cancel(handle.name)
    handle = client.invoke("flow", data, force_rerun=True, default_compute="local")
    assert isinstance(handle.job.spec, PipelineSpec)
    assert handle.job.spec.force_rerun
    with pytest.raises(Invalid) as caught:
        client.invoke("flow", inputs={"data": data, "rate": "fast"})
    assert caught.value.where == "inputs.rate"
    with pytest.raises(Invalid) as caught:
        client.invoke("flow", inputs={"data": [data, "azureml://models/x"]})
    assert caught.value.where == "inputs.data"
    other: Any = {"deployment_name": "nightly"}  # its inputs would be those of the default
    with pytest.raises(Invalid, match="write deployment=") as caught:
        client.invoke("flow", inputs={"data": "data"}, **other)
    assert (caught.value.code, caught.value.where) == ("field_unknown", "deployment_name")


def test_a_model_takes_one_named_input_and_literals(
    either: Either, tmp_path: Path, data: Path
) -> None:
    client, _ = either
    script = tmp_path / "score.py"
    script.write_text("def init(): ...\ndef run(batch): return batch\n")
    client.deploy(mlflow_model(tmp_path / "model"), "heart", scoring_script=str(script))
    handle = client.invoke("heart", inputs={"patients": Input(data), "beams": "4"})
    assert handle.job.scoring.input.uri == data.as_uri()
    assert handle.job.scoring.settings.parameters == {"beams": "4"}
    with pytest.raises(Invalid) as caught:
        client.invoke("heart", inputs={"a": Input(data), "b": Input(data)})
    assert caught.value.where == "inputs.b"


def test_deployments_of_both_kinds(either: Either, tmp_path: Path, code: Path) -> None:
    client, _ = either
    deployed(client, code)
    client.deploy(mlflow_model(tmp_path / "model"), "flow", deployment="first", set_default=False)
    found = {each.name: each.type for each in client.deployments.list("flow")}
    assert found == {"first": "model", "nightly": "pipeline"}
    changed = client.deployments.update("flow", "nightly", {"description": "at night"})
    assert changed == client.deployments.get("flow", "nightly")
    assert isinstance(changed, PipelineDeployment)


def test_data_and_code_are_uploaded_to_a_server_elsewhere(
    server: Server, code: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchpoint.client.connection.is_this_machine", lambda _: False)
    with Client(server.url) as client:
        deployed(client, code)
        handle = client.invoke("flow", inputs={"data": data})
        spec = handle.job.spec
        assert isinstance(spec, PipelineSpec)
        source = spec.inputs["data"]
        assert isinstance(source, JobInput)
        assert source.uri is not None
        assert (path_of(source.uri) / "a.csv").read_bytes() == (data / "a.csv").read_bytes()
        assert path_of(source.uri) != data
