"""Bringing what components hold to the server: code, conda files, models and data, at any depth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from batchpoint.client.pointers import is_local, local_path
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.component import (
    CommandComponent,
    ParallelComponent,
    PipelineComponent,
    Scalar,
    Step,
    StepData,
)

if TYPE_CHECKING:
    from batchpoint.client.local_files import LocalFiles

_Some = TypeVar("_Some", bound=CommandComponent | ParallelComponent | PipelineComponent)


class ComponentFiles:
    """Walks components and replaces local paths by what the server can use."""

    def __init__(self, files: LocalFiles) -> None:
        """Send through `files`."""
        self._files = files

    def sent(self, component: _Some, where: str = "") -> _Some:
        """Return a component with all that is local in it sent; `where` is its field.

        Raises: Invalid (`input_not_found` and others), naming the field.
        """
        prefix = f"{where}." if where else ""
        changes: dict[str, object]
        if isinstance(component, PipelineComponent):
            changes = {"jobs": self.steps(component.jobs, f"{prefix}jobs")}
        elif isinstance(component, CommandComponent):
            changes = self._code(component.code, f"{prefix}code")
            changes |= self._environment(component.environment)
        else:
            task = component.task
            told = self._code(task.code, f"{prefix}task.code")
            told |= self._environment(task.environment)
            if isinstance(task.model, Model):
                told["model"] = self._files.model(task.model)
            changes = {"task": task.model_copy(update=told)}
        return component.model_copy(update=changes)

    def steps(self, steps: Mapping[str, Step], where: str) -> dict[str, Step]:
        """Return the steps of a graph with all that is local in them sent. Raises: as `sent`."""
        return {name: self._step(step, f"{where}.{name}") for name, step in steps.items()}

    def _step(self, step: Step, where: str) -> Step:
        changes = self._environment(step.environment)
        if not isinstance(step.component, str):
            changes["component"] = self.sent(step.component, f"{where}.component")
        inputs = {
            name: self._data(value, f"{where}.inputs.{name}.path")
            for name, value in step.inputs.items()
        }
        return step.model_copy(update={**changes, "inputs": inputs} if inputs else changes)

    def _code(self, code: str | None, where: str) -> dict[str, object]:
        return {} if code is None else {"code": self._files.sent(code, where)}

    def _environment(self, environment: str | Environment | None) -> dict[str, object]:
        if not isinstance(environment, Environment):
            return {}
        return {"environment": self._files.environment(environment)}

    def _data(self, value: Scalar | StepData | None, where: str) -> Scalar | StepData | None:
        if not isinstance(value, StepData) or "${{" in value.path or not is_local(value.path):
            return value  # a literal, what another step makes, or what the server can reach itself
        path = str(local_path(value.path, Path.cwd()))
        return value.model_copy(update={"path": self._files.sent(path, where, is_data=True)})
