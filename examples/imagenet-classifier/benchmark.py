"""Measures pictures per second: a batchpoint job beside a loop written by hand, on this machine.

    python benchmark.py                                    2,000 pictures on TensorFlow, CPU
    python benchmark.py --pictures 50000 --conda-file environment/conda-torch.yml \
        --backend torch --workers 2 --mini-batch-size 1024      on a machine with a GPU

The loop is what one would write without batchpoint: one process, the same network on the same
device, decoding ahead in threads over the whole folder, no results kept but in memory. Both have
loaded and compiled the network when their clock starts (the job runs on workers that a small job
before it has warmed up); the job's time is that of `invoke` until the results are complete. The
predictions of both are compared, so that neither can be quick by being wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import batchpoint
from batchpoint.domain.asset import Environment

HERE = Path(__file__).resolve().parent
ENDPOINT = "imagenet-benchmark"
WARM_UP_PICTURES = 64
DIFFERENT_SHARE_MAX = 0.005  # pictures on the edge between two classes, in other tensors


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2_000, help="copies of those in data/")
    parser.add_argument("--conda-file", type=Path, default=HERE / "environment" / "conda.yml")
    parser.add_argument(
        "--this-python",
        action="store_true",
        help="score with the interpreter that runs this, which has all that is needed",
    )
    parser.add_argument("--backend", default="tensorflow", choices=["tensorflow", "torch", "jax"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--mini-batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2, help="the best of so many counts")
    parser.add_argument("--gpu", action="store_true", help="end with 1 unless a GPU was used")
    parser.add_argument("--at-least", type=float, default=0.0, help="end with 1 below this share")
    return parser.parse_args()


def interpreter(arguments: argparse.Namespace) -> list[str]:
    """Return the command that runs a script where the network can be loaded."""
    if arguments.this_python:
        return [sys.executable]
    return [sys.executable, str(HERE.parent / "in_environment.py"), str(arguments.conda_file)]


def variables(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what both are told: the backend, few words, and not to spin while waiting."""
    return {
        "KERAS_BACKEND": arguments.backend,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def copies(folder: Path, count: int) -> Path:
    """Fill a folder with `count` pictures, those of data/ over and over."""
    originals = sorted((HERE / "data").glob("*.jpg"))
    if not originals:
        raise SystemExit("There are no pictures yet: run make_images_and_model.py first")
    folder.mkdir()
    for number in range(count):
        original = originals[number % len(originals)]
        shutil.copyfile(original, folder / f"{number:06}-{original.name}")
    return folder


class HandLoop:
    """`hand_loop.py` in a process of its own, with the network loaded, waiting to be timed."""

    def __init__(self, arguments: argparse.Namespace, pictures: Path, folder: Path) -> None:
        self._answer = folder / "by-hand.json"
        self._process = subprocess.Popen(
            [*interpreter(arguments), str(HERE / "hand_loop.py"), str(pictures), str(self._answer)],
            env={**os.environ, **variables(arguments)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said()

    def seconds(self) -> float:
        """Classify the folder once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._said())

    def close(self) -> tuple[bool, dict[str, str]]:
        """End it; returns whether it used a GPU, and the class of each picture."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait():
            raise SystemExit("the loop by hand failed")
        told = json.loads(self._answer.read_text())
        return told["on_gpu"], told["classes"]

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the loop by hand failed")
        return line


def deploy(client: batchpoint.Client, arguments: argparse.Namespace) -> None:
    environment = None
    if not arguments.this_python:
        environment = Environment(conda_file=str(arguments.conda_file))
    client.deploy(
        HERE / "model",
        ENDPOINT,
        code=HERE / "code",
        scoring_script="score_by_batch.py",
        environment=environment,
        max_concurrency_per_instance=arguments.workers,
        mini_batch_size=arguments.mini_batch_size,
        environment_variables=variables(arguments),
    )


def job_seconds(client: batchpoint.Client, pictures: Path, output: Path) -> float:
    """Run a job, from `invoke` until its results are complete."""
    began = time.perf_counter()
    client.invoke(ENDPOINT, pictures, output=output).wait()
    return time.perf_counter() - began


def classes_of(output: Path) -> dict[str, str]:
    with (output / "predictions.csv").open(newline="") as file:
        return {row["_file"]: row["class"] for row in csv.DictReader(file)}


@contextmanager
def gpu_watched(shares: list[int]):
    """Note once a second how busy the GPU is, where nvidia-smi tells."""
    ended = threading.Event()
    asked = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

    def watch() -> None:
        while shutil.which(asked[0]) and not ended.wait(1):
            said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
            shares.extend(int(line) for line in said.split() if line.isdigit())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def compare(by_hand: dict[str, str], by_job: dict[str, str]) -> None:
    if by_hand.keys() != by_job.keys():
        raise SystemExit(f"the job has {len(by_job)} pictures, the loop {len(by_hand)}, or others")
    different = sum(by_hand[name] != found for name, found in by_job.items())
    if different > DIFFERENT_SHARE_MAX * len(by_job):
        raise SystemExit(f"{different} of {len(by_job)} pictures got another class")


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time both in turn, so that what else the machine does weighs on both; the best counts."""
    pictures = copies(folder / "pictures", arguments.pictures)
    warm_up = copies(folder / "warm-up", WARM_UP_PICTURES)
    by_hand, by_job, busy = list[float](), list[float](), list[int]()
    with batchpoint.Client() as client:
        deploy(client, arguments)
        try:
            client.invoke(ENDPOINT, warm_up, mini_batch_size=1).wait()
            loop = HandLoop(arguments, pictures, folder)
            for turn in range(arguments.repeats):
                by_hand.append(loop.seconds())
                with gpu_watched(busy):
                    by_job.append(job_seconds(client, pictures, folder / f"job-{turn}"))
            on_gpu, classes = loop.close()
        finally:
            client.endpoints.delete(ENDPOINT, force=True)
    compare(classes, classes_of(folder / "job-0"))
    return {
        "backend": arguments.backend,
        "device": "GPU" if on_gpu else "CPU",
        "pictures": arguments.pictures,
        "by_hand_pictures_per_second": round(arguments.pictures / min(by_hand), 1),
        "batchpoint_pictures_per_second": round(arguments.pictures / min(by_job), 1),
        "share_of_by_hand": round(min(by_hand) / min(by_job), 3),
        "gpu_busy_percent": round(sum(busy) / len(busy)) if busy else None,
    }


def main() -> None:
    arguments = parsed()
    os.environ.setdefault("BATCHPOINT_HOME", str(HERE / ".batchpoint"))
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".bench-") as made:
        found = measured(arguments, Path(made))
    print(json.dumps(found, indent=1))
    if arguments.gpu and found["device"] != "GPU":
        raise SystemExit("no GPU was used: the environment's framework sees none")
    if found["share_of_by_hand"] < arguments.at_least:
        raise SystemExit(
            f"too slow: at least {arguments.at_least} of the loop by hand was asked for"
        )


if __name__ == "__main__":
    main()
