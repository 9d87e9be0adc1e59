"""What is measured: the workloads, who competes in each, and which targets there are."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench import homes, places

PLAIN, LIMIT, RAW, POOL = "plain loop", "limit", "limit, raw", "pool"
COLD, WARM, SERVED = "batchpoint", "batchpoint, warm", "batchpoint, warm, served"
SINGLE, EMPTY = "batchpoint, mini-batches of 1", "batchpoint, one file"

OVERHEAD_MINI_BATCH_SIZE = 10


@dataclass(frozen=True, slots=True)
class Contender:
    """A command to be timed.

    `command` gets the output folder. `surroundings` is what must be so while it runs; it is entered
    outside the measured time and yields the command's environment variables. `home` is whose
    processes it may leave running.
    """

    name: str
    command: Callable[[Path], list[str]]
    surroundings: Callable[[], AbstractContextManager[dict[str, str]]]
    home: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What the project wants to reach: at most so many times the limit, or so many seconds."""

    ratio_max: float | None = None
    seconds_max: float | None = None

    def met(self, seconds: float, ratio: float) -> bool:
        """Compare."""
        return (self.ratio_max is None or ratio <= self.ratio_max) and (
            self.seconds_max is None or seconds <= self.seconds_max
        )

    def __str__(self) -> str:
        if self.ratio_max is not None:
            return f"<= {self.ratio_max:g} x"
        return f"<= {self.seconds_max:g} s"


@dataclass(frozen=True, slots=True)
class Workload:
    """Input, contenders, and the one that ratios are taken to (`limit`).

    `answer_columns`: which columns of everybody's output must be equal, by place; `unlike` names
    contenders that do something smaller, for a comparison.
    """

    name: str
    what: str
    limit: str
    contenders: tuple[Contender, ...]
    answer_columns: tuple[int, ...]
    targets: dict[str, Target] = field(default_factory=dict[str, Target])
    unlike: frozenset[str] = frozenset()


@contextlib.contextmanager
def _as_it_is() -> Generator[dict[str, str]]:
    yield {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}


def _alone(name: str, program: str, *arguments: str, python: Path | str = "") -> Contender:
    """A program of ours that knows nothing of batchpoint; `{output}` stands for the folder."""

    def command(output: Path) -> list[str]:
        filled = [str(output) if word == "{output}" else word for word in arguments]
        return [str(python or places.PYTHON), str(places.HERE / program), *filled]

    return Contender(name, command, _as_it_is)


def _batchpoint(
    name: str,
    endpoint: str,
    data: Path,
    home: homes.Home,
    *flags: str,
) -> Contender:
    def command(output: Path) -> list[str]:
        where = ["--input", str(data), "--output-path", str(output / "score")]
        return [homes.BATCHPOINT, "invoke", endpoint, *where, "--wait", *flags]

    surroundings = {
        WARM: functools.partial(home.warm, endpoint, data),
        SERVED: functools.partial(home.served, endpoint, data),
    }.get(name, functools.partial(home.cold, endpoint))
    return Contender(name, command, surroundings, home.folder)


def _tabular(
    name: str, what: str, home: homes.Home, ratio_max: float, *, pool: bool = False
) -> Workload:
    data = places.DATA / name
    where = (str(places.TABULAR_MODEL), str(data), "{output}")
    cores = str(places.cores())
    contenders = [
        _alone(LIMIT, "tabular/tabular_limit.py", "pyfunc", *where, cores),
        _batchpoint(COLD, "tabular", data, home),
        _alone(RAW, "tabular/tabular_limit.py", "raw", *where, cores),
        _alone(PLAIN, "tabular/tabular_plain.py", *where),
    ]
    if pool:
        contenders.append(_alone(POOL, "tabular/tabular_pool.py", *where, cores))
    targets = {COLD: Target(ratio_max=ratio_max)}
    return Workload(name, what, LIMIT, tuple(contenders), (0, 1, 2), targets)


def _one(home: homes.Home) -> Workload:
    data = places.DATA / "one"
    where = (str(places.TABULAR_MODEL), str(data), "{output}")
    contenders = (
        _alone(PLAIN, "tabular/tabular_plain.py", *where),
        _batchpoint(COLD, "tabular", data, home),
        _batchpoint(WARM, "tabular", data, home),
        _batchpoint(SERVED, "tabular", data, home),
        _alone(LIMIT, "tabular/tabular_limit.py", "pyfunc", *where, "1"),
        _alone(RAW, "tabular/tabular_limit.py", "raw", *where, "1"),
    )
    targets = {
        COLD: Target(ratio_max=1.2),
        WARM: Target(seconds_max=1.0),
        SERVED: Target(seconds_max=0.5),
    }
    return Workload("one", "one CSV of 50 rows", PLAIN, contenders, (0, 1, 2), targets)


def _images(home: homes.Home, count: int) -> Workload:
    data = places.DATA / "W2"
    where = (str(places.IMAGES_MODEL), str(data), "{output}", str(places.cores()))
    python = places.IMAGES_PYTHON
    contenders = (
        _alone(LIMIT, "images/images_alone.py", "limit", *where, python=python),
        _batchpoint(COLD, "images", data, home),
        _alone(PLAIN, "images/images_alone.py", "plain", *where, python=python),
    )
    targets = {COLD: Target(ratio_max=1.1)}
    return Workload("W2", f"{count:,} JPEG images", LIMIT, contenders, (0, 1), targets)


def _overhead(home: homes.Home) -> Workload:
    data = places.DATA / "W3"
    where = (str(data), "{output}", str(places.cores()), str(OVERHEAD_MINI_BATCH_SIZE))
    contenders = (
        _alone(POOL, "overhead/overhead_pool.py", "pool", *where),
        _batchpoint(COLD, "overhead", data, home),
        _batchpoint(SINGLE, "overhead", data, home, "--mini-batch-size", "1"),
        _batchpoint(EMPTY, "overhead", data / "t00000.txt", home),
        _alone(LIMIT, "overhead/overhead_pool.py", "limit", *where),
    )
    targets = {COLD: Target(ratio_max=5)}
    what = "20,000 files, run() does nothing"
    return Workload("W3", what, POOL, contenders, (-1,), targets, frozenset({EMPTY}))


def all_workloads(images: int) -> dict[str, Workload]:
    """Every workload by name; W2 with so many images."""
    home = homes.Home(places.WORK / "home")
    workloads = (
        _tabular("W1a", "200 CSV of 10,000 rows", home, 1.1, pool=True),
        _tabular("W1b", "one CSV of 2,000,000 rows", home, 1.1),
        _tabular("W1c", "2,000 CSV of 50 rows", home, 1.5, pool=True),
        _tabular("W1d", "200 Parquet of 10,000 rows", home, 1.1),
        _images(home, images),
        _overhead(home),
        _one(home),
    )
    return {workload.name: workload for workload in workloads}
