"""The invocation REST of Azure ML against `batchpoint serve`: its scripts' steps, and a crowd."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchpoint import (
    Client,
    CommandComponent,
    ComponentInput,
    ComponentOutput,
    PipelineComponent,
    PipelineDeployment,
    Step,
)
from tests.integration.user_files import BATCHPOINT

COPY = "cp -r ${{inputs.data}}/. ${{outputs.copied}} && echo ${{inputs.word}} > ${{outputs.told}}"
SCRIPT = "def init():\n    pass\n\ndef run(mini_batch):\n    return mini_batch\n"
SECONDS_MAX = 60
INVOKES = 1_000
KEYS = 100
P99_SECONDS_MAX = 40


@dataclass
class Served:
    """A server, and a folder with a user's data."""

    url: str
    folder: Path

    @property
    def scoring_uri(self) -> str:
        return f"{self.url}/endpoints/crowd/jobs"

    def body(self, **more: Any) -> dict[str, Any]:
        data = {"JobInputType": "UriFolder", "Uri": str(self.folder / "data")}
        return {"Properties": {"InputData": {"data": data}} | more}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`batchpoint serve`, started with the low limit of open files that shells usually set."""
    folder = tmp_path_factory.mktemp("azure")
    environ = {**os.environ, "BATCHPOINT_HOME": str(folder / "home")}
    environ.pop("BATCHPOINT_URL", None)
    line = f"ulimit -Sn 1024; exec {BATCHPOINT} serve --port 0"
    with subprocess.Popen(
        ["bash", "-c", line], stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        try:
            code = folder / "code"
            code.mkdir()
            (code / "score.py").write_text(SCRIPT)
            (folder / "model.txt").write_text("a model")
            (folder / "data").mkdir()
            (folder / "data" / "a.txt").write_text("x")
            with Client(found[0]) as client:
                client.deploy(folder / "model.txt", "crowd", scoring_script=str(code / "score.py"))
            yield Served(found[0], folder)
        finally:
            process.terminate()
            process.stderr.read()
            process.wait(SECONDS_MAX)


def test_the_steps_of_azures_rest_script(served: Served) -> None:
    """Invoke, take the last part of the id, poll that below the scoring URI, find the output."""
    with httpx.Client(timeout=SECONDS_MAX) as http:
        answer = http.post(
            served.scoring_uri,
            json=served.body(
                MiniBatchSize=1,
                OutputData={
                    "score": {
                        "JobOutputType": "UriFile",
                        "Uri": f"{served.folder / 'results'}/mine.csv",
                    }
                },
            ),
            headers={"azureml-model-deployment": "default"},
        )
        assert answer.status_code == 201, answer.text
        last = answer.json()["id"].rpartition("/")[2]
        give_up = time.monotonic() + SECONDS_MAX
        while True:
            told = http.get(f"{served.scoring_uri}/{last}").raise_for_status().json()
            status = told["properties"]["status"]
            assert told["status"] == status
            if status in ("Completed", "Failed", "Canceled"):
                break
            assert time.monotonic() < give_up, told
        assert (status, told["properties"]["provisioningState"]) == ("Completed", "Succeeded")
        page = told["properties"]["interactionEndpoints"]["Studio"]["endpoint"]
        assert http.get(page).json()["name"] == told["name"] == last
    text = (served.folder / "results" / "mine.csv").read_text()
    assert text.splitlines()[1].startswith("a.txt,")


def test_a_thousand_at_once_with_a_hundred_keys_are_a_hundred_jobs(served: Served) -> None:
    async def crowd() -> list[tuple[str, httpx.Response, float]]:
        limits = httpx.Limits(max_connections=INVOKES, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=SECONDS_MAX * 4, limits=limits) as http:

            async def invoke(number: int) -> tuple[str, httpx.Response, float]:
                key = f"key-{number % KEYS}"
                # All spellings of the header, which have to mean the same.
                name = ("Idempotency-Key", "repeatability_request-id")[number % 2]
                began = time.monotonic()
                answer = await http.post(
                    served.scoring_uri, json=served.body(), headers={name: key}
                )
                return key, answer, time.monotonic() - began

            return await asyncio.gather(*(invoke(number) for number in range(INVOKES)))

    answers = asyncio.run(crowd())
    assert {answer.status_code for _, answer, _ in answers} == {201}
    jobs: dict[str, set[str]] = defaultdict(set)
    for key, answer, _ in answers:
        jobs[key].add(answer.json()["name"])
    assert len(jobs) == KEYS
    assert {len(names) for names in jobs.values()} == {1}
    made = set().union(*jobs.values())
    assert len(made) == KEYS
    with Client(served.url) as client:
        there = {job.name for job in client.jobs.list(endpoint="crowd")}
    assert made <= there
    assert len(there - made) <= 1  # the job of the other test
    seconds = sorted(taken for _, _, taken in answers)
    p99 = seconds[int(len(seconds) * 0.99) - 1]
    print(f"{INVOKES} invokes with {KEYS} keys: p50 {seconds[len(seconds) // 2]:.2f} s, {p99=:.2f}")
    assert p99 < P99_SECONDS_MAX


def test_a_pipeline_by_azures_body(served: Served) -> None:
    """Named inputs and outputs, literals as text, steps listed by their parent, outputs read."""
    copy = CommandComponent(
        inputs={
            "data": ComponentInput(type="uri_folder"),
            "word": ComponentInput(type="string"),
        },
        outputs={
            "copied": ComponentOutput(type="uri_folder"),
            "told": ComponentOutput(type="uri_file"),
        },
        command=COPY,
    )
    step = Step(
        component=copy,
        inputs={"data": "${{parent.inputs.data}}", "word": "${{parent.inputs.word}}"},
        outputs={"copied": "${{parent.outputs.copied}}", "told": "${{parent.outputs.told}}"},
    )
    graph = PipelineComponent(
        inputs=copy.inputs, outputs=copy.outputs, jobs={"copy": step}, display_name="Copies"
    )
    awkward = "it's $(here); `now`"
    body = {
        "properties": {
            "inputData": {
                "data": {"jobInputType": "UriFolder", "uri": str(served.folder / "data")},
                "word": {"jobInputType": "Literal", "value": awkward},
            },
            "outputData": {
                "copied": {"jobOutputType": "UriFolder", "uri": str(served.folder / "copied")}
            },
        }
    }
    with Client(served.url) as client, httpx.Client(timeout=SECONDS_MAX) as http:
        client.deployments.create_or_update(
            PipelineDeployment(name="copies", endpoint_name="crowd", component=graph)
        )
        header = {"azureml-model-deployment": "copies"}
        answer = http.post(served.scoring_uri, json=body, headers=header)
        assert answer.status_code == 201, answer.text
        name = answer.json()["name"]
        job = client.job(name).wait(timeout_seconds=SECONDS_MAX)
        assert job.status.progress.steps_done == 1
        told = http.get(f"{served.scoring_uri}/{name}").raise_for_status().json()["properties"]
        assert (told["jobType"], told["provisioningState"]) == ("Pipeline", "Succeeded")
        [step_job] = http.get(f"{served.url}/jobs", params={"parent": name}).json()["value"]
        assert step_job["status"]["state"] == "Completed"
        [file] = client.job(name).download(served.folder / "told", output_name="told")
        assert file.read_text() == f"{awkward}\n"
        assert (served.folder / "copied" / "a.txt").read_text() == "x"
