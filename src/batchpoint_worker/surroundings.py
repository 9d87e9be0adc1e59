"""What user code finds around it: environment variables, arguments, standard streams, logging."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
from typing import Any

from batchpoint_worker.scorer import Request

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "ARROW_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_environment(request: Request) -> None:
    """Set the environment variables of the deployment, the job and the contract."""
    os.environ.update(request.environment)
    if request.threads > 0:
        for name in THREAD_VARIABLES:
            os.environ.setdefault(name, str(request.threads))
    if request.model_path:
        folder = os.path.dirname(os.path.abspath(request.model_path))
        os.environ["AZUREML_MODEL_DIR"] = os.environ["BATCHPOINT_MODEL_DIR"] = folder
    if request.output_dir:
        folder = os.path.abspath(request.output_dir)
        os.environ["AZUREML_BI_OUTPUT_PATH"] = os.environ["BATCHPOINT_OUTPUT_PATH"] = folder


def set_streams() -> None:
    """Make prints appear line by line, in UTF-8, whatever the locale; stdin is empty.

    SIGUSR1 and fatal signals print where the threads are.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)
    for stream in (sys.stdout, sys.stderr):
        _set_stream(stream)
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
        faulthandler.register(signal.SIGUSR1, sys.__stderr__, all_threads=True)


def _set_stream(stream: Any) -> None:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def set_logging(level_name: str) -> None:
    """Send the logging of user code to stderr from a level on; an unknown level is "info"."""
    level = getattr(logging, level_name.upper(), None)
    logging.basicConfig(
        stream=sys.stderr,
        level=level if isinstance(level, int) else logging.INFO,
        format=LOG_FORMAT,
    )


def set_arguments(request: Request) -> None:
    """Give scripts that parse arguments what they expect: their own name, arguments, parameters.

    Arguments come as they are. A parameter is `--name value`, or `--name=value` when the value
    could be taken for an option; truth values are `true` and `false`.
    """
    sys.argv = [script_path(request)] if request.scoring_script else [request.mode]
    sys.argv += request.arguments
    for name, value in sorted(request.parameters.items()):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if text.startswith("-"):
            sys.argv.append("--%s=%s" % (name, text))
        else:
            sys.argv += ["--" + name, text]


def script_path(request: Request) -> str:
    """Return the absolute path of the scoring script."""
    return os.path.abspath(os.path.join(request.code_dir, request.scoring_script))


def flush_streams() -> None:
    """Write out what user code printed; a log that cannot be written is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
