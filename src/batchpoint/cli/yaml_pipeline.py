"""Loads pipeline jobs (`type: pipeline`), and deployments of pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchpoint.cli import azure_keys
from batchpoint.cli.job_data import read_inputs, read_outputs
from batchpoint.cli.yaml_component import ComponentReading
from batchpoint.cli.yaml_fields import FieldErrors, N, Problem, checked, refused
from batchpoint.cli.yaml_files import Flags, Loaded, Source, check_named, open_source
from batchpoint.cli.yaml_nodes import MapNode, ScalarNode
from batchpoint.cli.yaml_steps import read_steps
from batchpoint.domain import limits
from batchpoint.domain.component import PipelineComponent
from batchpoint.domain.model_shape import snake
from batchpoint.domain.pipeline import PipelineDeployment, PipelineJob

_STEPS = ("command", "parallel")


def load_pipeline_job(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[PipelineJob]:
    """Load a pipeline job with everything that its file mentions."""
    source = open_source(path, sets, flags or {}, existing=existing)
    tree = source.tree
    _only_pipelines(source)
    source.rules(tree, azure_keys.PIPELINE_JOB)
    _settings(source)
    check_named(source, tree, "compute", "compute", "")
    read_inputs(source)
    read_outputs(source)
    reading = ComponentReading(source, path)
    jobs = tree.items.get("jobs")
    if isinstance(jobs, MapNode):
        if not jobs.items:
            source.refuse(jobs, "jobs", "has no steps: name at least one", "pipeline_invalid")
        read_steps(reading, tree, "")
        if reading.steps_in(tree) > limits.STEPS_IN_ALL_MAX:
            sentence = f"holds more than {limits.STEPS_IN_ALL_MAX:,} steps, nested ones included"
            mark = tree.keys["jobs"]
            source.problems.append(Problem(mark, "jobs", sentence, "pipeline_invalid"))
    _whole(reading)
    return _finished(PipelineJob, reading)


def read_pipeline_deployment(source: Source, path: Path | None) -> Loaded[PipelineDeployment]:
    """Read a deployment of a pipeline from a file that is open already."""
    tree = source.tree
    source.rules(tree, azure_keys.PIPELINE_DEPLOYMENT)
    _settings(source)
    check_named(source, tree, "job_definition", "job", "")
    definition = tree.items.get("job_definition")
    if isinstance(definition, MapNode):
        sentence = (
            "a job written inline is not supported: write its steps as "
            "`component: {type: pipeline, jobs: …}`, or run it with `job create` and name that job"
        )
        source.problems.append(refused(definition.mark, "job_definition", sentence))
        tree.put("job_definition", definition.mark, ScalarNode(definition.mark, "azureml:unknown"))
    if "type" not in tree.items:
        tree.put("type", tree.mark, ScalarNode(tree.mark, "pipeline"))
    reading = ComponentReading(source, path)
    _whole(reading)
    return _finished(PipelineDeployment, reading)


def _only_pipelines(source: Source) -> None:
    """Refuse jobs of other types; the rest of their files means nothing here."""
    kind = source.tree.items.get("type")
    word = str(snake(kind.value)) if isinstance(kind, ScalarNode) else None
    refusals = azure_keys.STEP_TYPES_REFUSED
    if kind is not None and word in _STEPS:
        sentence = (
            f"a job of type {word} does not run alone: make it a step, `type: pipeline` with "
            "`jobs: {NAME: …}`"
        )
        raise FieldErrors([refused(kind.mark, "type", sentence)])
    if kind is not None and word in refusals:
        raise FieldErrors(
            [refused(kind.mark, "type", f"{word!r} is not supported: {refusals[word]}")]
        )


def _settings(source: Source) -> None:
    settings = source.tree.items.get("settings")
    if isinstance(settings, MapNode):
        source.rules(settings, azure_keys.PIPELINE_SETTINGS, "settings.")
        check_named(source, settings, "default_compute", "compute", "settings.")
        check_named(source, settings, "default_datastore", "datastore", "settings.")


def _whole(reading: ComponentReading) -> None:
    """Read `component`, which has to be a pipeline."""
    source, tree = reading.source, reading.source.tree
    reading.mentioned(tree, "component")
    reading.built_of(tree, "component")
    node = tree.items.get("component")
    noun = reading.built.get(id(node)) if isinstance(node, MapNode) else None
    if node is None or noun is None or isinstance(noun, PipelineComponent):
        return
    # Also what takes the place of one that is wrong itself, which has been said.
    tree.put("component", tree.keys["component"], ScalarNode(node.mark, "azureml:unknown:1"))
    if not source.problems:
        sentence = "is one step, not a pipeline; write a component of `type: pipeline` around it"
        source.refuse(node, "component.type", sentence, "component_invalid")


def _finished(noun: type[N], reading: ComponentReading) -> Loaded[N]:
    source = reading.source
    made = checked(noun, source.tree, source.problems, built=reading.built)
    if made is None or source.problems:
        raise FieldErrors(source.problems)
    return Loaded(made, source.warnings, reading.places())
