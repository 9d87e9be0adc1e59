"""Invoking: everything wrong with the request is said at once, and the same key is the same job."""

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.compute import Compute
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid
from batchpoint.domain.job import Invocation, Job, JobState
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model


@pytest.fixture
def ready(plane: ControlPlane, tmp_path: Path) -> ControlPlane:
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    model = {"path": str(mlflow_model(tmp_path / "model")), "type": "mlflow_model"}
    plane.registry.put_deployment(
        ModelDeployment.model_validate({"name": "first", "endpoint_name": "heart", "model": model}),
        lambda line: None,
        set_default=True,
    )
    data_folder(tmp_path / "data")
    return plane


def body(tmp_path: Path, **fields: Any) -> Invocation:
    source = {"type": "uri_folder", "uri": str(tmp_path / "data")}
    return Invocation.model_validate({"input": source} | fields)


def test_a_job_holds_everything_that_was_decided(ready: ControlPlane, tmp_path: Path) -> None:
    ready.registry.update_compute("local", {"idle_time_before_scale_down": 7, "max_instances": 9})
    asked = body(tmp_path, experiment_name="e", tags={"a": "1"}, overrides={"mini_batch_size": 4})
    job = ready.invocations.invoke("heart", asked)
    assert ready.ledger.get_job(job.name) == job
    assert job.name.startswith("heart-")
    assert job.status.state is JobState.QUEUED
    spec = job.scoring
    assert (spec.endpoint_name, spec.deployment_name, spec.compute) == ("heart", "first", "local")
    assert (spec.idle_seconds, spec.max_instances) == (7, 9)
    assert spec.settings.mini_batch_size == 4
    assert spec.input.uri == (tmp_path / "data").as_uri()
    assert spec.output.uri == (ready.home / "outputs" / job.name / "score").as_uri()
    assert spec.model is not None
    assert Path(spec.model.path, "MLmodel").is_file()
    assert (spec.experiment_name, spec.tags) == ("e", {"a": "1"})
    assert ready.wakes == ["woken"]


def test_the_same_key_is_the_same_job_whatever_became_of_it(
    ready: ControlPlane, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    asked = body(tmp_path, output={"uri": str(output)})
    job = ready.invocations.invoke("heart", asked, "key")
    output.mkdir()
    (output / "predictions.csv").write_text("done")
    assert ready.invocations.invoke("heart", asked, "key").name == job.name
    with pytest.raises(Conflict) as caught:
        ready.invocations.invoke("heart", body(tmp_path), "key")
    assert caught.value.code == "idempotency_conflict"
    with pytest.raises(Conflict) as refused:
        ready.invocations.invoke("heart", asked, "other key")
    assert refused.value.code == "output_exists"


def test_many_at_once_with_one_key_are_one_job(ready: ControlPlane, tmp_path: Path) -> None:
    made: list[Job] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(ready.invocations.invoke("heart", body(tmp_path), "key"))
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 12
    assert len({job.name for job in made}) == 1


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_keys_are_bounded(ready: ControlPlane, tmp_path: Path, key: str) -> None:
    with pytest.raises(Invalid):
        ready.invocations.invoke("heart", body(tmp_path), key)


def test_a_name_may_be_given_once(ready: ControlPlane, tmp_path: Path) -> None:
    assert ready.invocations.invoke("heart", body(tmp_path, job_name="mine")).name == "mine"
    with pytest.raises(Conflict, match="already a job named 'mine'"):
        ready.invocations.invoke("heart", body(tmp_path, job_name="mine"))
    for name in ("../mine", "a b", "", ".hidden", "x" * 256):
        with pytest.raises(Invalid):
            ready.invocations.invoke("heart", body(tmp_path, job_name=name))


def refused(plane: ControlPlane, asked: Invocation) -> BatchpointError:
    with pytest.raises(BatchpointError) as caught:
        plane.invocations.invoke("heart", asked)
    assert plane.ledger.list_jobs() == []
    return caught.value


def test_without_a_default_a_deployment_has_to_be_named(
    ready: ControlPlane, tmp_path: Path
) -> None:
    ready.registry.update_endpoint("heart", {"defaults": {"deployment_name": None}})
    assert refused(ready, body(tmp_path)).code == "default_deployment_unset"
    ghost = body(tmp_path, deployment_name="ghost")
    assert refused(ready, ghost).code == "deployment_not_found"
    assert ready.invocations.invoke("heart", body(tmp_path, deployment_name="first"))


@pytest.mark.parametrize(
    ("kind", "uri", "code"),
    [
        ("uri_folder", "{tmp}/nowhere", "input_not_found"),
        ("uri_folder", "file://{tmp}/nowhere", "input_not_found"),
        ("uri_folder", "data", "uri_invalid"),
        ("uri_folder", "ftp://host/data", "uri_invalid"),
        ("uri_file", "{tmp}/data", "field_invalid"),
        ("uri_folder", "{tmp}/data/a.csv", "field_invalid"),
        ("uri_file", "{tmp}/pipe", "input_unreadable"),
        ("uri_folder", "{tmp}/" + "x" * 300, "input_not_found"),
    ],
)
def test_the_input_is_looked_at(
    ready: ControlPlane, tmp_path: Path, kind: str, uri: str, code: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    source = {"type": kind, "uri": uri.format(tmp=tmp_path)}
    error = refused(ready, body(tmp_path, input=source))
    assert error.code == code or (code == "input_not_found" and error.code == "input_unreadable")
    assert error.where is not None
    assert error.where.startswith("input.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_input_that_may_not_be_read_is_said(ready: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "data").chmod(0)
    try:
        assert refused(ready, body(tmp_path)).code == "input_unreadable"
    finally:
        (tmp_path / "data").chmod(stat.S_IRWXU)


def test_inputs_with_any_name_are_found(ready: ControlPlane, tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "50% of é #1?")
    for uri in (str(folder), folder.as_uri()):
        source = {"type": "uri_folder", "uri": uri}
        job = ready.invocations.invoke("heart", body(tmp_path, input=source))
        assert job.scoring.input.uri == folder.as_uri()


def test_outputs_never_replace_anything(ready: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert refused(ready, body(tmp_path, output={"uri": str(tmp_path / "file")})).code == (
        "output_exists"
    )
    assert refused(ready, body(tmp_path, output={"uri": str(tmp_path / "model")})).code == (
        "output_exists"
    )
    (tmp_path / "empty").mkdir()
    ready.invocations.invoke("heart", body(tmp_path, output={"uri": str(tmp_path / "empty")}))
    deep = tmp_path / "a" / "b" / "c"
    ready.invocations.invoke("heart", body(tmp_path, output={"uri": str(deep)}))
    assert not deep.exists()


def test_outputs_do_not_become_input(ready: ControlPlane, tmp_path: Path) -> None:
    inside = body(tmp_path, output={"uri": str(tmp_path / "data" / "out")})
    assert "lies inside the input" in refused(ready, inside).message
    under_a_file = body(tmp_path, output={"uri": str(tmp_path / "data" / "a.csv" / "out")})
    assert refused(ready, under_a_file).code == "uri_invalid"


def test_nodes_are_bounded_by_the_compute(ready: ControlPlane, tmp_path: Path) -> None:
    ready.registry.put_compute(Compute(name="local", max_instances=2))
    error = refused(ready, body(tmp_path, overrides={"instance_count": 3}))
    assert (error.code, error.where) == ("field_invalid", "instance_count")


def test_cancelling_wakes_whoever_runs_the_job(ready: ControlPlane, tmp_path: Path) -> None:
    job = ready.invocations.invoke("heart", body(tmp_path))
    assert ready.invocations.cancel(job.name).status.state is JobState.CANCEL_REQUESTED
    assert ready.wakes == ["woken", "woken"]


def test_data_and_results_may_have_names(ready: ControlPlane, tmp_path: Path) -> None:
    source = {"type": "uri_folder", "uri": str(tmp_path / "data")}
    output = {"type": "uri_file", "uri": str(tmp_path / "out" / "x.parquet")}
    asked = {"inputs": {"rows": source}, "outputs": {"scores": output}}
    spec = ready.invocations.invoke("heart", Invocation.model_validate(asked)).scoring
    assert spec.input.uri == (tmp_path / "data").as_uri()
    assert spec.output.uri == (tmp_path / "out").as_uri()
    assert spec.settings.output_file_name == "x.parquet"


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"inputs": {"rows": {"type": "uri_folder", "uri": "/no/such"}}}, "inputs.rows.uri"),
        ({"inputs": {"rows": {"type": "uri_file", "uri": "/"}}}, "inputs.rows.type"),
        (
            {"inputs": {"rows": {"type": "uri_folder", "uri": "/"}, "a.b": 1}},
            "overrides.parameters",
        ),
        ({"outputs": {"s": {"uri": "ftp://host/x"}}}, "outputs.s.uri"),
        ({"outputs": {"s": {"type": "uri_file", "uri": "/tmp/new/scores"}}}, "outputs.s.uri"),
    ],
)
def test_what_is_wrong_is_told_by_the_callers_names(
    ready: ControlPlane, tmp_path: Path, fields: dict[str, Any], where: str
) -> None:
    source = {"type": "uri_folder", "uri": str(tmp_path / "data")}
    asked = {"inputs": {"rows": source}} | fields
    assert refused(ready, Invocation.model_validate(asked)).where == where
