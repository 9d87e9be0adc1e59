"""Errors on the wire: every code has a status and leaves as a problem document (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchpoint.domain.errors import (
    CODES,
    BatchpointError,
    Conflict,
    Denied,
    Invalid,
    JobFailed,
    NotFound,
    Unavailable,
)
from batchpoint.domain.findings import invalid_fields

MEDIA_TYPE = "application/problem+json"

# Looked up from the top; the last line makes the map total.
STATUS_OF_FAMILY: tuple[tuple[type[BatchpointError], int], ...] = (
    (Invalid, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Denied, 403),
    (Unavailable, 503),
    (JobFailed, 409),
    (BatchpointError, 500),
)
STATUS_OF_CODE = {"storage_full": 507, "job_type_wrong": 409}


# Of more than this nobody reads; `detail` says how many there are.
_ERRORS_MAX = 200


class ProblemPart(BaseModel):
    """One of the things that are wrong: the field (`jobs.train.inputs.data`) and a sentence."""

    where: str
    message: str
    code: str


class Problem(BaseModel):
    """A problem document: `code` is stable, `detail` is one sentence for people.

    `errors` tells each of the findings where something was looked at as a whole.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    where: str | None = None
    retryable: bool = False
    errors: list[ProblemPart] = Field(default_factory=list[ProblemPart])


def status_of(code: str) -> int:
    """Return the HTTP status of an error code."""
    if code in STATUS_OF_CODE:
        return STATUS_OF_CODE[code]
    family = CODES.get(code, BatchpointError)
    return next(status for ancestor, status in STATUS_OF_FAMILY if issubclass(family, ancestor))


def problem_of(error: BatchpointError) -> Problem:
    """Describe an error for the wire."""
    return Problem(
        type=f"urn:batchpoint:error:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=status_of(error.code),
        detail=error.message,
        code=error.code,
        where=error.where,
        retryable=error.retryable,
        errors=[ProblemPart(**found._asdict()) for found in error.findings[:_ERRORS_MAX]],
    )


def response_of(error: BatchpointError, path: str = "") -> JSONResponse:
    """Turn an error into the response to a request for `path`."""
    problem = problem_of(error)
    return JSONResponse(_content(problem, path), problem.status, media_type=MEDIA_TYPE)


def _content(problem: Problem, path: str) -> dict[str, object]:
    """Return the document; below a scoring URI also with `error`, as Azure's callers read it."""
    content = problem.model_dump()
    root, _, below = path.lstrip("/").partition("/")
    if root == "endpoints" and below.split("/")[1:2] == ["jobs"]:
        place = f"{problem.where}: " if problem.where else ""
        message = f"{place}{problem.detail}"
        details = [
            {"code": part.code, "message": part.message, "target": part.where}
            for part in problem.errors
        ]
        content["error"] = {"code": problem.code, "message": message, "details": details}
    return content


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods that some route takes for the path of a request."""

    def taken(method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in app.router.routes)

    return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if taken(method)]


class Bulkhead:
    """Keeps an error that nobody foresaw from reaching the server: logged here, a 500 outside."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app
        self._log = logging.getLogger("batchpoint.api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and answer for whatever goes wrong."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception:
            self._log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                # Half an answer must not look like a whole one.
                raise
            answer = response_of(
                BatchpointError("batchpoint itself failed; its log says more, please report it"),
                scope["path"],
            )
            await answer(scope, receive, send)


def install(app: FastAPI) -> None:
    """Make every error of an app leave as a problem document."""

    def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, BatchpointError)
        return response_of(error, request.url.path)

    def fields(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError | ValidationError)
        document = error.body if isinstance(error, RequestValidationError) else None
        found = invalid_fields(cast("Sequence[ErrorDetails]", error.errors()), document)
        return response_of(found, request.url.path)

    def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        family, sentence = Invalid, error.detail
        if error.status_code == 404:
            family = NotFound
            sentence = f"there is no route {request.url.path[:200]!r}; /docs lists those there are"
        elif error.status_code == 405:
            allowed = headers["allow"] = ", ".join(_methods(app, request.scope))
            sentence = f"{request.method[:20]} is not for this route, only {allowed}; see /docs"
        problem = problem_of(family(sentence))
        problem = problem.model_copy(update={"status": error.status_code})
        return JSONResponse(
            _content(problem, request.url.path), error.status_code, headers, media_type=MEDIA_TYPE
        )

    app.add_exception_handler(BatchpointError, ours)
    app.add_exception_handler(RequestValidationError, fields)
    app.add_exception_handler(ValidationError, fields)
    app.add_exception_handler(HTTPException, http)
    app.add_middleware(Bulkhead)
