"""The description of the API is complete, and the documentation names every route."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from batchpoint.api.azure_bodies import read_invocation
from batchpoint.api.description_examples import BODIES
from batchpoint.api.metrics_routes import add_metrics
from batchpoint.api.problems import Problem
from batchpoint.domain.asset import Code, Data, Environment, Model
from batchpoint.domain.component import CommandComponent, Component
from batchpoint.domain.compute import Compute
from batchpoint.domain.datastore import Datastore
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.job import Invocation
from batchpoint.domain.model_shape import Noun
from batchpoint.domain.pipeline import PipelineJob
from batchpoint.domain.upload import TreeManifest
from tests.unit.control_plane import ControlPlane

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture
def described(plane: ControlPlane) -> dict[str, Any]:
    app = plane.app()
    add_metrics(app, plane.services)  # as a server does
    return app.openapi()


def operations(described: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_is_described(described: dict[str, Any]) -> None:
    found = operations(described)
    assert len(found) > 35
    tags = {tag["name"] for tag in described["tags"]}
    for method, path, operation in found:
        place = f"{method} {path}"
        assert operation["summary"], place
        assert operation["description"].rstrip().endswith("."), place
        assert set(operation["tags"]) <= tags, place
        assert len(operation["tags"]) == 1, place
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "path":
                assert parameter.get("description"), f"{place}: {parameter['name']}"
    identities = [operation["operationId"] for _, _, operation in found]
    assert len(identities) == len(set(identities))


def test_errors_are_described_as_problem_documents(described: dict[str, Any]) -> None:
    assert "Problem" in described["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & set(described["components"]["schemas"])
    for method, path, operation in operations(described):
        assert "422" not in operation["responses"]
        for status, answer in operation["responses"].items():
            if status.startswith(("4", "5")):
                assert list(answer["content"]) == ["application/problem+json"], (method, path)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    for reference in references(described):
        node: Any = described
        for step in reference.removeprefix("#/").split("/"):
            assert step in node, reference
            node = node[step]


def test_the_documentation_has_a_heading_for_every_route(described: dict[str, Any]) -> None:
    text = (DOCS / "rest-api.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")}
    routes = {f"`{method} {path}`" for method, path, _ in operations(described)}
    assert headings == routes, "docs/rest-api.md: a heading for each route, and no others"


# The noun that each kind of body is read with; patches are merged into one.
NOUNS: dict[str, type[Noun]] = {
    "endpoint": BatchEndpoint,
    "deployment": ModelDeployment,
    "model": Model,
    "environment": Environment,
    "data": Data,
    "code": Code,
    "compute": Compute,
    "datastore": Datastore,
    "upload": TreeManifest,
    "job": PipelineJob,
    "component": CommandComponent,
}
# Bodies of several types are read by all of them; a patch changes fields of the first.
UNIONS: dict[str, TypeAdapter[Any]] = {
    "deployment": TypeAdapter(Deployment),
    "component": TypeAdapter(Component),
}


def test_operations_are_named_as_one_would_say_them(described: dict[str, Any]) -> None:
    for _, path, operation in operations(described):
        name = operation["operationId"]
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name), path
        assert not re.match(r"([a-z]+)s?_[a-z]+_\1", name), name


def test_schemas_are_named_for_nouns(described: dict[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    for name, schema in schemas.items():
        assert re.fullmatch(r"([A-Z][a-z]+)+", name), name
        assert schema["title"] == name
        assert not {"ge", "le"} & set(str(schema).replace("'", " ").split()), name
    for noun in NOUNS.values():
        assert noun.__name__ in schemas
    assert "writeOnly" in str(schemas["Credentials"])
    assert "credentials" in schemas["DatastoreBody"]["properties"]
    assert "credentials" not in schemas["Datastore"]["properties"]


def test_every_body_has_examples_that_are_valid(described: dict[str, Any]) -> None:
    seen: set[str] = set()
    for _, path, operation in operations(described):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        name = operation["operationId"]
        seen.add(name)
        assert body["examples"], path
        for example in body["examples"].values():
            assert example["summary"], path
            verb, _, thing = name.partition("_")
            thing = thing.removesuffix("_version")
            noun = NOUNS[thing] if name != "invoke_endpoint" else None
            if verb != "patch" and thing in UNIONS:
                UNIONS[thing].validate_python(example["value"])
            elif noun is not None and verb != "patch":
                noun.model_validate(example["value"])
            elif noun is not None:
                assert set(example["value"]) <= set(noun.model_fields), path
            elif "properties" in example["value"]:
                read_invocation(example["value"])
            else:
                Invocation.model_validate(example["value"])
    assert seen == set(BODIES)


def test_every_problem_has_an_example(described: dict[str, Any]) -> None:
    for method, path, operation in operations(described):
        assert {"400", "503"} <= set(operation["responses"]), (method, path)
        for status, answer in operation["responses"].items():
            assert answer["description"].endswith("."), (method, path, status)
            assert answer["description"] != "Successful Response"
            if status.startswith(("4", "5")):
                example = answer["content"]["application/problem+json"]["example"]
                assert Problem.model_validate(example).status == int(status)


def test_links_lead_to_operations_that_take_what_they_give(described: dict[str, Any]) -> None:
    takes = {
        operation["operationId"]: {each["name"] for each in operation.get("parameters", [])}
        for _, _, operation in operations(described)
    }
    links = [
        link
        for _, _, operation in operations(described)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert len(links) == 6
    for link in links:
        assert set(link["parameters"]) <= takes[link["operationId"]]


def test_the_page_for_trying_it_out_loads(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text
    assert "<title>batchpoint" in page.text
    told = http.get("/openapi.json")
    assert told.json()["info"]["title"] == "batchpoint"
