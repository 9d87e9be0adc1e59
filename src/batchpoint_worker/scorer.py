"""The seam between the worker's loop and what scores: a script, or a model with no code."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple

from batchpoint_worker.protocol import Header, StatusPage

Task = Dict[str, Any]
"""A task as it came in `run`: {id, items, rows, harvest}; see protocol.py."""

Error = Dict[str, Any]
"""{origin, type, message, traceback, file, line}; made by `batchpoint_worker.failures`."""


class Request(NamedTuple):
    """What `load` asked for, with the values of the latest `job` in place of the first."""

    mode: str
    model_path: str
    code_dir: str
    scoring_script: str
    logging_level: str
    output_dir: str
    harvest: str
    render: str
    action: str
    threads: int
    environment: Dict[str, str]
    coalesce: bool = True
    parameters: Mapping[str, Any] = {}
    arguments: Sequence[str] = ()

    @classmethod
    def from_header(cls, header: Header) -> Request:
        """Read a `load` message; absent values are empty."""
        return cls(
            mode=header.get("mode", "script"),
            model_path=header.get("model_path") or "",
            code_dir=header.get("code_dir") or "",
            scoring_script=header.get("scoring_script") or "",
            logging_level=header.get("logging_level") or "info",
            output_dir=header.get("output_dir") or "",
            harvest=header.get("harvest") or "",
            render=header.get("render") or "csv",
            action=header.get("action") or "append_row",
            threads=int(header.get("threads") or 0),
            environment=header.get("environment") or {},
            coalesce=header.get("coalesce", True),
            parameters=header.get("parameters") or {},
            arguments=tuple(header.get("arguments") or ()),
        )

    def for_job(self, header: Header) -> Request:
        """Return the request with what a `job` message changes."""
        names = ("environment", "render", "action", "output_dir", "coalesce")
        return self._replace(**{n: header[n] for n in names if n in header})


class Info(NamedTuple):
    """What a scorer tells after loading.

    `loader` names how it was loaded ("script", "sklearn", "pyfunc", ...); `forkable`: a fork of
    this process can score (the loop looks for threads and CUDA itself); `packages`: (name, version)
    of those that matter for reproducing the run.
    """

    loader: str
    forkable: bool = False
    packages: Sequence[Tuple[str, str]] = ()
    warnings: Sequence[str] = ()


class Failure(NamedTuple):
    """An item, or one row of it (`row` counts from 0 in the original file), could not be scored."""

    item: int
    name: str
    row: Optional[int]
    error: Error


class Scored(NamedTuple):
    """What scoring one task gave.

    `data`: rendered rows (see rows.py), `rows` of them, with `columns` as (name, type) and the
    `encoding` of the data. `failures`: one per failed row, or per failed item when no row is known.
    `unattributed`: items short when fewer rows than items came back. `slice_rows`: rows in a lone
    slice, -1 when unknown.
    """

    data: bytes = b""
    rows: int = 0
    columns: Sequence[Tuple[str, str]] = ()
    encoding: str = ""
    failures: Sequence[Failure] = ()
    unattributed: int = 0
    slice_rows: int = -1
    warnings: Sequence[str] = ()


class TaskFailed(Exception):
    """A task failed for a reason that is told without a traceback; `error` is its description."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.get("message", ""))
        self.error = error


class Scorer(Protocol):
    """What the loop needs of a scorer; script.py and mlflow_script.py provide one each.

    A scorer raises what user code raises, or TaskFailed: the loop makes the task's error of it. It
    never swallows an exception that should fail the whole task, and it may be called again after
    one.
    """

    def load(self, request: Request) -> Info:
        """Load the model or the script and initialise it, once per process."""
        ...

    def score(self, task: Task, request: Request, status: StatusPage) -> Scored:
        """Score the items of a task; may call `status.set_slice_rows`."""
        ...

    def close(self) -> None:
        """Give user code its chance to shut down; called once, at `shutdown`."""
        ...
