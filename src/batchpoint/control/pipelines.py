"""Pipelines, resolved when they are deployed: every step's code, environment, model and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from batchpoint.control.assets import Assets, EnvironmentResolver
from batchpoint.control.collected_findings import CollectedFindings, joined
from batchpoint.control.computes import Computes, check_instances
from batchpoint.control.datastores import Datastores
from batchpoint.control.parallel_settings import check_model, check_parallel
from batchpoint.control.pipeline_jobs import PipelineJobs, PipelineWish
from batchpoint.control.prepared_pipeline import PreparedPipeline, StepParts
from batchpoint.control.scoring_script import check_scoring_script
from batchpoint.core.graph import FlatStep, Graph, InlineData, flatten
from batchpoint.core.graph_tree import bound_compute
from batchpoint.core.job_component import component_of_job
from batchpoint.domain.asset import Environment
from batchpoint.domain.component import (
    CommandComponent,
    Component,
    PipelineComponent,
    Scalar,
)
from batchpoint.domain.compute import Compute
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.job import Job
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    ResolvedCode,
    ResolvedEnvironment,
    ResolvedModel,
    ResolvedTree,
)
from batchpoint.domain.pipeline import PipelineJob, PipelineSettings
from batchpoint.domain.references import named_reference


class Pipelines:
    """Prepares pipelines and makes their jobs."""

    def __init__(
        self,
        assets: Assets,
        environments: EnvironmentResolver,
        computes: Computes,
        datastores: Datastores,
        jobs: PipelineJobs,
    ) -> None:
        """Look things up in these; `jobs` makes jobs of what is prepared."""
        self._assets = assets
        self._environments = environments
        self._computes = computes
        self._datastores = datastores
        self._jobs = jobs

    def prepared(
        self,
        given: str | PipelineComponent,
        settings: PipelineSettings,
        log: Callable[[str], None],
        *,
        where: str = "component",
        inputs: Mapping[str, Scalar | JobInput | None] = MappingProxyType({}),
    ) -> tuple[str, PreparedPipeline]:
        """Return the reference of a pipeline component and the pipeline with all that it needs.

        An inline component is registered anonymously, once nothing is found wrong with it: what is
        refused leaves none of its inline assets behind, but when an environment cannot be built.
        Each different environment is built once; `log` takes its lines. `where` is the field that
        holds the component ("" where its own fields are those of the request); `inputs` are those
        of a job of it, whose data is looked at first. Raises: Invalid, NotFound, Conflict:
        everything that is wrong at once, each with its field; Unavailable.
        """
        collected = CollectedFindings()
        self._jobs.check_inputs(inputs, collected)
        components = self._assets.components
        self._settings(settings, collected)
        if isinstance(given, str):
            found = collected.tried(where, lambda: components.found(given))
        else:
            collected.tried(where, lambda: components.look_over(given), inside=True)
            self._computes_of(given, where, collected)
            collected.raise_any()
            found = collected.tried(where, lambda: components.anonymous(given), inside=True)
        collected.raise_any()
        assert found is not None
        reference, component = found
        if not isinstance(component, PipelineComponent):
            raise Invalid(
                f"{reference} is a {component.type} component, and only pipeline components can be "
                "deployed; use it as a step of one",
                code="field_invalid",
                where=where or None,
            )
        seen: dict[str, Component] = {reference: component}

        def lookup(text: str) -> tuple[str, Component]:
            canonical, nested = components.found(text)
            seen[canonical] = nested
            return canonical, nested

        graph = collected.tried(where, lambda: flatten(component, lookup))
        collected.raise_any()
        assert graph is not None
        resolving = _Resolving(self._assets, self._computes, collected, where)
        resolving.look_up(graph)
        self._jobs.check_places(graph, where, collected)
        collected.raise_any()
        resolving.build(self._environments, log)
        collected.raise_any()
        return reference, PreparedPipeline(
            component=reference,
            components=seen,
            steps=resolving.steps,
            environments=resolving.environments,
            computes=sorted(resolving.computes),
        )

    def prepared_job(self, body: PipelineJob, log: Callable[[str], None]) -> PreparedPipeline:
        """Return the pipeline of a job that needs no endpoint, prepared.

        Steps given inline become an anonymous component of the job's shape, of which a deployment
        can be made later. Raises: as `prepared`; what is wrong with such steps at `jobs.STEP`.
        """
        settings = settings_of_job(body)
        if body.component is not None:
            return self.prepared(body.component, settings, log)[1]
        assert body.jobs is not None  # the noun has one of both
        find = self._assets.components.found
        component = component_of_job(body.inputs, body.jobs, body.outputs, find)
        return self.prepared(component, settings, log, where="", inputs=body.inputs)[1]

    def jobs(self, prepared: PreparedPipeline, wish: PipelineWish) -> tuple[Job, list[Job]]:
        """Return a pipeline's job and the jobs of its steps, in the order of the graph.

        Raises: Invalid, NotFound, Conflict: everything that is wrong at once; Unavailable.
        """
        return self._jobs.made(prepared, wish)

    def check_settings(self, settings: PipelineSettings) -> None:
        """See whether the compute and the datastore that are the default exist.

        Raises: NotFound (`compute_not_found`, `datastore_not_found`); Invalid.
        """
        collected = CollectedFindings()
        self._settings(settings, collected)
        collected.raise_any()

    def _computes_of(
        self, component: PipelineComponent, above: str, collected: CollectedFindings
    ) -> None:
        """See whether the computes exist that inline steps name, before these are registered."""
        for name, step in component.jobs.items():
            field, compute = joined(above, f"jobs.{name}"), step.compute
            if compute is not None and "${{" not in compute:
                collected.tried(f"{field}.compute", partial(self._compute, compute))
            if isinstance(step.component, PipelineComponent):
                self._computes_of(step.component, f"{field}.component", collected)

    def _compute(self, name: str) -> Compute:
        return self._computes.get_compute(named_reference(name, "compute"))

    def _settings(self, settings: PipelineSettings, collected: CollectedFindings) -> None:
        compute, datastore = settings.default_compute, settings.default_datastore
        if compute is not None:
            collected.tried("settings.default_compute", partial(self._compute, compute))
        if datastore is not None:
            collected.tried(
                "settings.default_datastore",
                lambda: self._datastores.get(named_reference(datastore, "datastore")),
            )


def settings_of_job(body: PipelineJob) -> PipelineSettings:
    """Return the settings of a pipeline job, its `compute` being the default one."""
    default = body.settings.default_compute or body.compute
    return body.settings.model_copy(update={"default_compute": default})


class _Resolving:
    """What the leaves of one graph come down to; everything wrong is collected."""

    def __init__(
        self, assets: Assets, computes: Computes, collected: CollectedFindings, above: str
    ) -> None:
        self.steps: dict[str, StepParts] = {}
        self.environments: dict[str, ResolvedEnvironment] = {}
        self.computes: set[str] = set()
        self._assets = assets
        self._computes = computes
        self._collected = collected
        self._above = above
        self._wanted: dict[str, tuple[Path | None, Environment | None, str]] = {}

    def look_up(self, graph: Graph) -> None:
        """Resolve all that is looked up quickly, and note which environments are wanted."""
        for step in graph.steps.values():
            if isinstance(step.component, CommandComponent):
                parts = self._command(step, step.component)
            else:
                parts = self._parallel(step)
            if parts is not None:
                self.steps[step.name] = parts.model_copy(update={"data": self._data(step)})
            self._compute(step)

    def build(self, environments: EnvironmentResolver, log: Callable[[str], None]) -> None:
        """Find or build each of the wanted environments once."""
        for key, (model_path, environment, field) in self._wanted.items():
            built = self._collected.tried(
                field, partial(environments.resolve, model_path, environment, log)
            )
            if built is not None:
                self.environments[key] = built

    def _field(self, step: FlatStep, below: str) -> str:
        return joined(self._above, f"{step.where}.{below}")

    def _command(self, step: FlatStep, component: CommandComponent) -> StepParts | None:
        code = self._code(step, component.code, "code")
        environment = self._environment(step, component.environment, "environment", None)
        if environment is None or (component.code is not None and code is None):
            return None
        return StepParts(code=code, environment=environment)

    def _parallel(self, step: FlatStep) -> StepParts | None:
        component = step.component
        assert not isinstance(component, CommandComponent)
        task = component.task
        findings = check_parallel(component, step.step)
        self._collected.extend(findings, joined(self._above, step.where))
        code = self._code(step, task.code, "task.code")
        if code is not None and task.entry_script is not None:
            script = ResolvedCode(path=code.path, scoring_script=task.entry_script, hash=code.hash)
            field = self._field(step, "component.task.entry_script")
            self._collected.tried(field, lambda: check_scoring_script(script))
        model: ResolvedModel | None = None
        if task.model is not None:
            given = task.model
            field = self._field(step, "component.task.model")
            found = self._collected.tried(field, lambda: self._assets.resolve_model(given))
            model = None if found is None else found[1]
            self._collected.extend(check_model(component, model), self._field(step, "component"))
        environment = self._environment(step, task.environment, "task.environment", model)
        missing = (task.code is not None and code is None) or (task.model and model is None)
        if environment is None or missing:
            return None
        return StepParts(code=code, environment=environment, model=model)

    def _code(self, step: FlatStep, given: str | None, field: str) -> ResolvedTree | None:
        if given is None:
            return None
        where = self._field(step, f"component.{field}")
        files = self._collected.tried(where, lambda: self._assets.code_files(given, where))
        if files is None:
            return None
        return ResolvedTree(path=str(files.path), hash=files.hash)

    def _environment(
        self,
        step: FlatStep,
        own: str | Environment | None,
        field: str,
        model: ResolvedModel | None,
    ) -> str | None:
        """Note that an environment is wanted; return its key among all of the pipeline."""
        used = step.step.environment
        where = self._field(step, "environment" if used is not None else f"component.{field}")
        given = own if used is None else used
        found = self._collected.tried(where, lambda: self._assets.resolve_environment(given))
        if found is None:
            return None
        reference, environment = found
        # Only where none is named, the model says what it needs.
        asked = Path(model.path) if environment is None and model is not None else None
        key = reference or (f"model:{model.hash}" if asked and model else "running")
        self._wanted.setdefault(key, (asked, environment, where))
        return key

    def _data(self, step: FlatStep) -> dict[str, JobInput]:
        """Find the data that is named in the pipeline itself."""
        found: dict[str, JobInput] = {}
        for name, bound in step.inputs.items():
            if not isinstance(bound.source, InlineData):
                continue
            data = bound.source.data
            where = self._field(step, f"inputs.{name}")
            source = JobInput.model_validate(
                {"type": data.type, "uri": data.path, "mode": data.mode}
            )
            resolved = self._collected.tried(
                f"{where}.path",
                partial(self._assets.references.resolved_data, source, where),
            )
            if resolved is not None:
                found[name] = resolved
        return found

    def _compute(self, step: FlatStep) -> None:
        named = step.step.compute
        if named is None or bound_compute(step.step) is not None:
            return  # looked up when it is known
        try:
            compute = self._computes.get_compute(named_reference(named, "compute"))
        except BatchpointError as error:
            self._collected.take(error, self._field(step, "compute"))
            return
        self.computes.add(compute.name)
        count = step.step.resources.instance_count or step.component.resources.instance_count
        if count is not None:
            field = self._field(step, "resources.instance_count")
            self._collected.tried(field, lambda: check_instances(count, compute))
