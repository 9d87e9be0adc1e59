"""batchpoint as a contender: homes with deployments, cold and warm, embedded and served."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Mapping
from pathlib import Path

from bench import places
from bench.timed_process import ContenderFailed

BATCHPOINT = str(Path(places.PYTHON).parent / "batchpoint")
_URL = re.compile(rb"BATCHPOINT_URL=(\S+)")


class Home:
    """One BATCHPOINT_HOME of the bench, made anew for each run of it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first `deploy`."""
        self.folder = folder
        self._deployed: set[str] = set()

    def environment(self) -> dict[str, str]:
        """Variables for the embedded mode in this home."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("BATCHPOINT_")}
        return inherited | {"BATCHPOINT_HOME": str(self.folder)}

    def deploy(self, endpoint: str) -> None:
        """Make endpoint and deployment, once."""
        if endpoint in self._deployed:
            return
        if not self._deployed:
            self.down()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            mapped = f'[environments.environment_map]\n"bench-images" = "{places.IMAGES_PYTHON}"\n'
            (self.folder / "settings.toml").write_text(mapped)
        workers = str(places.cores())
        if endpoint == "tabular":
            model = [str(places.TABULAR_MODEL), "--name", "tabular"]
        else:
            model = [str(places.HERE / endpoint / "deployment.yml")]
        self._call("deploy", *model, "--max-concurrency-per-instance", workers)
        self._deployed.add(endpoint)

    def _call(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [BATCHPOINT, *arguments],
            env=environment or self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            command = " ".join(["batchpoint", *arguments])
            raise ContenderFailed(f"{command} ended with {done.returncode}:\n{done.stdout}")

    def down(self) -> None:
        """End everything that runs for this home."""
        self._call("down")

    @contextlib.contextmanager
    def cold(self, endpoint: str) -> Generator[dict[str, str]]:
        """Nothing runs; yields the variables for the measured command."""
        self.deploy(endpoint)
        self.down()
        try:
            yield self.environment()
        finally:
            self.down()

    @contextlib.contextmanager
    def warm(self, endpoint: str, data: Path) -> Generator[dict[str, str]]:
        """A job has just ended, and its node is still there."""
        with self.cold(endpoint) as environment:
            self._prime(endpoint, data, environment)
            yield environment

    @contextlib.contextmanager
    def served(self, endpoint: str, data: Path) -> Generator[dict[str, str]]:
        """A server runs, and a job that it ran has just ended."""
        with self.cold(endpoint) as environment, _server(environment) as url:
            served = {k: v for k, v in environment.items() if k != "BATCHPOINT_HOME"}
            served["BATCHPOINT_URL"] = url
            self._prime(endpoint, data, served)
            yield served

    def _prime(self, endpoint: str, data: Path, environment: Mapping[str, str]) -> None:
        output = ["-o", "none"]
        invocation = ["invoke", endpoint, "--input", str(data), "--wait"]
        self._call(*invocation, *output, environment=environment)


@contextlib.contextmanager
def _server(environment: Mapping[str, str]) -> Generator[str]:
    process = subprocess.Popen(
        [BATCHPOINT, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := _URL.search(line):
                yield found[1].decode()
                return
        raise RuntimeError("`batchpoint serve` ended without saying where it listens")
    finally:
        process.terminate()
        process.stderr.read()
        process.wait()
