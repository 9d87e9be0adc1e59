"""Where the outputs of a pipeline's steps appear, and whether they can: checked at invoke."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from batchpoint.control.collected_findings import CollectedFindings
from batchpoint.control.datastores import DEFAULT
from batchpoint.control.output_checks import OutputChecks, Wanted
from batchpoint.core.binding import filled_place
from batchpoint.core.graph import Graph, Sink
from batchpoint.core.input_values import fits, unknown
from batchpoint.domain.component import FILE_TYPES, DataType
from batchpoint.domain.errors import Conflict
from batchpoint.domain.ids import asset_name
from batchpoint.domain.job_pointers import PipelineOutput
from batchpoint.domain.job_spec import StepOutput
from batchpoint.domain.references import named_reference
from batchpoint.storage.locate import is_local, path_of


class OutputPlan(NamedTuple):
    """What decides where the outputs of a graph go.

    `given` are the caller's, by the names of the graph's outputs; `children` the names of the
    steps' jobs; `datastore` where outputs go that nobody named a place for; `is_registered` tells
    whether there is an asset of this type, name and version.
    """

    graph: Graph
    given: Mapping[str, PipelineOutput | None]
    job: str
    children: Mapping[str, str]
    datastore: str | None
    is_registered: Callable[[DataType, str, str], bool]


def planned_outputs(
    checks: OutputChecks, plan: OutputPlan, read: Sequence[str], collected: CollectedFindings
) -> dict[str, dict[str, StepOutput]]:
    """Return the outputs of each step, by their names; what is wrong with them is collected.

    Each place is empty, can be written, lies in none of `read` (what the pipeline's data inputs
    point at) and in no other output. Raises: Unavailable.
    """
    return _Planning(checks, plan, collected).outputs(read)


def filled(uri: str, job: str, datastore: str | None) -> str:
    """Put the names of the job and of its datastore into the place of an output."""
    store = DEFAULT if datastore is None else named_reference(datastore, "datastore")
    return filled_place(uri, name=job, default_datastore=store)


class _Planning:
    def __init__(
        self, checks: OutputChecks, plan: OutputPlan, collected: CollectedFindings
    ) -> None:
        self._checks = checks
        self._plan = plan
        self._collected = collected
        self._places: list[tuple[str, Wanted, bool]] = []

    def outputs(self, read: Sequence[str]) -> dict[str, dict[str, StepOutput]]:
        self._check_given()
        made: dict[str, dict[str, StepOutput]] = {}
        for step in self._plan.graph.steps.values():
            made[step.name] = {}
            for name, sink in step.outputs.items():
                output = self._output(step.name, name, sink, f"{step.where}.outputs.{name}")
                if output is not None:
                    made[step.name][name] = output
        self._check_places(read)
        return made

    def _check_given(self) -> None:
        """Check what the caller says of the graph's outputs."""
        outputs = self._plan.graph.outputs
        for name, given in self._plan.given.items():
            where = f"outputs.{name}"
            if name not in outputs:
                message = unknown("output", name, outputs)
                self._collected.add(where, message, "field_unknown")
                continue
            declared = outputs[name].declared.type
            if given is None:
                continue
            if given.type is not None and not fits(declared, given.type):
                told = f"is a {declared}, not a {given.type}"
                self._collected.add(f"{where}.type", told, "field_invalid")
            if given.version is not None and given.name is None:
                told = "is given without the name under which to register the output"
                self._collected.add(f"{where}.version", told, "field_invalid")

    def _output(self, step: str, name: str, sink: Sink, where: str) -> StepOutput | None:
        given, mode = None, sink.mode
        file = sink.type in FILE_TYPES
        uri, register, version = sink.uri, sink.register_as, sink.register_version
        if sink.graph_output is not None:
            where = f"outputs.{sink.graph_output}"
            given = self._plan.given.get(sink.graph_output)
            wanted = Wanted(self._plan.job, sink.graph_output, file, f"{where}.uri")
            if given is not None:
                uri, mode = given.uri, given.mode or mode
                if given.name is not None:
                    register, version = given.name, given.version
        else:
            wanted = Wanted(self._plan.children[step], name, file, f"{where}.path")
        if uri is not None:
            uri = filled(uri, wanted.job, self._plan.datastore)
        for field, text in (("name", register), ("version", version)):
            if text is not None:
                self._collected.tried(f"{where}.{field}", lambda text=text: asset_name(text))
        if register is not None and version is not None:
            self._check_version(sink.type, register, version, f"{where}.version")
        place = self._collected.tried(
            wanted.where
            if uri is not None or self._plan.datastore is None
            else "default_datastore",
            lambda: self._checks.place(uri, wanted, self._plan.datastore),
        )
        if place is None:
            return None
        self._places.append((place, wanted, uri is not None))
        return StepOutput(
            type=sink.type,
            mode=mode,
            uri=place,
            named=uri is not None,
            register_as=register,
            register_version=version,
        )

    def _check_version(self, kind: DataType, name: str, version: str, where: str) -> None:
        """Refuse a version that is taken: this job's output could not be registered under it."""
        if self._plan.is_registered(kind, name, version):
            told = (f"{name!r} has a version {version!r} already, and what is registered never "
                    "changes; leave the version out to make a new one")  # fmt: skip
            self._collected.add(where, told, "asset_immutable")

    def _check_places(self, read: Sequence[str]) -> None:
        """Check places that were named one by one; of those that were not one tells for all."""
        looked_at_default = False
        for uri, wanted, named in self._places:
            look: Callable[[], None]
            if named or not looked_at_default:
                looked_at_default = looked_at_default or not named
                look = _check(self._checks, uri, read, wanted)
            elif is_local(uri):
                look = _absent(uri)
            else:
                continue
            self._collected.tried(wanted.where, look)
        for first, second in self._checks.clashes([uri for uri, _, _ in self._places]):
            (one, above, _), (other, below, _) = self._places[first], self._places[second]
            told = (
                f"{other} is also where {above.where} goes; name another place"
                if one == other
                else f"{other} and {one}, where {above.where} goes, lie inside of each other; name "
                "places apart"
            )
            self._collected.add(below.where, told, "field_invalid")


def _check(
    checks: OutputChecks, uri: str, read: Sequence[str], wanted: Wanted
) -> Callable[[], None]:
    return lambda: checks.check(uri, read, wanted)


def _absent(uri: str) -> Callable[[], None]:
    def look() -> None:
        path = path_of(uri)
        if path.exists() or path.is_symlink():
            raise Conflict(
                f"{path} already exists and results never replace anything; name another job or "
                "remove it",
                code="output_exists",
            )

    return look
