"""A limit on what callers send: documents are read into memory, the files of an upload are not."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchpoint.domain import limits


class BodyLimit:
    """Answers 413 to a body of more than `limits.REQUEST_BYTES_MAX` bytes, files excepted."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, counting what comes in."""
        if scope["type"] != "http" or _is_file(scope):
            await self._app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limits.REQUEST_BYTES_MAX:
                raise HTTPException(
                    413, f"the body has more than {limits.REQUEST_BYTES_MAX:,} bytes"
                )
            return message

        await self._app(scope, counted, send)


def _is_file(scope: Scope) -> bool:
    return scope["method"] == "PUT" and scope["path"].startswith("/uploads/")
