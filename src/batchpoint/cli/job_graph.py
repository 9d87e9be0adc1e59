"""Draws the graph of a pipeline job: a line for each step, with rails from what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from batchpoint.cli.text_tables import between, cut, one_line, width_of
from batchpoint.domain.job import Job, JobState
from batchpoint.domain.job_spec import NodeSpec

_FOLDED_FROM_STEPS = 50
_FOLDED_ROWS_MIN = 4
_LANES_MAX = 8
_NAME_WIDTH_MAX = 32
_COMPUTE_WIDTH_MAX = 16
_WORD_WIDTH = 11
_TOOK_WIDTH = 7
_FOLD = "⋮"


class Look(NamedTuple):
    """How a state looks: a sign, a word, a colour of ANSI terminals."""

    sign: str
    word: str
    colour: str


_LOOKS = {
    JobState.QUEUED: Look("○", "waiting", "2"),
    JobState.PREPARING: Look("●", "preparing", "36"),
    JobState.RUNNING: Look("●", "running", "36"),
    JobState.FINALIZING: Look("●", "finishing", "36"),
    JobState.CANCEL_REQUESTED: Look("●", "canceling", "33"),
    JobState.COMPLETED: Look("✓", "completed", "32"),
    JobState.FAILED: Look("✗", "failed", "31"),
    JobState.CANCELED: Look("⊘", "canceled", "33"),
}
_REUSED = Look("↺", "reused", "32")
_NOT_RUN = Look("⊘", "not run", "2")
_QUIET = ("completed", "reused", "waiting", "not run")


def look_of(step: Job) -> Look:
    """Tell how what became of a step looks."""
    status = step.status
    if status.state is JobState.COMPLETED and status.reused_from is not None:
        return _REUSED
    if status.error is not None and status.error.code == "step_not_run":
        return _NOT_RUN
    return _LOOKS[status.state]


def step_name(step: Job) -> str:
    """Give the name of a step in its pipeline."""
    return step.spec.step.name if step.spec.step is not None else step.name


def draw_graph(
    steps: Sequence[Job], width: int, now: datetime, *, colour: bool = False
) -> list[str]:
    """Draw the steps of a pipeline, `width` columns wide, in an order in which they can run.

    A step stands below those that it needs: a rail leads to each of them, unless there are too many
    for that; their names stand at the end of the line, too. Of many steps, runs of those that
    nothing has happened to, or nothing but success, are folded into one line.
    """
    jobs = {step_name(step): step for step in steps}
    needs = {
        name: [n for n in (job.spec.step.needs if job.spec.step else ()) if n in jobs]
        for name, job in jobs.items()
    }
    order = _ordered(needs)
    rows = list(_rows(order, needs))
    gutter = max([len(row.rail) for row in rows], default=0)
    if gutter > 2 * _LANES_MAX:
        rows = [_Row(name, "@" if name else "") for name in order]
        gutter = 1
    indented = [name for name in order if "/" in name]
    longest = max([width_of(_shown(name)) for name in order], default=0) + 2 * bool(indented)
    sizes = _Sizes(gutter, min(longest, _NAME_WIDTH_MAX), _compute_width(steps))
    lines: list[str] = []
    group = ""
    for row in _folded(rows, jobs):
        if row.name is None:
            lines.append(f"  {row.rail}".rstrip())
            continue
        above = row.name.rpartition("/")[0]
        if above != group and above:
            before = "".join("│" if char in "│├┼" else " " for char in row.rail.ljust(gutter))
            lines.append(f"  {before}  {cut(above, max(width - gutter - 4, 8))}/".rstrip())
        group = above
        lines.append(_line(row, jobs[row.name], needs[row.name], sizes, width, now, colour=colour))
    return lines


class _Row(NamedTuple):
    """A line of the drawing: a step (None: only rails or a fold), and what stands before it."""

    name: str | None
    rail: str


class _Sizes(NamedTuple):
    gutter: int
    name: int
    compute: int


def _ordered(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Order steps so that each stands below what it needs, else as they come."""
    order: list[str] = []
    placed: set[str] = set()
    left = dict.fromkeys(needs)
    while left:
        ready = next((name for name in left if placed.issuperset(needs[name])), next(iter(left)))
        del left[ready]
        placed.add(ready)
        order.append(ready)
    return order


def _rows(order: Sequence[str], needs: Mapping[str, Sequence[str]]) -> Iterator[_Row]:
    """Give each step its lane: one that ends in it, or the first that is free."""
    waiting = {name: sum(name in needs[other] for other in order) for name in order}
    lanes: list[str | None] = []
    before = -1
    for name in order:
        joined = [index for index, lane in enumerate(lanes) if lane in needs[name]]
        for index in joined:
            waiting[lanes[index] or ""] -= 1
        ending = [index for index in joined if not waiting[lanes[index] or ""]]
        own = ending[0] if ending else _free(lanes)
        if own == before and not joined:
            yield _Row(None, _rail(lanes, [], [], None))  # else it would look as if it followed
        if own == len(lanes):
            lanes.append(None)
        yield _Row(name, _rail(lanes, joined, ending, own))
        for index in ending:
            lanes[index] = None
        lanes[own] = name if waiting[name] else None
        before = own
        while lanes and lanes[-1] is None:
            lanes.pop()


def _free(lanes: Sequence[str | None]) -> int:
    return next((index for index, lane in enumerate(lanes) if lane is None), len(lanes))


def _rail(
    lanes: Sequence[str | None], joined: Sequence[int], ending: Sequence[int], own: int | None
) -> str:
    """Draw the lanes beside a step (`@` is its own place) with what leads into it."""
    touched = [*joined, *([own] if own is not None else [])]
    first, last = (min(touched), max(touched)) if joined else (0, -1)
    drawn: list[str] = []
    for index, lane in enumerate(lanes):
        inside = first < index < last
        if index == own:
            drawn.append("@")
        elif index in joined:
            ends = index in ending
            left = "└" if ends else "├"
            right = "┘" if ends else "┤"
            middle = "┴" if ends else "┼"
            drawn.append(middle if inside else left if index == first else right)
        elif lane is not None:
            drawn.append("┼" if inside else "│")
        else:
            drawn.append("─" if inside else " ")
        drawn.append("─" if first <= index < last else " ")
    return "".join(drawn).rstrip()


def _folded(rows: Sequence[_Row], jobs: Mapping[str, Job]) -> Iterator[_Row]:
    """Fold runs of steps of which there is nothing to say, where there are many steps."""
    if len(jobs) < _FOLDED_FROM_STEPS:
        yield from rows
        return
    run: list[_Row] = []
    for row in rows:
        word = look_of(jobs[row.name]).word if row.name is not None else None
        known = next((look_of(jobs[r.name]).word for r in run if r.name is not None), word)
        if word is None or (word in _QUIET and word == known):
            run.append(row)
            continue
        yield from _one_fold(run, jobs)
        run = [row] if word in _QUIET else []
        if not run:
            yield row
    yield from _one_fold(run, jobs)


def _one_fold(run: Sequence[_Row], jobs: Mapping[str, Job]) -> Iterator[_Row]:
    steps = [row for row in run if row.name is not None]
    if len(steps) < _FOLDED_ROWS_MIN:
        yield from run
        return
    word = look_of(jobs[steps[1].name or ""]).word
    yield steps[0]
    yield _Row(None, f"{_FOLD} {len(steps) - 2:,} more {word}")
    yield steps[-1]


def _compute_width(steps: Sequence[Job]) -> int:
    named = [width_of(s.spec.compute) for s in steps if isinstance(s.spec, NodeSpec)]
    return min(max(named, default=0), _COMPUTE_WIDTH_MAX)


def _shown(name: str) -> str:
    return name.rpartition("/")[2]


def _line(
    row: _Row,
    job: Job,
    needs: Sequence[str],
    sizes: _Sizes,
    width: int,
    now: datetime,
    *,
    colour: bool,
) -> str:
    look, status = look_of(job), job.status
    name = ("  " if "/" in (row.name or "") else "") + _shown(row.name or "")
    took = between(status.started_at, status.ended_at or now)
    compute = job.spec.compute if isinstance(job.spec, NodeSpec) else ""
    cells = [
        _padded(name, sizes.name),
        _padded(look.word, _WORD_WIDTH),
        " " * (_TOOK_WIDTH - width_of(took)) + took,
        _padded(compute, sizes.compute),
    ]
    start = f"  {row.rail.ljust(sizes.gutter)}  "
    text = "  ".join(cells)
    room = width - len(start) - width_of(text) - 2
    note = _note(job, needs)
    if note and room > _WORD_WIDTH:
        text += f"  {cut(note, room)}"
    text = cut(text.rstrip(), max(width - len(start), 20))
    if not colour:
        return (start.replace("@", look.sign) + text).rstrip()
    text = text.replace(look.word, _painted(look.word, look.colour), 1)
    return (start.replace("@", _painted(look.sign, look.colour)) + text).rstrip()


def _note(job: Job, needs: Sequence[str]) -> str:
    """Say what stands at the end of a line: why, from where, after what."""
    status = job.status
    parts: list[str] = []
    if status.reused_from is not None:
        parts.append(f"from {status.reused_from}")
    if status.error is not None and status.state is JobState.FAILED:
        parts.append(one_line(status.error.type or status.error.code))
    if needs:
        parts.append(f"← {', '.join(needs)}")
    return "  ".join(parts)


def _padded(text: str, size: int) -> str:
    short = cut(text, size)
    return short + " " * (size - width_of(short))


def _painted(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"
