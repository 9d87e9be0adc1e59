"""Reads the JSON of requests strictly: what two readers could take for two things is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, NoReturn, cast

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid


def read_json(body: bytes) -> object:
    """Read one JSON document.

    Refused beyond what is no JSON: names given twice in an object, NaN and infinities, numbers too
    long to keep, more than `limits.JSON_DEPTH_MAX` levels, text that is no Unicode (half of a
    surrogate pair). Raises: Invalid (`field_invalid`) that says what is wrong and where.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(f"is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from error
    try:
        document: object = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _invalid(f"is not JSON: {error.msg.lower()} at {place}") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        if isinstance(error, Invalid):
            raise
        raise _invalid("holds a number with too many digits") from error
    if text.count("[") + text.count("{") > limits.JSON_DEPTH_MAX:
        _check_depth(document)
    if "\\ud" in text or "\\uD" in text:
        _check_surrogates(document)
    return document


class JsonRoute(APIRoute):
    """A route whose body, if it takes a document, is read by `read_json`.

    Answers 415 to a body that does not say it is JSON.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with the document read before FastAPI looks at it."""
        serve = super().get_route_handler()
        if self.body_field is None:
            return serve

        async def handle(request: Request) -> Response:
            body = await request.body()
            if not body:
                return await serve(request)
            _check_type(request.headers.get("content-type"))
            return await serve(_Read(request, body))

        return handle


class _Read(Request):
    """A request whose document has been read."""

    def __init__(self, request: Request, content: bytes) -> None:
        super().__init__(request.scope, request.receive)
        self._content = content
        self._document = read_json(content)

    async def body(self) -> bytes:
        return self._content

    async def json(self) -> Any:
        return self._document


def _check_type(given: str | None) -> None:
    message = Message()
    message["content-type"] = given or ""
    kind, subtype = message.get_content_maintype(), message.get_content_subtype()
    if kind != "application" or (subtype != "json" and not subtype.endswith("+json")):
        told = repr(given[:100]) if given else "nothing"
        raise HTTPException(
            415, f"the body has to come with content-type: application/json, and came with {told}"
        )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise _invalid(f"gives {twice[:100]!r} twice in one object; remove one")
    return found


def _constant(name: str) -> NoReturn:
    raise _invalid(f"holds {name}, which is no JSON; expected finite numbers")


def _float(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise _invalid(f"holds {text[:40]}, a number that is too large")
    return found


def _check_depth(document: object) -> None:
    level = [document]
    for _ in range(limits.JSON_DEPTH_MAX + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise _too_deep()


def _check_surrogates(document: object) -> None:
    left = [document]
    while left:
        node = left.pop()
        children = _children(node)
        if isinstance(node, dict):
            children = [*children, *cast("dict[str, object]", node)]
        elif isinstance(node, str) and any("\ud800" <= letter <= "\udfff" for letter in node):
            shown = node[:40].encode("ascii", "backslashreplace").decode()
            raise _invalid(f"holds text that is no Unicode (half a surrogate pair): {shown}")
        left += children


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(cast("dict[str, object]", node).values())
    return cast("list[object]", node) if isinstance(node, list) else []


def _too_deep() -> Invalid:
    return _invalid(f"is nested deeper than {limits.JSON_DEPTH_MAX} levels")


def _invalid(sentence: str) -> Invalid:
    return Invalid(sentence, code="field_invalid", where="body")
