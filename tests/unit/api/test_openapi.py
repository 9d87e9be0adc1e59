"""The description of the API is complete, and the documentation names every route."""

from pathlib import Path
from typing import Any

import pytest

from batchpoint.api.metrics_routes import add_metrics
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
