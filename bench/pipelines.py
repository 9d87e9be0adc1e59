"""What a graph of steps costs next to running its commands in a pool of processes.

    python -m bench pipelines [--steps 200] [--wide 50] [--rounds 3]

The commands do nothing; each step of a layer reads what one of the layer before has written. Prints
medians and milliseconds that batchpoint adds to a step; ends with 1 when the goal is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batchpoint import Client, wiring
from batchpoint.domain.component import CommandComponent, Step
from batchpoint.domain.job import JobState
from batchpoint.domain.pipeline import PipelineJob, PipelineSettings
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from bench import places

ADDED_SECONDS_MAX = 0.025
COMMAND = "true"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and compare with the goal."""
    parser = argparse.ArgumentParser(prog="python -m bench pipelines", description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--wide", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    home = places.emptied(places.WORK / "pipelines")
    settings = Settings.load({**os.environ, "BATCHPOINT_HOME": str(home)})
    ours: list[float] = []
    pool: list[float] = []
    with Client(app=wiring.embedded_app(settings)) as client:
        _graph(client, 2, 1)  # the supervisor is up and the environment known
        for _ in range(asked.rounds):
            pool.append(_in_a_pool(asked.steps, asked.wide))
            ours.append(_graph(client, asked.steps, asked.wide))
    SupervisorLink(home).down()
    shutil.rmtree(home, ignore_errors=True)
    graph, plain = statistics.median(ours), statistics.median(pool)
    added = (graph - plain) / asked.steps
    print(
        f"{asked.steps} steps, {asked.wide} wide: {graph:.2f} s, in a pool {plain:.2f} s: "
        f"{added * 1000:.1f} ms added to a step (goal <= {ADDED_SECONDS_MAX * 1000:.0f} ms)"
    )
    return int(added > ADDED_SECONDS_MAX)


def _graph(client: Client, steps: int, wide: int) -> float:
    """Run a graph and return its seconds, from asking for it until it has ended."""
    first = CommandComponent.model_validate({"command": COMMAND, "outputs": {"made": {}}})
    later = first.model_copy(
        update={
            "inputs": CommandComponent.model_validate(
                {"command": COMMAND, "inputs": {"before": {"type": "uri_folder"}}}
            ).inputs
        }
    )
    jobs: dict[str, Step] = {}
    for number in range(steps):
        before = f"step_{number - wide}"
        jobs[f"step_{number}"] = (
            Step(component=first)
            if number < wide
            else Step(
                component=later, inputs={"before": f"${{{{parent.jobs.{before}.outputs.made}}}}"}
            )
        )
    body = PipelineJob(jobs=jobs, settings=PipelineSettings(force_rerun=True))
    began = time.perf_counter()
    job = client.jobs.create(body).wait()
    seconds = time.perf_counter() - began
    assert job.status.state is JobState.COMPLETED, job.status.error
    assert job.status.progress.steps_done == steps
    return seconds


def _in_a_pool(steps: int, wide: int) -> float:
    """Run the same commands by hand: a layer after the other, each in a pool of the cores."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        began = time.perf_counter()

        def run(number: int) -> None:
            made = Path(folder, str(number))
            made.mkdir()
            subprocess.run(["bash", "-c", COMMAND], check=True, cwd=made)

        for start in range(0, steps, wide):
            list(pool.map(run, range(start, min(start + wide, steps))))
        return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
