"""Random graphs of commands: what each step is told to do, and what it must have written then."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Behaviour = Literal["works", "fails", "once", "stalls", "forks"]
Shape = Literal["folder", "file", "both", "items", "rows"]

ITEMS = 8
COMPUTES = {"wide": 3, "small": 2, "single": 1}
_OUTPUTS: Mapping[Shape, tuple[str, ...]] = {
    "folder": ("made",),
    "file": ("one",),
    "both": ("made", "one"),
    "items": ("made",),
    "rows": ("one",),
}
_TYPES = {"made": "uri_folder", "one": "uri_file"}
_HEALTHY: Mapping[Behaviour, float] = {"works": 20, "once": 2.5, "forks": 2}
_SICK: Mapping[Behaviour, float] = {**_HEALTHY, "fails": 1, "stalls": 0.3}

# The lock is held by all that an attempt has started: two attempts at a time are seen by it.
_PROLOGUE = """
tell() { printf '%s %s %s %s\\n' "$AZUREML_RUN_ID" "$$" "$1" "$EPOCHREALTIME" >> "$WORLD/journal"; }
exec 9>> "$WORLD/locks/$AZUREML_RUN_ID"
flock -n 9 || tell overlap
tell begin
"""
_EPILOGUE = """
case ${{inputs.behaviour}} in
  fails) tell fail; exit 3;;
  once) if mkdir "$WORLD/marks/$AZUREML_RUN_ID" 2> /dev/null; then tell fail; exit 4; fi;;
  stalls) tell fail; sleep 600;;
  forks) setsid sleep 600 & (setsid sleep 600 &) ;;
esac
tell end
"""
SCRIPT = """
import os, time

def init():
    line = "%s %d init %.6f\\n" % (os.environ["AZUREML_RUN_ID"], os.getpid(), time.time())
    journal = os.open({journal!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, line.encode())

def run(mini_batch):
    time.sleep(0.02)
    return [open(path).read().strip() for path in mini_batch]
"""


@dataclass(frozen=True)
class GraphStep:
    """One step: what it needs, what it writes, and how it behaves. Scores, if it makes rows."""

    name: str
    label: str
    needs: tuple[str, ...]
    shape: Shape
    behaviour: Behaviour = "works"
    max_retries: int = 0
    seconds: float = 0.0
    lines: int = 1
    compute: str = "wide"
    deterministic: bool = True

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return _OUTPUTS[self.shape]


class Graph:
    """A graph of steps, the job that runs it, and the bytes that must come of it."""

    def __init__(self, steps: list[GraphStep], *, goes_on: bool, bound: tuple[str, ...]) -> None:
        """`bound` names steps whose outputs are the pipeline's; `goes_on` after failures."""
        self.steps = {step.name: step for step in steps}
        self.goes_on = goes_on
        self.bound = bound
        self._contents: dict[tuple[str, str], dict[str, bytes]] = {}

    @classmethod
    def random(cls, chance: random.Random, size: int) -> Graph:
        """Make a graph of about `size` steps in several layers."""
        steps: list[GraphStep] = []
        behaviours = chance.choice([_HEALTHY, _HEALTHY, _SICK])
        while len(steps) < size:
            name = f"s{len(steps):02}"
            if steps and chance.random() < 0.15:  # the same again
                twin = chance.choice(steps)
                if twin.shape != "rows":
                    steps.append(replace(twin, name=name))
                continue
            window = steps[-chance.choice([4, 8, 40]) :]
            count = min(len(window), chance.choices([0, 1, 2, 3, 6], [2, 8, 5, 3, 1])[0])
            needs = tuple(each.name for each in chance.sample(window, count))
            steps.append(_random_step(chance, name, needs, behaviours))
            if steps[-1].shape == "items":
                scoring = GraphStep(
                    f"s{len(steps):02}", f"rows of {name}", (name,), "rows", compute="small"
                )
                steps.append(scoring)
        commands = [step.name for step in steps if step.shape != "rows"]
        bound = tuple(chance.sample(commands, min(2, len(commands))))
        return cls(steps, goes_on=chance.random() < 0.7, bound=bound)

    # --- the job ------------------------------------------------------------------------------

    def body(self, world: Path, results: Path) -> dict[str, Any]:
        """Return the pipeline job; `results` is where the caller wants the bound outputs."""
        return {
            "jobs": {name: self._step(step, world) for name, step in self.steps.items()},
            "outputs": {
                f"{name}_{output}": {"type": _TYPES[output], "uri": str(results / name / output)}
                for name in self.bound
                for output in self.steps[name].outputs
            },
            "settings": {"continue_on_step_failure": self.goes_on},
        }

    def _step(self, step: GraphStep, world: Path) -> dict[str, Any]:
        inputs = {
            f"in{index}_{output}": (need, output)
            for index, need in enumerate(step.needs)
            for output in self.steps[need].outputs
        }
        component = self._component(step, inputs, world)
        literals = {"label": step.label, "behaviour": step.behaviour, "seconds": step.seconds}
        given = {} if step.shape == "rows" else literals | {"lines": step.lines}
        reading = {
            name: f"${{{{parent.jobs.{need}.outputs.{output}}}}}"
            for name, (need, output) in inputs.items()
        }
        binding = {
            output: f"${{{{parent.outputs.{step.name}_{output}}}}}"
            for output in step.outputs
            if step.name in self.bound
        }
        return {
            "component": component,
            "inputs": given | reading,
            "outputs": binding,
            "compute": step.compute,
        }

    def _component(
        self, step: GraphStep, inputs: Mapping[str, tuple[str, str]], world: Path
    ) -> dict[str, Any]:
        declared = {name: {"type": _TYPES[output]} for name, (_, output) in inputs.items()}
        outputs = {name: {"type": _TYPES[name]} for name in step.outputs}
        if step.shape == "rows":
            return {
                "type": "parallel",
                "is_deterministic": step.deterministic,
                "inputs": declared,
                "outputs": outputs,
                "input_data": "${{inputs.in0_made}}",
                "mini_batch_size": "2",
                "max_concurrency_per_instance": 1,
                "task": {
                    "code": str(world / "code"),
                    "entry_script": "score.py",
                    "append_row_to": "${{outputs.one}}",
                },
            }
        literals = {
            "label": {"type": "string"},
            "behaviour": {"type": "string"},
            "seconds": {"type": "number"},
            "lines": {"type": "integer"},
        }
        return {
            "type": "command",
            "command": _command(
                step, [(name, self.steps[need].shape) for name, (need, _) in inputs.items()]
            ),
            "is_deterministic": step.deterministic,
            "inputs": literals | declared,
            "outputs": outputs,
            "environment_variables": {"WORLD": str(world)},
            "limits": {"timeout": 2 if step.behaviour == "stalls" else None},
            "retry_settings": {"max_retries": step.max_retries},
        }

    # --- the oracle -----------------------------------------------------------------------------

    def content(self, name: str, output: str) -> dict[str, bytes]:
        """Return the files of an output by their relative names; "." is the output itself."""
        known = self._contents.get((name, output))
        if known is None:
            known = self._contents[name, output] = self._content(self.steps[name], output)
        return known

    def _content(self, step: GraphStep, output: str) -> dict[str, bytes]:
        if step.shape == "rows":
            label = self.steps[step.needs[0]].label
            rows = "".join(f"{n}.txt,{label}-{n}\n" for n in range(ITEMS))
            return {".": f"_file,prediction\n{rows}".encode()}
        digests = "".join(
            hashlib.sha256(b"".join(self.content(need, each).values())).hexdigest() + "\n"
            for need in step.needs
            for each in self.steps[need].outputs
        )
        text = f"{step.label}\n{digests}".encode()
        numbers = "".join(f"{n}\n" for n in range(1, step.lines + 1)).encode()
        if output == "one":
            return {".": text + numbers}
        if step.shape == "items":
            return {f"{n}.txt": f"{step.label}-{n}\n".encode() for n in range(ITEMS)}
        return {"parts/numbers": numbers, "text": text}

    def behind(self, name: str) -> set[str]:
        """Return all steps that a step needs, directly or not."""
        found: set[str] = set()
        todo = [name]
        while todo:
            for need in self.steps[todo.pop()].needs:
                if need not in found:
                    found.add(need)
                    todo.append(need)
        return found


def _random_step(
    chance: random.Random, name: str, needs: tuple[str, ...], behaviours: Mapping[Behaviour, float]
) -> GraphStep:
    behaviour = chance.choices(list(behaviours), list(behaviours.values()))[0]
    shape: Shape = chance.choices(["folder", "file", "both", "items"], [6, 3, 2, 0.25])[0]  # type: ignore[assignment]
    return GraphStep(
        name,
        label=name,
        needs=needs,
        shape=shape,
        behaviour="works" if shape == "items" else behaviour,
        max_retries=1 if behaviour == "once" else chance.choice([0, 0, 0, 1, 2]),
        seconds=chance.choice([0, 0, 0, 0.1, 0.3, 0.6]),
        lines=chance.choice([1, 10, 1000, 20_000]),
        compute=chance.choice(list(COMPUTES)),
        deterministic=chance.random() < 0.7,
    )


def _command(step: GraphStep, inputs: list[tuple[str, Shape]]) -> str:
    """Write the command: half of each output, a pause, the other half, and how it ends."""
    digests: list[str] = []
    for name, shape in inputs:
        place = f"${{{{inputs.{name}}}}}"
        read = f"{place}/parts/numbers {place}/text" if name.endswith("made") else place
        if shape == "items":
            read = f"{place}/*.txt"
        digests.append(f"cat {read} | sha256sum | cut -d ' ' -f 1")
    text = "{ " + "; ".join(["echo ${{inputs.label}}", *digests]) + "; }"
    pause, numbers = "sleep ${{inputs.seconds}}", "seq 1 ${{inputs.lines}}"
    lines: list[str] = ["set -e -o pipefail"]
    if step.shape == "items":
        item = 'echo ${{inputs.label}}-"$n" > ${{outputs.made}}/"$n.txt"'
        lines += [pause, f"for n in {' '.join(map(str, range(ITEMS)))}; do {item}; done"]
        return "\n".join([_PROLOGUE, *lines, _EPILOGUE])
    if "made" in step.outputs:
        lines += ["mkdir ${{outputs.made}}/parts", text + " > ${{outputs.made}}/text"]
    if "one" in step.outputs:
        lines.append(text + " > ${{outputs.one}}")
    lines.append(pause)
    if "made" in step.outputs:
        lines.append(numbers + " > ${{outputs.made}}/parts/numbers")
    if "one" in step.outputs:
        lines.append(numbers + " >> ${{outputs.one}}")
    return "\n".join([_PROLOGUE, *lines, _EPILOGUE])
