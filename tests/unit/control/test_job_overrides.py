"""Everything one job may change is in its resolved spec, and nothing else of its deployment."""

from pathlib import Path
from typing import Any

import pytest

from batchpoint.control.registry import Deployed
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import Conflict, Invalid
from batchpoint.domain.job import Invocation
from batchpoint.domain.job_spec import ScoreSpec
from tests.unit.control_plane import ControlPlane, code_folder, data_folder

DEPLOYED = {
    "mini_batch_size": 7,
    "max_concurrency_per_instance": 2,
    "instance_count": 1,
    "retry_settings": {"max_retries": 2, "timeout": 60},
    "error_threshold": 5,
    "logging_level": "debug",
    "output_file_name": "p.csv",
    "environment_variables": {"A": "1", "B": "1"},
    "parameters": {"beams": 4, "mode": "fast"},
}


@pytest.fixture
def ready(plane: ControlPlane, tmp_path: Path) -> ControlPlane:
    """A deployment in which everything that a job may change has a value of its own."""
    (tmp_path / "weights.txt").write_text("weights")
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    code = {"code": str(code_folder(tmp_path / "code")), "scoring_script": "score.py"}
    plane.registry.put_deployment(
        ModelDeployment.model_validate(
            {
                "name": "first",
                "endpoint_name": "heart",
                "model": {"path": str(tmp_path / "weights.txt")},
                "code_configuration": code,
                "settings": DEPLOYED,
            }
        ),
        lambda line: None,
        set_default=True,
    )
    plane.registry.update_compute("local", {"max_instances": 4})
    data_folder(tmp_path / "data")
    return plane


def resolved(plane: ControlPlane, tmp_path: Path, **fields: Any) -> ScoreSpec:
    source = {"type": "uri_folder", "uri": str(tmp_path / "data")}
    body = Invocation.model_validate({"input": source} | fields)
    job = plane.invocations.invoke("heart", body)
    return plane.ledger.get_job(job.name).scoring


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ({"instance_count": 3}, {"instance_count": 3}),
        ({"max_concurrency_per_instance": 8}, {"max_concurrency_per_instance": 8}),
        ({"mini_batch_size": 1}, {"mini_batch_size": 1}),
        ({"max_retries": 0}, {"max_retries": 0}),
        ({"timeout": 9}, {"timeout_seconds": 9}),
        ({"error_threshold": 0}, {"error_threshold": 0}),
        ({"error_threshold": -1}, {"error_threshold": -1}),
        ({"logging_level": "Warning"}, {"logging_level": "warning"}),
        ({"output_file_name": "o.jsonl"}, {"output_file_name": "o.jsonl"}),
        (
            {"environment_variables": {"B": "2", "C": "3"}},
            {"environment_variables": {"A": "1", "B": "2", "C": "3"}},
        ),
        (
            {"parameters": {"beams": "8", "top": 0.5}},
            {"parameters": {"beams": 8, "mode": "fast", "top": 0.5}},
        ),
    ],
    ids=lambda value: next(iter(value)),
)
def test_one_override_changes_one_setting(
    ready: ControlPlane, tmp_path: Path, overrides: dict[str, Any], changed: dict[str, Any]
) -> None:
    before = resolved(ready, tmp_path).settings.model_dump()
    after = resolved(ready, tmp_path, overrides=overrides).settings.model_dump()
    assert {name: after[name] for name in after if after[name] != before[name]} == changed
    assert resolved(ready, tmp_path).settings.model_dump() == before


def test_the_output_path(ready: ControlPlane, tmp_path: Path) -> None:
    output = tmp_path / "mine"
    assert resolved(ready, tmp_path, output={"uri": str(output)}).output.uri == output.as_uri()
    assert resolved(ready, tmp_path).output.uri != output.as_uri()


def test_whom_it_tells_of_its_end(ready: ControlPlane, tmp_path: Path) -> None:
    told = resolved(ready, tmp_path, webhook_url="https://user:pass@example.com/x?key=k")
    assert told.webhook_url == "https://***@example.com/x?***"
    assert resolved(ready, tmp_path).webhook_url is None


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        ({"parameters": {"--beams": 1}}, "overrides.parameters"),
        ({"parameters": {"beams": "many"}}, "overrides.parameters.beams"),
        ({"instance_count": 100}, "instance_count"),
        ({"output_file_name": "a/b.csv"}, "settings.output_file_name"),
        ({"environment_variables": {"A B": "1"}}, "settings.environment_variables"),
    ],
)
def test_what_cannot_be_is_refused(
    ready: ControlPlane, tmp_path: Path, overrides: dict[str, Any], where: str
) -> None:
    with pytest.raises(Invalid) as caught:
        resolved(ready, tmp_path, overrides=overrides)
    assert caught.value.where is not None
    assert where in caught.value.where
    assert ready.ledger.list_jobs() == []


def test_a_duplicate_that_comes_late_finds_the_job_and_not_its_output(
    ready: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of two equal requests found no job yet; the other one's has published by now."""
    output = tmp_path / "mine"
    source = {"type": "uri_folder", "uri": str(tmp_path / "data")}
    body = Invocation.model_validate({"input": source, "output": {"uri": str(output)}})
    deployed = ready.registry.deployed
    made: list[str] = []

    def overtaken(endpoint: str, name: str | None) -> Deployed:
        monkeypatch.setattr(ready.registry, "deployed", deployed)
        made.append(ready.invocations.invoke("heart", body, "key").name)
        output.mkdir()
        (output / "predictions.csv").write_text("done")
        return deployed(endpoint, name)

    monkeypatch.setattr(ready.registry, "deployed", overtaken)
    assert [ready.invocations.invoke("heart", body, "key").name] == made
    assert len(ready.ledger.list_jobs()) == 1
    with pytest.raises(Conflict):
        ready.invocations.invoke("heart", body, "other key")
