"""The graph of a pipeline: nested pipelines made flat, every binding followed to its end."""

from __future__ import annotations

from typing import Literal, NamedTuple

from batchpoint.core.binding import (
    ParentInput,
    ParentOutput,
    StepOutputRef,
    read_binding,
    read_target,
)
from batchpoint.core.component_checks import check_component
from batchpoint.core.graph_checks import input_text, output_use
from batchpoint.core.graph_nouns import (
    BoundInput,
    FlatStep,
    Graph,
    GraphInput,
    GraphOutput,
    InlineData,
    LiteralValue,
    Sink,
    Source,
)
from batchpoint.core.graph_tree import (
    Enough,
    Findings,
    GraphTree,
    Lookup,
    Scope,
    Target,
    Use,
    bound_compute,
)
from batchpoint.core.graph_values import StepValue, step_inputs
from batchpoint.core.input_values import (
    expected,
    fits,
    is_literal,
    literal_value,
    unknown,
    values_for,
)
from batchpoint.domain.component import (
    CommandComponent,
    Component,
    ComponentInput,
    DataType,
    LiteralType,
    ParallelComponent,
    PipelineComponent,
    Scalar,
    Step,
    StepData,
)
from batchpoint.domain.errors import Invalid
from batchpoint.domain.findings import all_of
from batchpoint.domain.job_spec import OutputOf

__all__ = [
    "BoundInput",
    "FlatStep",
    "Graph",
    "GraphInput",
    "GraphOutput",
    "InlineData",
    "LiteralValue",
    "Lookup",
    "OutputOf",
    "Sink",
    "Source",
    "StepValue",
    "check_component",
    "flatten",
    "step_inputs",
    "values_for",
]


def flatten(component: PipelineComponent, lookup: Lookup) -> Graph:
    """Return the graph of a pipeline: its leaf steps, with nested pipelines dissolved.

    Raises:
        Invalid: everything that is wrong, at once (`findings.all_of`): what `check_component`
            finds, references that `lookup` does not know, unknown or missing inputs and outputs,
            types that do not fit, cycles, depth, number of steps.
    """
    findings = Findings(check_component(component))
    graph: Graph | None = None
    try:
        tree = GraphTree(lookup, findings)
        top = tree.open(component, names="", place="", depth=1, around=None)
        graph = _Binder(top, findings).graph()
    except Enough:
        assert findings
    if graph is None or findings:
        raise all_of(list(dict.fromkeys(findings)))
    return graph


class _Led(NamedTuple):
    """Where a binding leads: `bound` is None where the input has no value.

    `type` is that of the source as declared in the same pipeline, None where nothing is to be
    compared.
    """

    bound: BoundInput | None
    type: LiteralType | DataType | None = None


_Wrong = Literal["wrong"]


class _Binder:
    """Follows every binding of an opened tree, pipeline by pipeline, from the outside in."""

    def __init__(self, top: Scope, findings: Findings) -> None:
        self._top = top
        self._findings = findings
        self._steps: dict[str, FlatStep] = {}
        self._outputs: dict[str, GraphOutput] = {}

    def graph(self) -> Graph:
        """Return the graph; it is of use only when nothing was found wrong. Raises: Enough."""
        top = self._top
        declared = top.component.inputs
        top.inputs = {
            name: BoundInput(source=GraphInput(name=name), declared=each)
            for name, each in declared.items()
        }
        top.targets = {name: Target(graph_output=name) for name in top.component.outputs}
        self._bind(top)
        outputs = {n: self._outputs[n] for n in top.component.outputs if n in self._outputs}
        return Graph(inputs=declared, outputs=outputs, steps=self._steps)

    def _bind(self, scope: Scope) -> None:
        for use in scope.uses.values():
            component = use.component
            if component is None:
                continue
            inputs = self._inputs(scope, use, component)
            targets = self._targets(scope, use, component)
            if isinstance(component, PipelineComponent):
                assert use.scope is not None, use.name
                use.scope.inputs = inputs
                use.scope.targets = targets
                self._bind(use.scope)
            else:
                self._leaf(scope, use, component, inputs, targets)

    def _leaf(
        self,
        scope: Scope,
        use: Use,
        component: CommandComponent | ParallelComponent,
        inputs: dict[str, BoundInput],
        targets: dict[str, Target],
    ) -> None:
        outputs: dict[str, Sink] = {}
        for name, declared in component.outputs.items():
            said = output_use(use.step.outputs.get(name))
            target = targets[name]
            outputs[name] = Sink(
                type=said.type or declared.type,
                mode=said.mode or declared.mode or "rw_mount",
                graph_output=target.graph_output,
                uri=target.uri,
                register_as=target.register_as,
                register_version=target.register_version,
            )
            if target.graph_output is not None:
                self._outputs[target.graph_output] = GraphOutput(
                    written_by=OutputOf(step=use.name, output=name),
                    declared=self._top.component.outputs[target.graph_output],
                )
        sources = [each.source for each in inputs.values()]
        needs = dict.fromkeys(each.step for each in sources if isinstance(each, OutputOf))
        self._steps[use.name] = FlatStep(
            name=use.name,
            display_name=use.step.display_name or component.display_name,
            reference=use.reference,
            component=component,
            step=self._placed(scope, use),
            inputs=inputs,
            outputs=outputs,
            needs=tuple(needs),
            where=use.where,
        )

    def _placed(self, scope: Scope, use: Use) -> Step:
        """Follow a compute that is an input to its name, or to the graph's own input."""
        name = bound_compute(use.step)
        if name is None or name not in scope.component.inputs:
            return use.step
        bound = scope.inputs.get(name)
        source = None if bound is None else bound.source
        compute: str | None = None
        if isinstance(source, LiteralValue):
            compute = str(source.value)
        elif isinstance(source, GraphInput):
            compute = f"${{{{parent.inputs.{source.name}}}}}"
        return use.step.model_copy(update={"compute": compute})

    # --- inputs -----------------------------------------------------------------------------

    def _inputs(self, scope: Scope, use: Use, component: Component) -> dict[str, BoundInput]:
        for name in use.step.inputs:
            if name not in component.inputs:
                told = unknown("input", name, component.inputs)
                self._findings.wrong(f"{use.where}.inputs.{name}", told)
        inputs: dict[str, BoundInput] = {}
        for name, declared in component.inputs.items():
            place = f"{use.where}.inputs.{name}"
            bound = self._input(scope, use.step.inputs.get(name), declared, place)
            if bound is not None:
                inputs[name] = bound
        return inputs

    def _input(
        self, scope: Scope, given: Scalar | StepData | None, declared: ComponentInput, place: str
    ) -> BoundInput | None:
        """Bind one input; None when it has no value, or when something was found wrong."""
        try:
            return self._bound(scope, given, declared)
        except Invalid as error:
            self._findings.wrong(place, error.message, error.code)
            return None

    def _bound(
        self, scope: Scope, given: Scalar | StepData | None, declared: ComponentInput
    ) -> BoundInput | None:
        """See `_input`. Raises: Invalid."""
        led = self._led(scope, given, declared)
        if led == "wrong":
            return None
        if led.type is not None and not fits(led.type, declared.type):
            raise Invalid(f"expected {expected(declared)}, but it is bound to a {led.type}",
                          code="pipeline_invalid")  # fmt: skip
        if led.bound is not None:
            return _of_use(led.bound, given, declared)
        if declared.default is not None:
            value = literal_value(declared, declared.default)
            return BoundInput(source=LiteralValue(value=value), declared=declared)
        if declared.optional:
            return None
        told = "is missing"
        if given is not None:
            told = "is bound to an optional input that may have no value, but it needs one"
        raise Invalid(f"{told}; expected {expected(declared)}", code="input_missing")

    def _led(
        self, scope: Scope, given: Scalar | StepData | None, declared: ComponentInput
    ) -> _Led | _Wrong:
        """Follow what an input is given to its source. Raises: Invalid."""
        if given is None:
            return _Led(None)
        binding = read_binding(input_text(given) or "")
        if isinstance(binding, ParentInput):
            return self._parent_input(scope, binding.name, declared)
        if isinstance(binding, StepOutputRef):
            return self._output_of(scope, binding)
        if isinstance(binding, ParentOutput):
            return "wrong"  # told by the checks of the pipeline
        if isinstance(given, StepData):
            if is_literal(declared.type):
                raise Invalid(f"expected {expected(declared)}, not data", code="pipeline_invalid")
            data = given.model_copy(update={"type": given.type or declared.type})
            source: Source = InlineData(data=data)
            return _Led(BoundInput(source=source, declared=declared), data.type)
        if is_literal(declared.type):
            source = LiteralValue(value=literal_value(declared, given))
        elif isinstance(given, str):
            assert declared.type not in {"number", "integer", "boolean", "string"}
            source = InlineData(
                data=StepData.model_validate({"type": declared.type, "path": given})
            )
        else:
            raise Invalid(f"expected {expected(declared)}, not the literal {given!r}",
                          code="pipeline_invalid")  # fmt: skip
        return _Led(BoundInput(source=source, declared=declared))

    def _parent_input(self, scope: Scope, name: str, declared: ComponentInput) -> _Led | _Wrong:
        outer = scope.component.inputs.get(name)
        if outer is None:
            return "wrong"  # told by the checks of the pipeline
        bound = scope.inputs.get(name)
        if bound is None and not outer.optional:
            return "wrong"  # told where the nested pipeline is used
        if bound is None or not _may_be_absent(bound):
            return _Led(bound, outer.type)
        if declared.optional or declared.default is not None:
            return _Led(bound, outer.type)
        return _Led(None, outer.type)

    def _output_of(self, scope: Scope, binding: StepOutputRef) -> _Led | _Wrong:
        use = scope.uses.get(binding.step)
        if use is None or use.component is None:
            return "wrong"  # told by the checks of the pipeline, or at the step itself
        declared = use.component.outputs.get(binding.output)
        if declared is None:
            told = unknown(f"output of step {binding.step!r}:", binding.output,
                           use.component.outputs)  # fmt: skip
            raise Invalid(told, code="pipeline_invalid")
        said = output_use(use.step.outputs.get(binding.output))
        if use.scope is None:
            source = OutputOf(step=use.name, output=binding.output)
            return _Led(
                BoundInput(source=source, declared=ComponentInput(type=declared.type)),
                said.type or declared.type,
            )
        writer = use.scope.writers.get(binding.output)
        if writer is None or writer.step not in use.scope.uses:
            return "wrong"  # told at the nested pipeline's output
        led = self._output_of(use.scope, StepOutputRef(writer.step, writer.output))
        return led if led == "wrong" else _Led(led.bound, said.type or declared.type)

    # --- outputs ----------------------------------------------------------------------------

    def _targets(self, scope: Scope, use: Use, component: Component) -> dict[str, Target]:
        for name in use.step.outputs:
            if name not in component.outputs:
                told = unknown("output", name, component.outputs)
                self._findings.wrong(f"{use.where}.outputs.{name}", told)
        targets: dict[str, Target] = {}
        for name, declared in component.outputs.items():
            place = f"{use.where}.outputs.{name}"
            said = output_use(use.step.outputs.get(name))
            if said.type is not None and not _writes(declared.type, said.type):
                told = f"the component writes a {declared.type}, which is no {said.type}"
                self._findings.wrong(f"{place}.type", told)
            targets[name] = self._target(scope, said.path, said.type or declared.type, place)
            if said.name is not None:
                targets[name].register_as = said.name
                targets[name].register_version = said.version
            elif said.version is not None:
                told = "a version is given, but no name to register the output under"
                self._findings.wrong(f"{place}.version", told, "field_invalid")
        return targets

    def _target(self, scope: Scope, path: str | None, written: DataType, place: str) -> Target:
        try:
            binding = read_target(path or "")
        except Invalid:
            return Target()  # told by the checks of the pipeline
        if binding is None:
            return Target(uri=path or None)
        if not isinstance(binding, ParentOutput) or binding.name not in scope.component.outputs:
            return Target()  # the same
        declared = scope.component.outputs[binding.name]
        if not _writes(written, declared.type):
            told = (f"the pipeline's output {binding.name!r} is a {declared.type}, but a {written} "
                    "is written")  # fmt: skip
            self._findings.wrong(place, told)
        around = scope.targets.get(binding.name, Target())
        return Target(around.graph_output, around.uri, around.register_as, around.register_version)


def _writes(written: DataType, declared: DataType) -> bool:
    """Tell whether what is written as one type may be called another: files stay files."""
    return written == declared or (declared != "uri_file" and fits(written, declared))


def _may_be_absent(bound: BoundInput) -> bool:
    if not isinstance(bound.source, GraphInput):
        return False
    passed = (*bound.through, bound.declared)
    return all(each.optional and each.default is None for each in passed)


def _of_use(
    bound: BoundInput, given: Scalar | StepData | None, declared: ComponentInput
) -> BoundInput:
    """Hand a source on to an input that is bound to it. Raises: Invalid."""
    source = bound.source
    if isinstance(source, LiteralValue):
        source = LiteralValue(value=literal_value(declared, source.value))
    mode = given.mode if isinstance(given, StepData) else None
    mode = mode or declared.mode or bound.declared.mode
    through = bound.through
    if isinstance(source, GraphInput):
        through = (*through, bound.declared)
    return BoundInput(
        source=source, declared=declared.model_copy(update={"mode": mode}), through=through
    )
