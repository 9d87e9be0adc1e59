"""The user's scoring script: `init()` once, `run(mini_batch)` per mini-batch, `shutdown()`."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any, Callable, List, Optional

from batchpoint_worker import returned, rows
from batchpoint_worker.failures import plain_error
from batchpoint_worker.protocol import StatusPage
from batchpoint_worker.scorer import Info, Request, Scored, Task, TaskFailed
from batchpoint_worker.surroundings import script_path

SUMMARY_ONLY = "summary_only"

_SURPLUS = (
    "run() returned more rows than it was given files: all rows are kept, but they are not told "
    "apart by file, and no more files than it was given count as scored"
)


class ScriptScorer:
    """Scores mini-batches with the functions of a user's script."""

    def __init__(self) -> None:
        self._run: Optional[Callable[[List[str]], Any]] = None
        self._shutdown: Optional[Callable[[], Any]] = None
        self._warned: Optional[Request] = None

    def load(self, request: Request) -> Info:
        """Import the script and call its `init()`.

        Raises:
            TaskFailed: there is no script, or it has no `init` or no `run`.
            BaseException: whatever the script raises.
        """
        module = import_script(request)
        for name in ("init", "run"):
            if not callable(getattr(module, name, None)):
                raise TaskFailed(_missing(module, name))
        module.init()
        self._run = module.run
        shutdown = getattr(module, "shutdown", None)
        self._shutdown = shutdown if callable(shutdown) else None
        return Info(loader="script")

    def score(self, task: Task, request: Request, status: StatusPage) -> Scored:  # noqa: ARG002
        """Call `run` with the paths of the task's items and render what it returns."""
        assert self._run is not None
        items = task["items"]
        value = returned.settled(self._run([item["path"] for item in items]))
        count = len(value)
        short = max(0, len(items) - count)
        warnings = self._surplus(request) if count > len(items) else ()
        if request.render == rows.NONE or request.action == SUMMARY_ONLY:
            return Scored(rows=count, encoding=rows.NONE, unattributed=short, warnings=warnings)
        if request.render == rows.AZURE:
            return Scored(
                data=returned.azure_text(value),
                rows=count,
                encoding=rows.AZURE,
                unattributed=short,
                warnings=warnings,
            )
        table = returned.table_of(value)
        names = [item["name"] for item in items] if count == len(items) else [""] * count
        whole = rows.Table(rows.source_columns(names) + table.columns, count)
        data, _, columns, encoding = rows.render(whole, request.render)
        return Scored(
            data=data,
            rows=count,
            columns=columns,
            encoding=encoding,
            unattributed=short,
            warnings=warnings,
        )

    def close(self) -> None:
        """Call the script's `shutdown()` if it has one."""
        if self._shutdown is not None:
            self._shutdown()

    def _surplus(self, request: Request) -> List[str]:
        """Return the same sentence whichever mini-batch comes first: it is shown once per job."""
        if self._warned is request:
            return []
        self._warned = request
        return [_SURPLUS]


def import_script(request: Request) -> ModuleType:
    """Import the scoring script under its own name; its folder and the code folder come first."""
    path = script_path(request)
    if not os.path.isfile(path):
        raise TaskFailed(
            plain_error(
                "script_not_found",
                "the code folder has no file %r; check `scoring_script` in the deployment"
                % request.scoring_script,
            )
        )
    folders = [os.path.abspath(request.code_dir or os.path.dirname(path)), os.path.dirname(path)]
    for folder in reversed(folders):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules:  # a script called logging.py must not become everybody's `logging`
        name = "scoring_script_" + name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TaskFailed(
            plain_error(
                "script_not_python",
                "%r is no Python file; `scoring_script` must end in .py" % request.scoring_script,
            )
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _missing(module: ModuleType, name: str) -> Any:
    signature = {"init": "init()", "run": "run(mini_batch)"}[name]
    found = sorted(
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    )
    return plain_error(
        "function_missing",
        "%s defines no %s; a scoring script must have init() and run(mini_batch). It defines: %s"
        % (
            os.path.basename(module.__file__ or "the script"),
            signature,
            ", ".join(found) or "nothing",
        ),
    )
