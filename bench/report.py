"""Collects what was measured; makes the table and `latest.json` of it."""

from __future__ import annotations

import json
import platform
import statistics
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench import places
from bench.answers import Answer
from bench.workloads import EMPTY, SINGLE, Target, Workload

MINI_BATCHES_PER_SECOND_MIN = 4_000


class Run(NamedTuple):
    """One measured run; `load` is the machine's load average before it."""

    seconds: float
    peak_bytes: int
    load: float
    answer: Answer


class Results:
    """All runs, by workload and contender."""

    def __init__(self) -> None:
        """Nothing is measured yet."""
        self._runs: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
        self._answers: dict[str, Answer] = {}
        self.has_problems = False

    def add(self, workload: Workload, contender: str, run: Run) -> None:
        """Keep a run and say so; an answer unlike the first one's is a problem."""
        print(
            f"{workload.name:4} {contender:30} {run.seconds:7.2f} s  {run.peak_bytes >> 20:5} MB"
            f"  load {run.load:4.1f}",
            flush=True,
        )
        expected = self._answers.setdefault(workload.name, run.answer)
        if run.answer != expected and contender not in workload.unlike:
            self.failed(workload, contender, f"answered {run.answer} instead of {expected}")
            return
        self._runs[workload.name][contender].append(run)

    def failed(self, workload: Workload, contender: str, why: str) -> None:
        """Say that a contender has no valid result."""
        self.has_problems = True
        print(f"{workload.name:4} {contender:30} FAILED: {why}", flush=True)

    def entries(self, workloads: dict[str, Workload]) -> list[dict[str, object]]:
        """Return one entry per workload and contender: medians, and ratios to the limit."""
        return [
            self._entry(workloads[workload], contender)
            for workload, contenders in self._runs.items()
            for contender in contenders
        ]

    def _seconds(self, workload: str, contender: str) -> float | None:
        runs = self._runs[workload].get(contender)
        return statistics.median(run.seconds for run in runs) if runs else None

    def _entry(self, workload: Workload, contender: str) -> dict[str, object]:
        runs = self._runs[workload.name][contender]
        seconds = statistics.median(run.seconds for run in runs)
        limit = self._seconds(workload.name, workload.limit)
        ratio = seconds / limit if limit else None
        target = workload.targets.get(contender)
        entry: dict[str, object] = {
            "workload": workload.name,
            "what": workload.what,
            "contender": contender,
            "seconds_median": round(seconds, 3),
            "ratio_to_limit": None if ratio is None else round(ratio, 3),
            "limit": workload.limit,
            "runs": len(runs),
            "seconds": [round(run.seconds, 3) for run in runs],
            "peak_memory_mb": max(run.peak_bytes for run in runs) >> 20,
            "load_average": [round(run.load, 1) for run in runs],
            "rows": runs[0].answer.rows,
            "target": None if target is None else str(target),
            "met": _met(target, seconds, ratio),
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{places.cores()} cores, {platform.system()}, Python "
            f"{platform.python_version()}",
        }
        if workload.name == "W3" and contender == SINGLE:
            entry["mini_batches_per_second"] = self._mini_batches_per_second(runs[0].answer.rows)
        return entry

    def _mini_batches_per_second(self, files: int) -> float | None:
        """Return how many mini-batches a second a running job does, listing and writing included.

        A job of one mini-batch takes what starting takes; a job with mini-batches of one file each
        does all the others in what it takes longer.
        """
        all_of_them, one = self._seconds("W3", SINGLE), self._seconds("W3", EMPTY)
        if all_of_them is None or one is None or all_of_them <= one:
            return None
        return round((files - 1) / (all_of_them - one))

    def table(self, workloads: dict[str, Workload]) -> str:
        """Return all of it for people."""
        lines = [
            f"{'':4} {'':30} {'median s':>9} {'ratio':>7} {'runs':>5} {'MB':>6}  target",
        ]
        for entry in self.entries(workloads):
            ratio = entry["ratio_to_limit"]
            target = ""
            if entry["target"] is not None:
                target = f"{entry['target']}  {'met' if entry['met'] else 'MISSED'}"
            lines.append(
                f"{entry['workload']:4} {entry['contender']:30} {entry['seconds_median']:9.2f} "
                f"{ratio if ratio is not None else '':>7} {entry['runs']:>5} "
                f"{entry['peak_memory_mb']:>6}  {target}"
            )
            if rate := entry.get("mini_batches_per_second"):
                met = "met" if float(str(rate)) >= MINI_BATCHES_PER_SECOND_MIN else "MISSED"
                lines.append(
                    f"{'':4} {'  mini-batches a second':30} {rate:9}  "
                    f"{'':>26}>= {MINI_BATCHES_PER_SECOND_MIN}  {met}"
                )
        return "\n".join(lines)

    def write(self, workloads: dict[str, Workload], path: Path) -> None:
        """Write the entries; those of workloads that did not run now stay as they are."""
        entries = self.entries(workloads)
        ran = {entry["workload"] for entry in entries}
        if path.exists():
            kept = [e for e in json.loads(path.read_text()) if e["workload"] not in ran]
            entries = kept + entries
        order = list(workloads)
        entries.sort(key=lambda entry: order.index(str(entry["workload"])))
        path.write_text(json.dumps(entries, indent=1) + "\n")


def _met(target: Target | None, seconds: float, ratio: float | None) -> bool | None:
    if target is None or (ratio is None and target.ratio_max is not None):
        return None
    return target.met(seconds, ratio or 0.0)
