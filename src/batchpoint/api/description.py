"""The description of the API (OpenAPI): FastAPI's own, told in our nouns and with examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from batchpoint.api.description_examples import BODIES, PROBLEMS
from batchpoint.api.problems import MEDIA_TYPE, Problem

_BOUNDS = {"ge": "minimum", "le": "maximum"}
_OUTCOMES = {
    "200": "What was asked for.",
    "201": "Created.",
    "204": "Done; there is nothing to tell.",
}
_OF_BODIES = {
    "413": "The body is larger than this server reads.",
    "415": "The body does not say that it is JSON.",
}
# What an answer tells that another operation takes.
_LINKS = {
    "invoke_endpoint": ("201", {"job": ("$response.body#/name", ("get_job", "cancel_job"))}),
    "create_job": ("201", {"job": ("$response.body#/name", ("get_job", "list_outputs"))}),
    "begin_upload": ("200", {"tree": ("$response.body#/hash", ("get_upload", "commit_upload"))}),
}
_HEADERS = {
    ("invoke_endpoint", "201"): ("Location", "Where the job is found."),
    ("create_job", "201"): ("Location", "Where the job is found."),
    ("get_result", "206"): ("Content-Range", "Which bytes of how many these are."),
    ("get_result", "416"): ("Content-Range", "How many bytes there are."),
}


def described(app: FastAPI, tags: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe all routes that an app has.

    Validation errors are problem documents here, not FastAPI's own shape. Where a noun is told
    otherwise than it is given, what callers give is its `...Body`.
    """
    told = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        tags=tags,
        routes=app.routes,
    )
    schemas: dict[str, Any] = told.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs")
    schemas[Problem.__name__] = problem
    told = _renamed(told, schemas)
    for path in told["paths"].values():
        for operation in path.values():
            _complete(operation)
    return told


def _renamed(told: dict[str, Any], schemas: Iterable[str]) -> dict[str, Any]:
    """Give schemas the names of the nouns they tell of."""
    names = {name: _noun(name) for name in schemas}
    prefix = "#/components/schemas/"

    def read(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # pydantic leaves the bounds of a number in its own words where a validator stands before.
        return {_BOUNDS.get(key, key): value for key, value in pairs}

    text = json.dumps(told)
    for old, new in names.items():
        text = text.replace(f'"{prefix}{old}"', f'"{prefix}{new}"')
    told = json.loads(text, object_pairs_hook=read)
    found: dict[str, dict[str, Any]] = told["components"]["schemas"]
    renamed = {names[name]: {**schema, "title": names[name]} for name, schema in found.items()}
    told["components"]["schemas"] = dict(sorted(renamed.items()))
    return told


def _noun(name: str) -> str:
    page = re.fullmatch(r"Page_(\w+)_", name)
    if page is not None:
        return f"{page[1]}Page"
    return name.replace("-Input", "Body").replace("-Output", "")


def _complete(operation: dict[str, Any]) -> None:
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    identity: str = operation["operationId"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        body["examples"] = BODIES.get(identity, {})
        for status, meaning in _OF_BODIES.items():
            schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
            content = {MEDIA_TYPE: {"schema": schema}}
            responses[status] = {"description": meaning, "content": content}
    for status, answer in responses.items():
        if answer["description"] == "Successful Response":
            answer["description"] = _OUTCOMES[status]
        if status in PROBLEMS:
            answer["content"][MEDIA_TYPE]["example"] = PROBLEMS[status]
        if (identity, status) in _HEADERS:
            name, meaning = _HEADERS[identity, status]
            answer["headers"] = {name: {"description": meaning, "schema": {"type": "string"}}}
    if identity in _LINKS:
        status, values = _LINKS[identity]
        responses[status]["links"] = {
            other: {"operationId": other, "parameters": {parameter: value}}
            for parameter, (value, others) in values.items()
            for other in others
        }
    operation["responses"] = dict(sorted(responses.items()))
