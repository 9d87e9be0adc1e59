"""Orders for commands as a pipeline's runner gives them, in a folder of the test."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from pathlib import Path

from batchpoint.domain.component import DataType, OutputMode, Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    CommandSpec,
    ResolvedEnvironment,
    ResolvedTree,
    StepInput,
    StepOutput,
    StepPlace,
)
from batchpoint.node.command_order import CommandOrder

_NUMBERS = itertools.count(1)


def data(uri: Path | str, type_: DataType = "uri_folder", **more: object) -> JobInput:
    return JobInput.model_validate({"type": type_, "uri": str(uri), **more})


def output(
    uri: Path | str, type_: DataType = "uri_folder", mode: OutputMode = "rw_mount"
) -> StepOutput:
    return StepOutput(type=type_, mode=mode, uri=str(uri))


def order(
    root: Path,
    command: str,
    *,
    inputs: Mapping[str, Scalar | JobInput] | None = None,
    modes: Mapping[str, StepInput] | None = None,
    outputs: Mapping[str, StepOutput] | None = None,
    code: Path | None = None,
    job: str = "",
    attempt: int = 1,
    variables: Mapping[str, str] | None = None,
    own: Mapping[str, str] | None = None,
    timeout_seconds: int | None = None,
    access: StorageAccess | None = None,
    python: str = sys.executable,
) -> CommandOrder:
    """Make an order whose job's folder lies below `root`."""
    name = job or f"pipe-step{next(_NUMBERS)}"
    place = StepPlace(
        parent="pipe",
        name="step",
        component="azureml:step:1",
        inputs=dict(modes or {}),
        outputs=dict(outputs or {}),
        identity="i",
    )
    spec = CommandSpec(
        step=place,
        environment=ResolvedEnvironment(name="e", version="1", hash="e1", python=python),
        compute="local",
        idle_seconds=60,
        command=command,
        code=None if code is None else ResolvedTree(path=str(code), hash="c"),
        environment_variables=dict(own or {}),
        timeout_seconds=timeout_seconds,
    )
    folder = root / "home" / "jobs" / name
    folder.mkdir(parents=True, exist_ok=True)
    return CommandOrder(
        job=name,
        job_dir=folder,
        attempt=attempt,
        spec=spec,
        inputs=dict(inputs or {}),
        variables=dict(variables or {}),
        access=access or StorageAccess(),
    )


def log_of(given: CommandOrder) -> str:
    """What the command has printed."""
    name = f"std_log-{given.attempt}.txt" if given.attempt > 1 else "std_log.txt"
    return (given.job_dir / "logs" / "user" / name).read_text("utf-8", "replace")
