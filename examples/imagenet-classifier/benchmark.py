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
from typing import NamedTuple

import batchpoint
from batchpoint.domain.asset import Environment

HERE = Path(__file__).resolve().parent
ENDPOINT = "imagenet-benchmark"
WARM_UP_PICTURES = 64
DIFFERENT_SHARE_MAX = 0.005  # pictures on the edge between two classes, in other tensors


class Timed(NamedTuple):
    seconds: float
    classes: dict[str, str]


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


def by_hand(arguments: argparse.Namespace, pictures: Path, folder: Path) -> tuple[Timed, bool]:
    """Let `hand_loop.py` score the folder; returns its best time and whether it used a GPU."""
    answer = folder / "by-hand.json"
    loop = [str(HERE / "hand_loop.py"), str(pictures), str(answer), str(arguments.repeats)]
    environ = {**os.environ, "KERAS_BACKEND": arguments.backend}
    subprocess.run([*interpreter(arguments), *loop], env=environ, check=True)
    told = json.loads(answer.read_text())
    return Timed(min(told["seconds"]), told["classes"]), told["on_gpu"]


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
        environment_variables={"KERAS_BACKEND": arguments.backend, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )


def by_batchpoint(
    client: batchpoint.Client, arguments: argparse.Namespace, pictures: Path, folder: Path
) -> Timed:
    """Run the job `repeats` times on warm workers; returns the best time from invoke to results."""
    client.invoke(ENDPOINT, copies(folder / "warm-up", WARM_UP_PICTURES), mini_batch_size=1).wait()
    best = float("inf")
    for number in range(arguments.repeats):
        output = folder / f"job-{number}"
        began = time.perf_counter()
        client.invoke(ENDPOINT, pictures, output=output).wait()
        best = min(best, time.perf_counter() - began)
    with (folder / "job-0" / "predictions.csv").open(newline="") as file:
        return Timed(best, {row["_file"]: row["class"] for row in csv.DictReader(file)})


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


def compare(hand: Timed, job: Timed) -> None:
    if hand.classes.keys() != job.classes.keys():
        raise SystemExit(
            f"the job has {len(job.classes)} pictures, the loop {len(hand.classes)}, or others"
        )
    different = sum(hand.classes[name] != found for name, found in job.classes.items())
    if different > DIFFERENT_SHARE_MAX * len(job.classes):
        raise SystemExit(f"{different} of {len(job.classes)} pictures got another class")


def main() -> None:
    arguments = parsed()
    os.environ.setdefault("BATCHPOINT_HOME", str(HERE / ".batchpoint"))
    shares: list[int] = []
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".bench-") as made:
        folder = Path(made)
        pictures = copies(folder / "pictures", arguments.pictures)
        hand, on_gpu = by_hand(arguments, pictures, folder)
        with batchpoint.Client() as client:
            deploy(client, arguments)
            try:
                with gpu_watched(shares):
                    job = by_batchpoint(client, arguments, pictures, folder)
            finally:
                client.endpoints.delete(ENDPOINT, force=True)
    compare(hand, job)
    share = hand.seconds / job.seconds
    found = {
        "backend": arguments.backend,
        "device": "GPU" if on_gpu else "CPU",
        "pictures": arguments.pictures,
        "by_hand_pictures_per_second": round(arguments.pictures / hand.seconds, 1),
        "batchpoint_pictures_per_second": round(arguments.pictures / job.seconds, 1),
        "share_of_by_hand": round(share, 3),
        "gpu_busy_percent": round(sum(shares) / len(shares)) if shares else None,
    }
    print(json.dumps(found, indent=1))
    if arguments.gpu and not on_gpu:
        raise SystemExit("no GPU was used: the environment's framework sees none")
    if share < arguments.at_least:
        raise SystemExit(f"{share:.3f} of the loop by hand, expected {arguments.at_least}")


if __name__ == "__main__":
    main()
