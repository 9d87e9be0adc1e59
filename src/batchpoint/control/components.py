"""Components as they are registered: all that they name pinned, all that is wrong said at once."""

from __future__ import annotations

import json
import re
from functools import cache, partial
from typing import TYPE_CHECKING, cast

from pydantic import TypeAdapter

from batchpoint.control.asset_versions import COMPONENTS, AssetVersions
from batchpoint.control.collected_findings import CollectedFindings, joined
from batchpoint.control.data_references import MODEL_TYPES
from batchpoint.domain import limits
from batchpoint.domain.asset import Environment, Model
from batchpoint.domain.component import (
    LITERAL_TYPES,
    CommandComponent,
    Component,
    ComponentInput,
    ParallelComponent,
    ParallelTask,
    PipelineComponent,
    Scalar,
    Step,
    StepData,
)
from batchpoint.domain.errors import Invalid
from batchpoint.domain.references import AssetReference, RegistryReference, asset_reference
from batchpoint.ledger.ledger import ANONYMOUS, Ledger

if TYPE_CHECKING:
    from batchpoint.clock import Clock
    from batchpoint.control.assets import Assets

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# What may differ between two uses of the same content.
_NO_CONTENT = {
    "name",
    "version",
    "description",
    "tags",
    "properties",
    "archived",
    "created_at",
}


def component_name(text: str) -> str:
    """Check the name of a component (lower-case letters, digits, `_`, `-`)."""
    if len(text) > limits.ASSET_NAME_LENGTH_MAX or _NAME.fullmatch(text) is None:
        raise Invalid(
            f"{text!r} is not the name of a component: expected up to "
            f"{limits.ASSET_NAME_LENGTH_MAX} lower-case letters, digits, '_' and '-', beginning "
            "with a letter or digit",
            code="field_invalid",
            where="name",
        )
    return text


def read_component(text: str) -> Component:
    """Read a component of any type from its JSON."""
    return _reader().validate_json(text)


@cache
def _reader() -> TypeAdapter[Component]:
    return TypeAdapter(Component)


class Components(AssetVersions[Component]):
    """The registered components.

    What is registered names everything by versions: code as an uploaded tree, environments, models,
    data and nested components by `azureml:NAME:VERSION`; inline ones become anonymous assets. A
    nested component is looked up again when a deployment or job is made of the outer one, which
    then holds all of it; one that was deleted by then is missed by name.
    """

    def __init__(self, ledger: Ledger, clock: Clock, assets: Assets) -> None:
        """Keep them in a ledger; what they name is resolved by `assets`."""
        super().__init__(COMPONENTS, read_component, ledger, clock, self._settled, component_name)
        self._assets = assets

    def found(self, reference: str) -> tuple[str, Component]:
        """Return the canonical reference and the content of a component that is named.

        Raises: Invalid (`reference_invalid`); NotFound (`component_not_found`).
        """
        named = asset_reference(reference, "component")
        if isinstance(named, RegistryReference):
            raise Invalid(
                f"{reference!r} lies in a shared registry, which is not reached from here: "
                "register it here and name that",
                code="reference_invalid",
                where="component",
            )
        component = self.get(named.name, named.version)
        return reference_of(component), component

    def anonymous(self, component: Component) -> tuple[str, Component]:
        """Register a component that is given inline under its content; return it as `found` does.

        Raises: as `register`.
        """
        shown = component.display_name or component.name
        unnamed = component.model_copy(
            update={"name": None, "version": None, "display_name": shown}
        )
        stored = self.register(unnamed, reuse=True)
        return reference_of(stored), stored

    def look_over(self, component: Component) -> None:
        """See whether a component that is given inline could be registered, with all in it.

        Nothing is registered, so that what is refused leaves no versions behind; files of code
        and models are stored, under their content. Raises: as `register`.
        """
        settling = _Settling(self, self._assets, register=False)
        settling.settled(component)
        settling.collected.raise_any()

    def _settled(self, component: Component) -> tuple[Component, tuple[str, ...]]:
        settling = _Settling(self, self._assets, register=True)
        settled = settling.settled(component)
        settling.collected.raise_any()
        content = settled.model_dump(mode="json", exclude=_NO_CONTENT, exclude_defaults=True)
        text = json.dumps(content, sort_keys=True)
        return settled, (component.type, text, *settling.facts)


class _Settling:
    """One component on its way into the registry: what it names is looked up and pinned.

    `facts` are hashes of what it names by references, `collected` all that is wrong. Without
    `register` what is inline in it is looked at and stays inline.
    """

    def __init__(self, components: Components, assets: Assets, *, register: bool) -> None:
        self.collected = CollectedFindings()
        self.facts: list[str] = []
        self._components = components
        self._assets = assets
        self._register = register
        self._inline: dict[str, tuple[str | Component, Component]] = {}

    def settled(self, component: Component) -> Component:
        # Only those who register components pay for reading graphs.
        from batchpoint.control.parallel_settings import check_parallel  # noqa: PLC0415
        from batchpoint.core.graph import check_component, flatten  # noqa: PLC0415

        match component:
            case PipelineComponent():
                self.collected.tried("", lambda: flatten(component, self._components.found))
                jobs = {
                    name: self._step(step, f"jobs.{name}") for name, step in component.jobs.items()
                }
                return component.model_copy(update={"jobs": jobs})
            case ParallelComponent():
                self.collected.extend([*check_component(component), *check_parallel(component)])
                return component.model_copy(update={"task": self._task(component.task)})
            case CommandComponent():
                self.collected.extend(check_component(component))
                told = {
                    "code": self._code(component.code, "code"),
                    "environment": self._environment(component.environment, "environment"),
                }
                return component.model_copy(update=told)

    def _task(self, task: ParallelTask) -> ParallelTask:
        told: dict[str, object] = {
            "code": self._code(task.code, "task.code"),
            "environment": self._environment(task.environment, "task.environment"),
        }
        given = task.model
        if not self._register and isinstance(given, Model):
            check = self._assets.models.check
            self.collected.tried("task.model", lambda: check(given), inside=True)
        elif given is not None:
            inline = not isinstance(given, str)
            found = self.collected.tried(
                "task.model", lambda: self._assets.resolve_model(given), inside=inline
            )
            if found is not None:
                told["model"] = found[0]
                self.facts.append(found[1].hash)
        return task.model_copy(update=told)

    def _step(self, step: Step, where: str) -> Step:
        reference, component = self._nested(step.component, f"{where}.component")
        inputs: dict[str, Scalar | StepData | None] = {}
        for name, value in step.inputs.items():
            declared = component.inputs.get(name) if component is not None else None
            inputs[name] = self._data(value, declared, f"{where}.inputs.{name}")
        environment = self._environment(step.environment, f"{where}.environment")
        told = {"component": reference, "environment": environment, "inputs": inputs}
        return step.model_copy(update=told)

    def _nested(
        self, given: str | Component, where: str
    ) -> tuple[str | Component, Component | None]:
        if isinstance(given, str):
            found = self.collected.tried(where, partial(self._components.found, given))
        else:
            same = given.model_dump_json()
            found = self._inline.get(same) or self.collected.tried(
                where, partial(self._taken_in, given), inside=True
            )
            if found is not None:
                self._inline[same] = found
        if found is None:
            return given, None
        component = found[1]
        if (
            self._register and component.name != ANONYMOUS
        ):  # whose version is the hash of their content
            name = cast("str", component.name)
            self.facts.append(self._components.content_of(name, component.version))
        return found

    def _taken_in(self, given: Component) -> tuple[str | Component, Component]:
        if self._register:
            return self._components.anonymous(given)
        self._components.look_over(given)
        return given, given

    # --- what is named -------------------------------------------------------------------------

    def _code(self, given: str | None, where: str) -> str | None:
        if given is None:
            return None
        found = self.collected.tried(where, lambda: self._assets.code_files(given, where))
        return given if found is None else found.reference

    def _environment(self, given: str | Environment | None, where: str) -> str | Environment | None:
        if given is None:
            return None
        inline = not isinstance(given, str)
        if not self._register and isinstance(given, Environment):
            check = self._assets.environments.check
            self.collected.tried(where, lambda: check(given), inside=True)
            return given
        found = self.collected.tried(
            where, lambda: self._assets.resolve_environment(given), inside=inline
        )
        if found is None:
            return given
        reference, environment = found
        if environment is not None:
            name = cast("str", environment.name)
            self.facts.append(self._assets.environments.content_of(name, environment.version))
        return reference

    def _data(
        self, given: Scalar | StepData | None, declared: ComponentInput | None, where: str
    ) -> Scalar | StepData | None:
        """Return data named in a pipeline as it will be found again; bindings as they are."""
        if isinstance(given, str) and declared is not None and declared.type not in LITERAL_TYPES:
            given = StepData.model_validate({"type": declared.type, "path": given})
        if not isinstance(given, StepData) or "${{" in given.path:
            return given
        kind = given.type or (declared.type if declared is not None else None)
        model, path, field = kind in MODEL_TYPES, given.path, joined(where, "path")
        pinned = self.collected.tried(
            field, lambda: self._assets.pinned_data(path, model=model, where=field)
        )
        return given if pinned is None else given.model_copy(update={"path": pinned})


def reference_of(component: Component) -> str:
    """Return how a registered component is referred to: `azureml:NAME:VERSION`."""
    return str(AssetReference("component", component.name or "", component.version))
