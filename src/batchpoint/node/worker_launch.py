"""How a job's workers are started: interpreter, variables, model folder, and the `load` order."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job_spec import ScoreSpec, ScoringSettings
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.step_arguments import read_arguments
from batchpoint.node.wire import NodeOrder
from batchpoint.node.worker_messages import Header

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "ARROW_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)

# Threads of OpenMP that wait by spinning take the cores from the other workers of the node.
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}

# Of steps: they tell which job it is, and change with it, as all variables do, without a reload.
VARIABLES_OF_JOBS = frozenset({"AZUREML_RUN_ID", "BATCHPOINT_JOB", "MLFLOW_RUN_CONTEXT"})

# Ours or of the interpreter that runs us: not for user code, unless the deployment says so.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True, slots=True)
class WarmKey:
    """What loaded workers have in them; a job with an equal key needs no loading."""

    python: str
    model: str
    model_type: str
    code: str
    scoring_script: str
    environment: tuple[tuple[str, str], ...]
    parameters: str
    arguments: tuple[str, ...]
    threads: int
    slots: int
    logging_level: str


def inherited_variables() -> dict[str, str]:
    """Return the variables of this process that are neither ours nor of our interpreter."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_INHERITED and not name.startswith("BATCHPOINT_")
    }


def cores() -> int:
    """Count the cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(order: NodeOrder) -> int:
    """How many threads the numeric libraries of one worker may use, at least 1."""
    if order.threads > 0:
        return order.threads
    return max(1, cores() // max(1, order.slots * order.spec.settings.instance_count))


def warm_key(order: NodeOrder) -> WarmKey:
    """Return the key of the workers a job needs."""
    spec = order.spec
    return WarmKey(
        python=f"{spec.environment.python} {spec.environment.hash}",
        model=f"{spec.model.hash} {spec.model.path}" if spec.model else "",
        model_type=spec.model.type if spec.model else "",
        code=f"{spec.code.hash} {spec.code.path}" if spec.code else "",
        scoring_script=spec.code.scoring_script if spec.code else "",
        environment=tuple(
            each
            for each in sorted(spec.settings.environment_variables.items())
            if each[0] not in VARIABLES_OF_JOBS
        ),
        parameters=_parameters(spec.settings),
        arguments=_arguments(order),
        threads=threads_for(order),
        slots=order.slots,
        logging_level=spec.settings.logging_level,
    )


def render_of(settings: ScoringSettings) -> str:
    """In which form workers render rows: see the decision on rendered rows."""
    if settings.output_action == "summary_only":
        return "none"
    if settings.output_format == "azure":
        return "azure"
    suffix = Path(settings.output_file_name).suffix.lower()
    return {".parquet": "arrow", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(suffix, "csv")


class Launch:
    """How to start the workers of one `WarmKey`, and what differs for each job they serve.

    `forks`: one loaded process may fork the others (a model with no code, until it says no).
    """

    def __init__(self, order: NodeOrder, scratch: Path) -> None:
        """Prepare the model's folder below `scratch`; raises OSError."""
        self.order = order
        self.threads = threads_for(order)
        self.forks = order.spec.code is None
        self._model_path = _model_as_only_child(order.spec, scratch / "models")

    @property
    def command(self) -> list[str]:
        """The user's interpreter, without buffering."""
        return [self.order.spec.environment.python, "-u"]

    def process_environment(self, output_dir: Path) -> dict[str, str]:
        """All variables a worker process starts with."""
        ours = {"PYTHONHASHSEED": "0"} | self._for_worker(self.order, output_dir)
        return inherited_variables() | ours

    def load(self, output_dir: Path, harvest: Path) -> Header:
        """The order that loads model and code."""
        spec = self.order.spec
        return {
            "op": "load",
            "mode": "script" if spec.code else "mlflow",
            "model_path": str(self._model_path),
            "code_dir": spec.code.path if spec.code else "",
            "scoring_script": spec.code.scoring_script if spec.code else "",
            "logging_level": spec.settings.logging_level,
            "harvest": str(harvest),
            "threads": self.threads,
            "parameters": spec.settings.parameters,
            "arguments": _arguments(self.order),
            **self._of_job(self.order, output_dir),
        }

    def job(self, order: NodeOrder, output_dir: Path) -> Header:
        """The order that turns a loaded worker to another job."""
        return {"op": "job", **self._of_job(order, output_dir)}

    def _of_job(self, order: NodeOrder, output_dir: Path) -> Header:
        return {
            "environment": self._for_worker(order, output_dir),
            "render": render_of(order.spec.settings),
            "action": order.spec.settings.output_action,
            "output_dir": str(output_dir),
            "coalesce": order.spec.settings.coalesce_files,
        }

    def _for_worker(self, order: NodeOrder, output_dir: Path) -> dict[str, str]:
        model_dir, output = str(self._model_path.parent), str(output_dir)
        contract = {
            "AZUREML_MODEL_DIR": model_dir,
            "AZUREML_BI_OUTPUT_PATH": output,
            "AZUREML_RUN_ID": order.job,
            "BATCHPOINT_MODEL_DIR": model_dir,
            "BATCHPOINT_OUTPUT_PATH": output,
            "BATCHPOINT_JOB": order.job,
            "BATCHPOINT_PARAMETERS": _parameters(order.spec.settings),
        }
        return (
            dict.fromkeys(THREAD_VARIABLES, str(self.threads))
            | _PATIENT
            | contract
            | order.spec.settings.environment_variables
        )


def _arguments(order: NodeOrder) -> tuple[str, ...]:
    """Return what the runner has made of the arguments; raises Unavailable."""
    if order.spec.arguments is None:
        return ()
    path = JobFolder(order.job_dir).arguments
    found = read_arguments(path)
    if found is None:
        raise Unavailable(f"there is no {path}: the step has not got as far as its inputs")
    return tuple(found.arguments)


def _parameters(settings: ScoringSettings) -> str:
    return json.dumps(settings.parameters, sort_keys=True, ensure_ascii=False)


def _model_as_only_child(spec: ScoreSpec, folder: Path) -> Path:
    """Return a path of the model at which it is the only thing in its folder.

    The store keeps it like that. Elsewhere it is a link below `folder`; MLflow follows none out of
    the folder it is in, so that only what is in the store can be loaded by it from there.
    """
    if spec.model is None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "none"  # in an empty folder
    model = Path(spec.model.path)
    if list(model.parent.iterdir()) == [model]:
        return model
    digest = hashlib.sha256(f"{spec.model.hash} {model}".encode()).hexdigest()[:16]
    link = folder / digest / model.name
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(model)
    return link
