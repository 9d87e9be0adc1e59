"""Says what went wrong: one sentence on stderr with its code, and the fitting exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from batchpoint.cli.text_tables import safe
from batchpoint.domain.errors import (
    BatchpointError,
    Conflict,
    Denied,
    Invalid,
    JobFailed,
    NotFound,
    Unavailable,
)

_EXIT_CODES: tuple[tuple[type[BatchpointError], int], ...] = (
    (Invalid, 2),
    (NotFound, 2),
    (Conflict, 2),
    (Denied, 5),
    (Unavailable, 5),
    (JobFailed, 1),
)
INTERRUPTED = 130


def exit_code_of(error: BatchpointError) -> int:
    """Give the exit code of an error's family; 1 for a mistake of our own."""
    return next((code for family, code in _EXIT_CODES if isinstance(error, family)), 1)


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell from the raw arguments whether errors are to be written as JSON, too."""
    for index, argument in enumerate(arguments):
        if argument in ("-ojson", "--output=json", "-o=json"):
            return True
        if argument in ("-o", "--output") and list(arguments[index + 1 : index + 2]) == ["json"]:
            return True
    return False


def report(error: Exception, *, as_json: bool) -> int:
    """Write an error to stderr and give the exit code; never a traceback of ours by itself."""
    if os.environ.get("BATCHPOINT_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, BatchpointError):
        _write(error.code, str(error), f"see docs/errors.md#{error.code}", as_json=as_json)
        return exit_code_of(error)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = getattr(context, "command_path", "batchpoint")
        _write("invalid", error.format_message(), f"try: {command} --help", as_json=as_json)
        return 2
    said = " ".join(str(error).split())[:300]
    _write(
        "internal_error",
        f"{type(error).__name__}: {said}; this is a mistake in batchpoint, please report it",
        "BATCHPOINT_DEBUG=1 shows where it happened",
        as_json=as_json,
    )
    return 1


def _write(code: str, message: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        shown = json.dumps({"error": {"code": code, "message": message, "hint": hint}})
    else:
        shown = f"batchpoint: error[{code}]: {safe(message)}\n  {hint}"
    sys.stderr.write(f"{shown}\n")
    sys.stderr.flush()


def warn(sentences: Sequence[str]) -> None:
    """Write warnings to stderr."""
    for sentence in sentences:
        sys.stderr.write(f"batchpoint: warning: {safe(sentence)}\n")
