"""Every error has its status and leaves as a problem document."""

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from batchpoint.api.problems import Problem, problem_of, status_of
from batchpoint.client.connection import Connection
from batchpoint.client.embedded_transport import EmbeddedTransport
from batchpoint.domain.errors import (
    CODES,
    FAMILIES,
    BatchpointError,
    Invalid,
    Unavailable,
    error_from,
)
from batchpoint.domain.findings import FINDINGS_MAX, invalid_fields
from batchpoint.domain.pipeline import PipelineJob
from tests.unit.control_plane import ControlPlane


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_status_that_fits_its_family(code: str) -> None:
    status = status_of(code)
    family = CODES[code]
    if family is BatchpointError:
        assert status == 500
    elif issubclass(family, Unavailable):
        assert status in {503, 507}
    else:
        assert 400 <= status < 500


def test_families_can_be_told_apart_by_status() -> None:
    assert status_of("internal_error") == status_of("never heard of") == 500
    statuses = {family: status_of(family.code) for family in FAMILIES}
    assert statuses[FAMILIES[0]] == 400
    assert len(set(statuses.values())) >= len(FAMILIES) - 1


@pytest.mark.parametrize("code", CODES)
def test_an_error_comes_back_as_it_was(code: str) -> None:
    error = error_from(code, "a sentence", "here")
    problem = problem_of(error)
    back = error_from(problem.code, problem.detail, problem.where)
    assert (type(back), back.code, str(back)) == (type(error), code, str(error))
    assert problem.retryable == back.retryable


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/healthz", 405, "invalid"),
        ("GET", "/endpoints/ghost", 404, "endpoint_not_found"),
        ("GET", "/jobs/ghost", 404, "job_not_found"),
        ("GET", "/jobs?limit=0", 400, "field_invalid"),
        ("GET", "/jobs?after=ghost", 404, "job_not_found"),
        ("GET", "/jobs/ghost?wait_seconds=1000", 400, "field_invalid"),
    ],
)
def test_errors_are_problem_documents(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(answer.json())
    assert (problem.status, problem.code) == (status, code)
    assert problem.detail.strip()


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        ('{"name": "heart", "colour": 1}', "field_unknown", "colour"),
        ('{"name": "h"}', "field_invalid", "name"),
        ('{"name": "heart", "defaults": {"x": 1}}', "field_unknown", "defaults.x"),
        ('{"name": "heart"', "field_invalid", None),
        ("[]", "field_invalid", "body"),
        ('{"name": "lung"}', "field_invalid", "name"),
    ],
)
def test_wrong_fields_are_named(
    http: httpx.Client, body: str, code: str, where: str | None
) -> None:
    told = {"content-type": "application/json"}
    answer = http.put("/endpoints/heart", content=body, headers=told)
    assert answer.status_code == 400
    assert answer.json()["code"] == code
    if where is not None:
        assert answer.json()["where"] == where


def test_many_findings_are_one_sentence_each() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        count: int

    with pytest.raises(ValidationError) as caught:
        Strict.model_validate({"count": "x"} | {f"f{i}": 1 for i in range(30)})
    error = invalid_fields(caught.value.errors())
    assert error.code == "field_invalid"
    assert error.where is None
    assert "count: input should be a valid integer" in error.message
    assert error.message.endswith(f"and {31 - FINDINGS_MAX} more")


_STEP = {"component": {"command": "x", "inputs": {"a": {"type": "strin"}}}}


@pytest.mark.parametrize("with_document", [True, False])
@pytest.mark.parametrize(
    ("given", "wheres"),
    [
        ({"jobs": {"train": _STEP}}, ["jobs.train.component.inputs.a.type"]),
        ({"jobs": {"a": {"component": {"type": "x"}}}}, ["jobs.a.component"]),
        (
            {"component": "c", "inputs": {"x": {"value": 1}, "y": []}},
            ["inputs.x.type", "inputs.x.value", "inputs.y"],
        ),
        ({"component": 3}, ["component"]),
        ({}, ["body"]),
    ],
)
def test_findings_name_fields_and_not_the_branches_of_unions(
    given: dict[str, object], wheres: list[str], *, with_document: bool
) -> None:
    with pytest.raises(ValidationError) as caught:
        PipelineJob.model_validate(given)
    error = invalid_fields(caught.value.errors(), given if with_document else None)
    assert [found.where for found in error.findings] == wheres


def test_names_of_branches_may_be_names_of_callers() -> None:
    given = {"component": "c", "inputs": {"str": {"value": 1}, "Data": {"value": 1}}}
    with pytest.raises(ValidationError) as caught:
        PipelineJob.model_validate(given)
    told = {found.where for found in invalid_fields(caught.value.errors(), given).findings}
    assert told == {
        f"inputs.{name}.{field}" for name in given["inputs"] for field in ("type", "value")
    }


def test_each_finding_is_on_the_wire_and_comes_back(
    http: httpx.Client, plane: ControlPlane
) -> None:
    body = {"name": "heart", "colour": 1, "description": 2}
    told = http.put("/endpoints/heart", json=body).json()
    assert [(part["where"], part["code"]) for part in told["errors"]] == [
        ("description", "field_invalid"),
        ("colour", "field_unknown"),
    ]
    with pytest.raises(Invalid) as caught:
        Connection(None, plane.app()).send("PUT", "/endpoints/heart", body=body)
    assert [found._asdict() for found in caught.value.findings] == told["errors"]


def test_what_nobody_foresaw_is_logged_and_told_without_details(
    plane: ControlPlane, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(plane.services.registry, "get_endpoint", explode)
    with httpx.Client(transport=EmbeddedTransport(plane.app), base_url="http://test") as http:
        answer = http.get("/endpoints/heart")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "ZeroDivisionError: secret" in caplog.text
