"""Routes of uploads: announce the files of a folder, send those that are missing, commit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from anyio import from_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from batchpoint.api.json_bodies import JsonRoute
from batchpoint.api.services import Services, problems
from batchpoint.domain.upload import TreeManifest, UploadStatus

_UNIQUE_DIGITS = 16


def upload_routes(services: Services) -> APIRouter:
    """Make the routes under /uploads."""
    router = APIRouter(prefix="/uploads", tags=["uploads"], route_class=JsonRoute)
    trees = services.trees

    @router.post("", summary="Announce a folder or file", responses=problems(507))
    def begin_upload(body: TreeManifest) -> UploadStatus:
        """Tell which of the announced files the server lacks; nothing is sent twice."""
        return trees.begin(body)

    @router.get("/{tree}", summary="Show an upload", responses=problems(404))
    def get_upload(tree: str) -> UploadStatus:
        """Tell which files of an upload are still missing."""
        return trees.status(tree)

    @router.put(
        "/{tree}/files/{path:path}",
        summary="Send a file",
        name="put_upload_file",
        status_code=204,
        responses=problems(404, 507),
        openapi_extra={
            "requestBody": {
                "required": False,  # a file may be empty
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                },
            }
        },
    )
    async def put_file(tree: str, path: str, request: Request) -> Response:
        """Send one announced file; its size and checksum are verified as it arrives."""
        unique = services.clock.hexadecimal(_UNIQUE_DIGITS)
        chunks = _from_async(aiter(request.stream()))
        await run_in_threadpool(lambda: trees.put_file(tree, path, chunks, unique=unique))
        return Response(status_code=204)

    @router.post("/{tree}/commit", summary="Finish an upload", responses=problems(404, 409, 507))
    def commit_upload(tree: str) -> UploadStatus:
        """Make an upload that is complete available under its reference, for good."""
        return trees.commit(tree)

    return router


def _from_async(chunks: AsyncIterator[bytes]) -> Iterator[bytes]:
    """Read an asynchronous stream from a thread of the pool."""

    async def following() -> bytes | None:
        return await anext(chunks, None)

    while (chunk := from_thread.run(following)) is not None:
        yield chunk
