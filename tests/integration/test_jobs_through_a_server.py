"""The same commands and the SDK against `batchpoint serve`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint import Client
from tests.integration.user_files import BATCHPOINT, write_files

SERVER_SECONDS_MAX = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """`batchpoint serve` on a free port: its address, and a folder with a user's files."""
    folder = tmp_path_factory.mktemp("served")
    write_files(folder, "served")
    environ = {**os.environ, "BATCHPOINT_HOME": str(folder / "home")}
    environ.pop("BATCHPOINT_URL", None)
    with subprocess.Popen(
        [BATCHPOINT, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://\S+", said)
        assert found is not None, said
        yield found[0], folder
        process.terminate()
        process.stderr.read()
        assert process.wait(SERVER_SECONDS_MAX) in (0, -15, 143)


def test_a_server_takes_the_same_commands(server: tuple[str, Path]) -> None:
    url, folder = server

    def typed(line: str, code: int = 0) -> str:
        ended = subprocess.run(
            [BATCHPOINT, *line.split()],
            env={**os.environ, "BATCHPOINT_URL": url, "BATCHPOINT_HOME": str(folder / "unused")},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SERVER_SECONDS_MAX,
            check=False,
        )
        assert ended.returncode == code, ended.stderr
        return ended.stdout

    typed("batch-endpoint create -f endpoint.yml")
    typed("batch-deployment create -f current.yml --set-default")
    job = json.loads(typed("invoke served --input mixed --wait -o json", 3))
    assert job["status"]["progress"]["items_failed"] == 1
    assert typed("endpoint list-jobs -n served --query [].name -o tsv").split() == [job["name"]]
    typed(f"job download {job['name']} -p out")
    text = (folder / "out" / "scores.csv").read_text()
    assert [line[:5] for line in text.splitlines()[1:]] == ["0.txt", "2.txt", "3.txt"]
    assert not (folder / "unused").exists()
    with Client(url) as client:
        handle = client.invoke("served", folder / "good", idempotency_key="k")
        assert client.invoke("served", folder / "good", idempotency_key="k").name == handle.name
        seen: list[int] = []
        ended = handle.wait(lambda now: seen.append(now.version))
        assert seen == sorted(seen)
        assert ended.status.progress.items_done == 5
        assert handle.head(1).rows == [["0.txt", "blue of 3"]]
        assert [item["name"] for item in client.job(job["name"]).failed_items()] == ["1.txt"]
        assert b"results are complete" in b"".join(handle.log())
    (folder / "code" / "score.py").write_text("def init(:\n")
    typed("batch-deployment create -f current.yml", 2)
    typed("deployment delete -n blue -e served --yes", 2)
    typed("deployment delete -n blue -e served --yes --force")
    assert typed("endpoint show served --query defaults.deployment_name -o tsv").strip() == ""
    typed("invoke served --input good", 2)
    typed("endpoint delete served --yes")
    assert typed("endpoint list --query length(@)").strip() == "0"
    assert json.loads(typed(f"job show {job['name']} -o json"))["status"] == job["status"]
    typed(f"job download {job['name']} -p again")
    assert (folder / "again" / "scores.csv").read_text() == text
