"""Loads components: commands, parallel steps and pipelines, with all files that they mention."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from batchpoint.cli import azure_keys
from batchpoint.cli.job_data import refuse_types
from batchpoint.cli.yaml_code import check_code, check_environment_field, check_model_field
from batchpoint.cli.yaml_fields import FieldErrors, Problem, checked, refused, type_problem
from batchpoint.cli.yaml_files import Flags, Loaded, Source, open_source
from batchpoint.cli.yaml_nodes import MapNode, ScalarNode, shown
from batchpoint.cli.yaml_places import Places
from batchpoint.cli.yaml_steps import read_steps
from batchpoint.client.pointers import found_at, local_path
from batchpoint.domain import limits
from batchpoint.domain.component import (
    CommandComponent,
    ParallelComponent,
    PipelineComponent,
)
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import snake
from batchpoint.domain.references import asset_reference, is_reference, is_uri

AnyComponent = CommandComponent | ParallelComponent | PipelineComponent

_NOUNS: dict[str, type[AnyComponent]] = {
    "command": CommandComponent,
    "parallel": ParallelComponent,
    "pipeline": PipelineComponent,
}
_FILE = "file:"
_YAML = (".yml", ".yaml")
# Files in files: a pipeline at each level, and a component in the innermost one.
_FILES_DEEP_MAX = limits.PIPELINE_DEPTH_MAX + 2


def load_component(
    path: Path | None,
    sets: Sequence[str] = (),
    flags: Flags | None = None,
    *,
    existing: MapNode | None = None,
) -> Loaded[AnyComponent]:
    """Load a component of any type; files that it mentions become part of it."""
    source = open_source(path, sets, flags or {}, existing=existing)
    reading = ComponentReading(source, path)
    reading.component(source.tree, "")
    found = reading.built.get(id(source.tree))
    if found is None or source.problems:
        raise FieldErrors(source.problems)
    return Loaded(cast("AnyComponent", found), source.warnings, reading.places())


@dataclass
class ComponentReading:
    """Reads the components in one tree and in the files that these mention, each file once.

    `built` holds the nouns that nodes (by `id`) have become; `inline` the nodes of components that
    stand in a step itself.
    """

    source: Source
    path: Path | None
    built: dict[int, BaseModel] = field(default_factory=dict[int, BaseModel])
    inline: set[int] = field(default_factory=set[int])
    _files: dict[Path, MapNode] = field(default_factory=dict[Path, MapNode])
    _open: list[Path] = field(default_factory=list[Path])
    _done: set[int] = field(default_factory=set[int])
    _steps: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        """Begin with the file itself: what leads back to it is a circle."""
        if self.path is not None:
            self._open.append(self.path.resolve())

    def places(self) -> Places:
        """Give where everything was written."""
        files = frozenset(id(tree) for tree in self._files.values())
        return Places(self.source.tree, files, frozenset(self.inline))

    def component(self, tree: MapNode, prefix: str) -> None:
        """Build a component's noun, or say what is wrong; `prefix` stands before its fields."""
        if id(tree) in self._done:
            return
        self._done.add(id(tree))
        kind = self._kind(tree, prefix)
        if kind is None:
            return
        self.source.rules(tree, azure_keys.COMPONENTS[kind], prefix)
        self._interface(tree, prefix)
        _RULES[kind](self, tree, prefix)
        noun = checked(_NOUNS[kind], tree, self.source.problems, shown=prefix, built=self.built)
        if noun is not None:
            self.built[id(tree)] = noun

    def mentioned(self, holder: MapNode, name: str) -> None:
        """Bring `component` of a holder to a reference, or to the tree of what it names.

        `name` is the field as it is shown. A component that stands there is left as it is.
        """
        node = holder.items.get("component")
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            return
        text = node.value
        if not text.startswith(_FILE) and not self._means_a_file(node):
            try:
                node.value = str(asset_reference(text, "component"))
            except Invalid as error:
                self.source.refuse(node, name, error.message, error.code)
            return
        tree = self._file(node, text.removeprefix(_FILE), name)
        if tree is not None:
            holder.put("component", holder.keys["component"], tree)

    def built_of(self, holder: MapNode, name: str) -> None:
        """Build what `mentioned` found, or what stands in the holder itself."""
        node = holder.items.get("component")
        if isinstance(node, MapNode):
            path = next((p for p, tree in self._files.items() if tree is node), None)
            above = name.removesuffix("component") if id(node) in self.inline else f"{name}."
            if path is not None:
                self._open.append(path)
            self.component(node, "" if path is not None else above)
            if path is not None:
                self._open.pop()
            if id(node) not in self.built:  # all that is wrong with it is said already
                self.built[id(node)] = _STAND_IN

    def steps_in(self, tree: MapNode) -> int:
        """Count the steps of a pipeline, those of pipelines in it included."""
        known = self._steps.get(id(tree))
        if known is not None:
            return known
        self._steps[id(tree)] = 1  # for what contains itself
        jobs = tree.items.get("jobs")
        steps = list(jobs.items.values()) if isinstance(jobs, MapNode) else []
        below = [step.items.get("component") for step in steps if isinstance(step, MapNode)]
        count = len(steps) + sum(self.steps_in(n) for n in below if isinstance(n, MapNode))
        self._steps[id(tree)] = count
        return count

    def _kind(self, tree: MapNode, prefix: str) -> str | None:
        node = tree.items.get("type")
        if node is None or (isinstance(node, ScalarNode) and node.value is None):
            kind = "pipeline" if "jobs" in tree.items else "command"
            kind = "parallel" if "task" in tree.items else kind
            tree.put("type", tree.mark, ScalarNode(tree.mark, kind))
            return kind
        word = str(snake(node.value)) if isinstance(node, ScalarNode) else ""
        name = f"{prefix}type"
        if word in azure_keys.STEP_TYPES_REFUSED:
            sentence = f"{word!r} is not supported: {azure_keys.STEP_TYPES_REFUSED[word]}"
            self.source.problems.append(refused(node.mark, name, sentence))
            return None
        if word not in _NOUNS:
            what = "one of command, parallel, pipeline"
            self.source.problems.append(type_problem(node.mark, name, what, node))
            return None
        tree.put("type", node.mark, ScalarNode(node.mark, word))
        return word

    def _interface(self, tree: MapNode, prefix: str) -> None:
        """Refuse by name the types and modes that only Azure has."""
        for side in ("inputs", "outputs"):
            entries = tree.items.get(side)
            for key, entry in entries.items.items() if isinstance(entries, MapNode) else ():
                if isinstance(entry, MapNode):
                    refuse_types(self.source, entry, f"{prefix}{side}.{key}.")

    def _means_a_file(self, node: ScalarNode) -> bool:
        text = str(node.value)
        if is_reference(text) or is_uri(text):
            return False
        local = local_path(text, self.source.folder_of(node))
        return text.endswith(_YAML) or text.startswith((".", "/", "~")) or bool(found_at(local))

    def _file(self, node: ScalarNode, text: str, name: str) -> MapNode | None:
        """Read a file that a field names, once; gives nothing after saying what is wrong."""
        from batchpoint.cli.yaml_tree import parse_mapping, read_bounded

        path = local_path(text, self.source.folder_of(node))
        real = path.resolve()
        if real in self._open:
            way = " → ".join(found.name for found in [*self._open[self._open.index(real) :], real])
            sentence = f"{shown(text)} leads back to itself: {way}"
            self.source.refuse(node, name, sentence, "pipeline_invalid")
            return None
        if len(self._open) > _FILES_DEEP_MAX:
            sentence = f"pipelines are nested deeper than {limits.PIPELINE_DEPTH_MAX} levels"
            self.source.refuse(node, name, sentence, "pipeline_invalid")
            return None
        if real in self._files:
            return self._files[real]
        called = self._called(node, text)
        try:
            tree = parse_mapping(read_bounded(path, called), called)
        except Invalid as error:
            at_fault = error.where or ""
            if at_fault.startswith(f"{called}:"):
                self.source.refuse(node, name, str(error), error.code)
            else:
                sentence = f"{shown(text)} {error.message}"
                self.source.refuse(node, name, sentence, error.code)
            return None
        tree.take("$schema")
        self.source.folders[called] = real.parent
        self._files[real] = tree
        return tree

    def _called(self, node: ScalarNode, text: str) -> str:
        """Name a file as its author would from where the command was given."""
        if not node.mark.line:
            return text
        return os.path.normpath(Path(node.mark.source).parent / text)


_STAND_IN = CommandComponent(command="true")


def _command(reading: ComponentReading, tree: MapNode, prefix: str) -> None:
    source = reading.source
    _member(source, tree, "resources", azure_keys.RESOURCES, prefix)
    check_code(source, tree, prefix)
    check_environment_field(source, tree, prefix)


def _parallel(reading: ComponentReading, tree: MapNode, prefix: str) -> None:
    source = reading.source
    _member(source, tree, "resources", azure_keys.RESOURCES, prefix)
    task = tree.items.get("task")
    if not isinstance(task, MapNode):
        return  # said by the validation of the noun
    below = f"{prefix}task."
    source.rules(task, azure_keys.TASK, below)
    check_code(source, task, below, script="entry_script")
    check_environment_field(source, task, below)
    check_model_field(source, task, below)


def _pipeline(reading: ComponentReading, tree: MapNode, prefix: str) -> None:
    jobs = tree.items.get("jobs")
    if not isinstance(jobs, MapNode):
        return  # said by the validation of the noun
    read_steps(reading, tree, prefix)
    if reading.steps_in(tree) > limits.STEPS_IN_ALL_MAX:
        sentence = f"holds more than {limits.STEPS_IN_ALL_MAX:,} steps, those of pipelines in it"
        mark = tree.keys["jobs"]
        problem = Problem(mark, f"{prefix}jobs", f"{sentence} included", "pipeline_invalid")
        reading.source.problems.append(problem)


_RULES = {"command": _command, "parallel": _parallel, "pipeline": _pipeline}


def _member(
    source: Source, tree: MapNode, key: str, rules: azure_keys.KeyRules, prefix: str
) -> None:
    node = tree.items.get(key)
    if isinstance(node, MapNode):
        source.rules(node, rules, f"{prefix}{key}.")
