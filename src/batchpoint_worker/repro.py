"""Scores one mini-batch in the foreground, as a worker does, for `batchpoint job repro`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from typing import Any, Dict

from batchpoint_worker import harvest, protocol, surroundings
from batchpoint_worker.failures import error_of
from batchpoint_worker.loop import SCORERS
from batchpoint_worker.protocol import StatusPage
from batchpoint_worker.scorer import Request, Scored, Scorer

FAILED = 1


def run(order_path: str, *, debugger: bool) -> int:
    """Load and score what an order says; returns the exit status: 1 when something failed.

    Rows go to stdout as CSV with a header, everything else to stderr. With `debugger`, Python's
    own opens where user code raised.

    Args:
        order_path: a JSON file {load, task}: a `load` order and one task as in `run` (protocol.py).
        debugger: whether to open the debugger on an exception.
    """
    with open(order_path, encoding="utf-8") as file:
        order: Dict[str, Any] = json.load(file)
    request = Request.from_header(order["load"])
    surroundings.set_environment(request)
    surroundings.set_logging(request.logging_level)
    surroundings.set_arguments(request)
    module, name = SCORERS[request.mode]
    doing = "init()" if request.mode == "script" else "loading the model"
    try:
        scorer: Scorer = getattr(importlib.import_module(module), name)()
        scorer.load(request)
        doing = "run()"
        scored = scorer.score(order["task"], request, _status_page())
        scorer.close()
    except BaseException as failure:  # noqa: BLE001 - bulkhead: user code may raise anything
        return _failed(failure, doing, debugger=debugger)
    return _told(scored, request)


def _status_page() -> StatusPage:
    page = tempfile.TemporaryFile()  # noqa: SIM115 - mapped for as long as the process lives
    page.truncate(protocol.STATUS_BYTES)
    return StatusPage(page.fileno())


def _failed(failure: BaseException, doing: str, *, debugger: bool) -> int:
    surroundings.flush_streams()
    error = error_of(failure, doing=doing)
    if error["traceback"]:
        sys.stderr.write(error["traceback"])
    else:
        sys.stderr.write("%s: %s\n" % (error["type"], error["message"]))
    sys.stderr.write("%s failed\n" % doing)
    if debugger and failure.__traceback__ is not None:
        import pdb  # noqa: T100 - it was asked for

        pdb.post_mortem(failure.__traceback__)
    return FAILED


def _told(scored: Scored, request: Request) -> int:
    """Print rows and failures of a mini-batch that came to its end."""
    if scored.columns and scored.encoding == "csv":
        sys.stdout.write(",".join(name for name, _ in scored.columns) + "\n")
    sys.stdout.write(scored.data.decode("utf-8", "backslashreplace"))
    surroundings.flush_streams()
    for failure in scored.failures:
        where = failure.name if failure.row is None else "%s row %d" % (failure.name, failure.row)
        said = failure.error.get("traceback") or "%s: %s\n" % (
            failure.error.get("type"),
            failure.error.get("message"),
        )
        sys.stderr.write("%s failed:\n%s" % (where, said))
    for warning in scored.warnings:
        sys.stderr.write("warning: %s\n" % warning)
    if request.output_dir and not harvest.is_empty(request.output_dir):
        sys.stderr.write("files written: %s\n" % os.path.abspath(request.output_dir))
    told = "rows: %d, failures: %d" % (scored.rows, len(scored.failures))
    if scored.unattributed:
        told += ", rows fewer than files: %d" % scored.unattributed
    sys.stderr.write("%s\n" % told)
    return FAILED if scored.failures or scored.unattributed else 0
