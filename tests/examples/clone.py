"""An example as a user has it: what git has, in a folder of its own with an empty home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BIN = Path(sys.executable).parent
MADE = (
    "data",
    "expected",
    "model",
    "results",
    "training",
    ".batchpoint",
    ".bench-*",
    "__pycache__",
)
DOWNLOADS_SECONDS_MAX = 1_500


def heavy(test):
    """Mark a test that takes a minute, or may have to download a framework first."""
    return pytest.mark.heavy(pytest.mark.timeout(DOWNLOADS_SECONDS_MAX)(test))


def user_environ(root: Path) -> dict[str, str]:
    """Return the variables of a user with an empty home of batchpoint below `root`."""
    kept = {k: v for k, v in os.environ.items() if "BATCHPOINT" not in k and "MLFLOW" not in k}
    return {
        **kept,
        "BATCHPOINT_HOME": str(root / "home"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }


def run_to_end(
    folder: Path, environ: dict[str, str], *command: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever that is."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environ,
        cwd=folder,
        timeout=DOWNLOADS_SECONDS_MAX,
        check=False,
    )


class Clone:
    """What git has of an example (and of those it needs), with an empty home."""

    def __init__(self, root: Path, example: str, *needed: str) -> None:
        self.folder = root / "examples" / example
        ignored = shutil.ignore_patterns(*MADE)
        for name in (example, *needed):
            shutil.copytree(EXAMPLES / name, root / "examples" / name, ignore=ignored)
        shutil.copy(EXAMPLES / "in_environment.py", self.folder.parent)
        self._environ = user_environ(root)

    def run(self, *command: str, **variables: str) -> str:
        done = run_to_end(self.folder, self._environ | variables, *command)
        said = (
            f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        assert done.returncode == 0, said
        return done.stdout

    def deploy_and_run(self, *arguments: str, **variables: str) -> str:
        """Run the script; it must end well, have checked its results and leave nothing running."""
        said = self.run("bash", "deploy-and-run.sh", *arguments, **variables)
        assert "# All results are as expected" in said
        assert self.run("batchpoint", "batch-endpoint", "list", "-o", "tsv").strip() == ""
        assert "nothing ran" in self.run("batchpoint", "down")
        return said
