"""What a node is told of a command that it shall run, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.job import ErrorInfo, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import CommandSpec
from batchpoint.node.wire import access_to_json

CommandOutcome = Literal["completed", "failed", "timed_out", "stopped"]
CommandPhase = Literal["inputs", "command", "writing"]
_INPUTS: TypeAdapter[dict[str, Scalar | JobInput]] = TypeAdapter(dict[str, Scalar | JobInput])
_OUTPUTS: TypeAdapter[dict[str, PublishedOutput]] = TypeAdapter(dict[str, PublishedOutput])


@dataclass(frozen=True, slots=True)
class CommandOrder:
    """One attempt at a command.

    `job` is the step's own job and `job_dir` its folder. `inputs` are the values that hold now:
    literals, and data where it really lies (an upstream step's output may be an earlier job's).
    Inputs without a value are absent. `variables` go to the command besides those of its
    specification. `access` holds secrets and is never written anywhere. `epoch` is that of the
    pipeline's lease: orders of an earlier one are refused once a later one was seen.
    """

    job: str
    job_dir: Path
    attempt: int
    spec: CommandSpec
    inputs: Mapping[str, Scalar | JobInput]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    access: StorageAccess = field(default_factory=StorageAccess, repr=False)
    epoch: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the order as a JSON object."""
        return {
            "job": self.job,
            "job_dir": str(self.job_dir),
            "attempt": self.attempt,
            "spec": self.spec.model_dump(mode="json"),
            "inputs": _INPUTS.dump_python(dict(self.inputs), mode="json"),
            "variables": dict(self.variables),
            "access": access_to_json(self.access),
            "epoch": self.epoch,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CommandOrder:
        """Read back what `to_json` gave."""
        return cls(
            job=value["job"],
            job_dir=Path(value["job_dir"]),
            attempt=value["attempt"],
            spec=CommandSpec.model_validate(value["spec"]),
            inputs=_INPUTS.validate_python(value["inputs"]),
            variables=value["variables"],
            access=StorageAccess.model_validate(value["access"]),
            epoch=value["epoch"],
        )


@dataclass(frozen=True, slots=True)
class CommandBeat:
    """What a node says while it runs a command: how far it is, and that it is there at all.

    `warning` is a sentence for people about what holds it up, or empty.
    """

    phase: CommandPhase
    warning: str = ""


Heard = Callable[[CommandBeat], None]


def heard_by_nobody(_: CommandBeat) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How an attempt ended. `outputs` are published when it completed, and only then.

    `exit_code` is that of the command, negative for the signal that ended it, None when it was
    never started.
    """

    outcome: CommandOutcome
    seconds: float
    exit_code: int | None = None
    error: ErrorInfo | None = None
    outputs: Mapping[str, PublishedOutput] = field(default_factory=dict[str, PublishedOutput])

    def to_json(self) -> dict[str, Any]:
        """Return the answer as a JSON object."""
        return {
            "outcome": self.outcome,
            "seconds": self.seconds,
            "exit_code": self.exit_code,
            "error": None if self.error is None else self.error.model_dump(mode="json"),
            "outputs": _OUTPUTS.dump_python(dict(self.outputs), mode="json"),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CommandEnd:
        """Read back what `to_json` gave."""
        error = value["error"]
        return cls(
            outcome=value["outcome"],
            seconds=value["seconds"],
            exit_code=value["exit_code"],
            error=None if error is None else ErrorInfo.model_validate(error),
            outputs=_OUTPUTS.validate_python(value["outputs"]),
        )
