"""The tree of pipelines in a pipeline: every component looked up, every use of it looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from batchpoint.core.binding import ParentInput, read_binding
from batchpoint.core.component_checks import check_component, several_nodes
from batchpoint.core.graph_checks import Writer, writers
from batchpoint.core.graph_nouns import BoundInput
from batchpoint.domain.component import (
    CommandComponent,
    Component,
    PipelineComponent,
    Step,
)
from batchpoint.domain.errors import Finding, Invalid, NotFound
from batchpoint.domain.limits import PIPELINE_DEPTH_MAX, STEPS_IN_ALL_MAX

Lookup = Callable[[str], tuple[str, Component]]
"""From a reference to its canonical form and the component. Raises: NotFound, Invalid."""

_FINDINGS_MAX = 200
_OF_PARALLEL_STEPS = (
    "mini_batch_size",
    "mini_batch_error_threshold",
    "error_threshold",
    "logging_level",
    "max_concurrency_per_instance",
)
_OF_LEAVES = ("environment", "resources", "limits", "retry_settings", *_OF_PARALLEL_STEPS)


class Enough(Exception):  # ends a search, is no error
    """The graph is too big, or has too many faults, to be looked at any further."""


class Findings(list[Finding]):
    """What was found wrong so far."""

    def wrong(self, where: str, message: str, code: str = "pipeline_invalid") -> None:
        """Note one more. Raises: Enough."""
        self.append(Finding(where, message, code))
        if len(self) >= _FINDINGS_MAX:
            raise Enough


@dataclass(slots=True)
class Target:
    """Where an output of a nested pipeline goes in the pipelines around it."""

    graph_output: str | None = None
    uri: str | None = None
    register_as: str | None = None
    register_version: str | None = None


@dataclass(slots=True)
class Use:
    """A step as its pipeline uses it.

    `name` is the one in the whole graph (`outer/inner`); `component` is None when it was not
    found; `scope` is that of a nested pipeline.
    """

    name: str
    step: Step
    where: str
    reference: str | None
    component: Component | None
    scope: Scope | None = None


@dataclass(slots=True)
class Scope:
    """One pipeline in the tree, and what its inputs and outputs are bound to around it."""

    component: PipelineComponent
    uses: dict[str, Use]
    writers: dict[str, Writer]
    inputs: dict[str, BoundInput] = field(default_factory=dict[str, BoundInput])
    targets: dict[str, Target] = field(default_factory=dict[str, Target])


class GraphTree:
    """Opens pipelines down to their leaves."""

    def __init__(self, lookup: Lookup, findings: Findings) -> None:
        self._lookup = lookup
        self._findings = findings
        self._found: dict[str, tuple[str, Component] | Finding] = {}
        self._uses = 0

    def open(
        self,
        component: PipelineComponent,
        *,
        names: str,
        place: str,
        depth: int,
        around: Step | None,
    ) -> Scope:
        """Return the scope of a pipeline, with those of all pipelines in it.

        `names` stands before the names of its steps (`outer/`), `place` before their places
        (`jobs.outer.component.`); `around` is the step that it is used by. Raises: Enough.
        """
        scope = Scope(component, {}, writers(component))
        for name, step in component.jobs.items():
            self._uses += 1
            where = f"{place}jobs.{name}"
            if self._uses > STEPS_IN_ALL_MAX:
                told = f"the pipeline and those in it have more than {STEPS_IN_ALL_MAX:,} steps"
                self._findings.wrong(where, told)
                raise Enough
            use = self._use(names + name, _within(step, around), where)
            scope.uses[name] = use
            if not isinstance(use.component, PipelineComponent):
                continue
            if depth >= PIPELINE_DEPTH_MAX:
                told = f"pipelines are nested deeper than {PIPELINE_DEPTH_MAX}"
                self._findings.wrong(f"{where}.component", told)
                use.component = None
            else:
                use.scope = self.open(
                    use.component,
                    names=f"{use.name}/",
                    place=f"{where}.component.",
                    depth=depth + 1,
                    around=use.step,
                )
        return scope

    def _use(self, name: str, step: Step, where: str) -> Use:
        if not isinstance(step.component, str):
            use = Use(name, step, where, None, step.component)
        else:
            found = self._look_up(step.component, f"{where}.component")
            if isinstance(found, Finding):
                self._findings.wrong(f"{where}.component", found.message, found.code)
                return Use(name, step, where, None, None)
            use = Use(name, step, where, found[0], found[1])
        self._check_fields(use)
        return use

    def _look_up(self, reference: str, place: str) -> tuple[str, Component] | Finding:
        found = self._found.get(reference)
        if found is None:
            try:
                found = self._lookup(reference)
            except (NotFound, Invalid) as error:
                found = Finding("", error.message, error.code)
            else:
                for each in check_component(found[1], f"{place}."):
                    self._findings.wrong(*each)
            self._found[reference] = found
        return found

    def _check_fields(self, use: Use) -> None:
        """Find what the step says that its component has no use for."""
        step, component = use.step, use.component
        assert component is not None
        if step.type is not None and step.type != component.type:
            told = f"the step is a {step.type}, its component is a {component.type}"
            self._findings.wrong(f"{use.where}.type", told)
        if isinstance(component, PipelineComponent):
            if step.type is None and bound_compute(step):
                told = "bind the computes of the nested pipeline's own steps to inputs of it"
                self._findings.wrong(f"{use.where}.compute", told, "binding_invalid")
            fields, advice = _OF_LEAVES, "set it on the steps of the pipeline"
        elif isinstance(component, CommandComponent):
            fields, advice = _OF_PARALLEL_STEPS, "it belongs to parallel steps"
            if (step.resources.instance_count or 1) > 1:
                self._findings.append(several_nodes(f"{use.where}.resources.instance_count"))
        else:
            fields, advice = ("limits",), "retry_settings.timeout bounds one mini-batch"
        for name in fields:
            value = cast("object", getattr(step, name))
            if value != Step.model_fields[name].default:
                told = f"has no effect on a {component.type} step; {advice}"
                self._findings.wrong(f"{use.where}.{name}", told, "field_invalid")


def bound_compute(step: Step) -> str | None:
    """Return the input of the pipeline that names the step's compute, if one does."""
    try:
        binding = read_binding(step.compute or "")
    except Invalid:
        return None  # told by the checks of the pipeline
    return binding.name if isinstance(binding, ParentInput) else None


def _within(step: Step, around: Step | None) -> Step:
    """Give a step of a nested pipeline what was said for the pipeline."""
    if around is None or not (around.compute or around.environment_variables):
        return step
    return step.model_copy(
        update={
            "compute": step.compute or (None if bound_compute(around) else around.compute),
            "environment_variables": {
                **around.environment_variables,
                **step.environment_variables,
            },
        }
    )
