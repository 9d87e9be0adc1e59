"""One timed process: from its start to its end, and the memory its largest process took."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Timed(NamedTuple):
    """What a process took. Memory is that of the largest process among it and its children."""

    seconds: float
    peak_bytes: int


class ContenderFailed(Exception):
    """A contender ended with an error; the message has the end of what it wrote."""


def timed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Timed:
    """Run a command to its end; what it writes goes to `log`.

    Raises:
        ContenderFailed: it did not end with exit status 0.
    """
    with log.open("wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = log.read_text(errors="replace")[-2_000:]
        raise ContenderFailed(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Timed(seconds, usage.ru_maxrss * unit)


def peak_of_others(marked: str) -> int:
    """Return the peak memory of the largest running process of a family, in bytes.

    The family are the processes with `marked` in their environment, and all their descendants.
    Costs nothing while the measured program runs: the kernel keeps the peak. 0 without /proc.
    """
    parents: dict[int, int] = {}
    peaks: dict[int, int] = {}
    family: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            status = (process / "status").read_text()
            environment = (process / "environ").read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        number = int(process.name)
        parents[number] = int(fields["PPid"])
        peaks[number] = int(fields.get("VmHWM", "0 kB").split()[0]) * 1024
        if marked.encode() in environment:
            family.add(number)
    return max((peaks[n] for n in peaks if _belongs(n, family, parents)), default=0)


def _belongs(number: int, family: set[int], parents: dict[int, int]) -> bool:
    while number in parents and number not in family:
        number = parents[number]
    return number in family
