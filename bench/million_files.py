"""One job over 1,000,000 nearly empty files: how long it takes, and how much memory the runner.

    python -m bench.million_files [--files 1000000] [--mini-batch-size 100]

Prints seconds and the peak memory (VmHWM) of the job's runner and of its supervisor, sampled while
they run; ends with 1 when the runner took more than its limit or a row is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bench import homes, places

FILES_PER_FOLDER = 10_000
RUNNER_BYTES_MAX = 500_000_000
SAMPLE_SECONDS = 0.25


def main() -> int:
    """Make the files if need be, run the job, and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.million_files", description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--mini-batch-size", type=int, default=100)
    arguments = parser.parse_args()

    data = places.DATA / f"files-{arguments.files}"
    if not data.exists():
        _make(data, arguments.files)
    places.MODELS.mkdir(parents=True, exist_ok=True)
    places.OVERHEAD_MODEL.write_text("nothing is loaded from here\n")
    home = homes.Home(places.WORK / "million")
    output = places.emptied(places.OUTPUTS / "million") / "score"
    with home.cold("overhead") as environment:
        size = str(arguments.mini_batch_size)
        flags = ["--input", str(data), "--output-path", str(output), "--mini-batch-size", size]
        began = time.perf_counter()
        invocation = subprocess.Popen(
            [homes.BATCHPOINT, "invoke", "overhead", *flags, "--wait"],
            env=environment,
        )
        peaks = _watched(invocation, home.folder)
        seconds = time.perf_counter() - began
    with (output / "predictions.csv").open("rb") as file:
        rows = sum(1 for _ in file) - 1
    print(f"{rows:,} of {arguments.files:,} files scored in {seconds:.1f} s")
    for role, peak in peaks.items():
        print(f"{role}: at most {peak / 1e6:.0f} MB")
    enough = rows == arguments.files and invocation.returncode == 0
    return 0 if enough and 0 < peaks["runner"] < RUNNER_BYTES_MAX else 1


def _make(folder: Path, count: int) -> None:
    print(f"making {count:,} files ...", flush=True)
    begun = places.emptied(folder.with_name(f"{folder.name}.begun"))
    for first in range(0, count, FILES_PER_FOLDER):
        below = begun / f"{first // FILES_PER_FOLDER:05d}"
        below.mkdir()
        for number in range(first, min(first + FILES_PER_FOLDER, count)):
            (below / f"t{number:07d}.txt").write_bytes(b"x")
    begun.rename(folder)


def _watched(invocation: subprocess.Popen[bytes], home: Path) -> dict[str, int]:
    """Sample the peaks of supervisor and runner until the command ends."""
    peaks = {"runner": 0, "supervisor": 0}
    while invocation.poll() is None:
        for role, process in _processes(home):
            with suppress(OSError, StopIteration):
                status = (process / "status").read_text().splitlines()
                peak = next(line for line in status if line.startswith("VmHWM"))
                peaks[role] = max(peaks[role], int(peak.split()[1]) * 1024)
        time.sleep(SAMPLE_SECONDS)
    return peaks


def _processes(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield the runners and the supervisor of a home, as the supervisor tells them."""
    from batchpoint.runner.supervisor_link import SupervisorLink

    told = SupervisorLink(home).ask("status")
    if told is not None:
        yield "supervisor", Path("/proc", str(told["pid"]))
        for job in told["jobs"]:
            yield "runner", Path("/proc", str(job["pid"]))


if __name__ == "__main__":
    sys.exit(main())
