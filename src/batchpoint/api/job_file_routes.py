"""Routes for what jobs leave: logs, results, first rows, failed items."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from batchpoint.api.services import LIMIT_DEFAULT, After, Limit, Page, Services, page, problems
from batchpoint.control.job_files import read_from
from batchpoint.control.remote_results import RemoteFile
from batchpoint.control.results_head import head
from batchpoint.domain import limits
from batchpoint.domain.errors import NotFound
from batchpoint.domain.job import JobState
from batchpoint.domain.results import NamedOutput, ResultsHead, StoredFile
from batchpoint.formats.layout import job_folder

_BYTES = "application/octet-stream"
_LINES = "application/x-ndjson"


def job_file_routes(services: Services) -> APIRouter:
    """Make the routes for logs, results and failed items under /jobs/{job}."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])
    ledger = services.ledger
    files = services.job_files

    @router.get(
        "/{job}/failed-items",
        summary="Stream the failed items",
        name="stream_failed_items",
        response_class=StreamingResponse,
        responses={**problems(404, 409), 200: {"content": {_LINES: {}}}},
    )
    def failed_items(job: str) -> StreamingResponse:
        """Stream what failed for good: one JSON object per line, in input order.

        Of a job that runs, failed or was cancelled: what is recorded so far.
        """
        found = ledger.get_job(job)
        _ = found.scoring  # others have no items that could fail
        if found.status.state is JobState.COMPLETED:
            return _stream(files.failed_items(found), _LINES)
        # Read parts only when somebody asks: the modules for it cost time to load.
        from batchpoint.api.recorded_failures import recorded_failures  # noqa: PLC0415

        folder = job_folder(services.home, job)
        return _stream(recorded_failures(folder, ledger.checkpoints(job)), _LINES)

    @router.get("/{job}/logs", summary="List logs", responses=problems(404))
    def list_logs(job: str, limit: Limit = LIMIT_DEFAULT, after: After = None) -> Page[StoredFile]:
        """List the logs of a job: `job.log` is ours, `user/` is what user code printed."""
        found = files.list_logs(ledger.get_job(job), limit, after)
        return page(found, limit, lambda file: file.path)

    @router.get(
        "/{job}/logs/{path:path}",
        summary="Stream a log",
        response_class=StreamingResponse,
        responses={**problems(404), 200: {"content": {"text/plain": {}}}},
    )
    def get_log(
        job: str,
        path: str,
        offset: Annotated[int, Query(ge=0, le=2**63 - 1, description="Begin at this byte.")] = 0,
    ) -> StreamingResponse:
        """Stream a log from a byte on; to follow it, ask again from where it ended."""
        found = files.log(ledger.get_job(job), path)
        return _stream(read_from(found, offset), "text/plain; charset=utf-8")

    _result_routes(router, services)
    return router


def _result_routes(router: APIRouter, services: Services) -> None:
    ledger = services.ledger
    files, outputs = services.job_files, services.job_outputs

    @router.get("/{job}/outputs", summary="List outputs", responses=problems(404))
    def list_outputs(
        job: str, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[NamedOutput]:
        """List the named outputs of a job, complete or not.

        A job that scores has one, `score`, unless it is a step whose component names others.
        """
        found = outputs.list(ledger.get_job(job))
        some = [each for each in found if after is None or each.name > after]
        return page(some[:limit], limit, lambda output: output.name)

    @router.get(
        "/{job}/outputs/{output}", summary="List files of an output", responses=problems(404, 409)
    )
    def list_results(
        job: str, output: str, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[StoredFile]:
        """List the files of an output, as soon as it is complete: that of a step, when it ended.

        An output of type uri_file has one.
        """
        found = outputs.list_files(ledger.get_job(job), output, limit, after)
        return page(found, limit, lambda file: file.path)

    @router.get(
        "/{job}/outputs/{output}/{path:path}",
        summary="Download a file of an output",
        response_class=FileResponse,
        responses={
            **problems(404, 409, 416),
            200: {"content": {_BYTES: {}}},
            206: {"description": "The range that was asked for.", "content": {_BYTES: {}}},
        },
    )
    def get_result(job: str, output: str, path: str, request: Request) -> Response:
        """Download one file of an output, whole or a range of it."""
        found = outputs.file(ledger.get_job(job), output, path)
        if isinstance(found, Path):
            _check_range(request, found)
            return FileResponse(found, media_type=_BYTES, filename=found.name)
        return _remote(found, request)

    @router.get("/{job}/head", summary="Show the first predictions", responses=problems(404, 409))
    def get_head(
        job: str,
        rows: Annotated[int, Query(ge=1, le=limits.HEAD_ROWS_MAX, description="How many.")] = 10,
    ) -> ResultsHead:
        """Show the first rows of the predictions as columns and rows."""
        found = ledger.get_job(job)
        if found.scoring.settings.output_action == "summary_only":
            raise NotFound(
                f"job {job!r} writes no predictions file (output_action is summary_only); "
                "download what the script wrote",
                code="output_not_found",
            )
        return head(files.result(found, found.scoring.settings.output_file_name), found, rows)


class _ClosingStream(StreamingResponse):
    """Closes the file behind it when the response ends, also when the caller hangs up."""

    def __init__(
        self,
        chunks: Iterator[bytes],
        media_type: str,
        status: int,
        headers: dict[str, str] | None,
    ) -> None:
        super().__init__(chunks, status, headers, media_type)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            close: Callable[[], None] | None = getattr(self._chunks, "close", None)
            if close is not None:
                close()


def _stream(
    chunks: Iterator[bytes],
    media_type: str,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> StreamingResponse:
    return _ClosingStream(chunks, media_type, status, headers)


def _remote(file: RemoteFile, request: Request) -> StreamingResponse:
    """Pass a file in an object store on, whole or the one range that was asked for."""
    size, etag = file.found.size, file.found.etag.strip('"')
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=utf-8''{quote(file.name, safe='')}",
        **({"etag": f'"{etag}"'} if etag else {}),
    }
    unchanged = request.headers.get("if-range", f'"{etag}"') == f'"{etag}"'
    asked = _range(request.headers.get("range", ""), size) if unchanged else None
    start, stop = asked or (0, size)
    if start >= stop and asked is not None:
        raise _outside(file.name, size)
    headers["content-length"] = str(stop - start)
    if asked is None:
        return _stream(file.chunks(), _BYTES, 200, headers)
    headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    return _stream(file.chunks(start, stop), _BYTES, 206, headers)


def _check_range(request: Request, file: Path) -> None:
    """Leave out a Range header that asks for no range we give: the whole file answers it.

    Raises: HTTPException (416).
    """
    size = file.stat().st_size
    asked = _range(request.headers.get("range", ""), size)
    outside = asked is not None and asked[0] >= asked[1]
    if outside and "if-range" not in request.headers:
        raise _outside(file.name, size)
    if asked is None or outside:
        kept = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
        request.scope["headers"] = kept


def _outside(name: str, size: int) -> HTTPException:
    return HTTPException(
        416,
        f"the range lies outside the {size} bytes of {name}",
        {"content-range": f"bytes */{size}"},
    )


def _range(header: str, size: int) -> tuple[int, int] | None:
    """Read a Range header with one range as (start, stop); None: answer with the whole file."""
    found = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header)
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size if int(found[2]) else 0
    start = int(found[1])
    stop = min(size, int(found[2]) + 1) if found[2] else size
    if found[2] and int(found[2]) < start:
        return None
    return start, stop
