"""Puts together what scores one mini-batch of a job again, here and now, outside of any job."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from batchpoint.core.messages import Assignment
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.job import Job
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.minibatch import MiniBatch, Task
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.manifest import Segment, read_segment
from batchpoint.formats.step_arguments import read_arguments
from batchpoint.node.remote_files import remote_files
from batchpoint.node.staging import Staging, staged_names
from batchpoint.node.step_files import StepFiles
from batchpoint.node.ticket import Ticket
from batchpoint.node.wire import NodeOrder
from batchpoint.node.worker_launch import Launch
from batchpoint.node.worker_process import WORKER_MAIN
from batchpoint.storage.locate import is_local


class Item(NamedTuple):
    """An item of a job, told by its ordinal or by its name (`_file`); `row` is one of its rows."""

    ordinal: int | None
    name: str
    row: int | None = None


class Reproduction(NamedTuple):
    """A command that scores one mini-batch: run it in `folder` with these variables, and no other.

    `names` are the files of the mini-batch.
    """

    command: list[str]
    environment: dict[str, str]
    folder: Path
    mini_batch: int
    names: list[str]


def prepared_for(
    job: Job,
    folder: JobFolder,
    item: Item,
    scratch: Path,
    access: StorageAccess,
    *,
    alone: bool,
    debugger: bool,
) -> Reproduction:
    """Prepare to score the mini-batch that holds an item under the job's own circumstances.

    Args:
        job: the job, whose environment has to be there.
        folder: where the job's plan lies.
        item: which item.
        scratch: an empty folder; data that lies elsewhere is brought there.
        access: opens the job's input.
        alone: only this item instead of its whole mini-batch.
        debugger: open Python's debugger where user code raises.

    Raises:
        NotFound: the plan is not there, or holds no such item (`input_not_found` family).
        Invalid: the data is gone (`input_unreadable`) or has changed (`input_changed`).
        Unavailable: a store does not answer, or the plan cannot be read.
        OSError: the scratch folder cannot be written.
    """
    place = _find(folder, item, alone=alone)
    slots = job.scoring.settings.max_concurrency_per_instance
    order = NodeOrder(job.name, folder.root, job.scoring, 0, "repro", slots, access=access)
    output, work = scratch / "output", scratch / "work"
    for made in (output, work):
        made.mkdir()
    launch = Launch(_of_step(job, order, scratch), scratch)
    ticket = _staged(order, place, scratch)
    load = launch.load(output, output)
    # What the rows would be in a Parquet file, people read as text.
    load["render"] = {"arrow": "csv"}.get(load["render"], load["render"])
    told = scratch / "order.json"
    told.write_text(json.dumps({"load": load, "task": ticket.order()}))
    return Reproduction(
        [*launch.command, str(WORKER_MAIN), "--repro", str(told), *["--debugger"] * debugger],
        launch.process_environment(output),
        work,
        place.mini_batch.number,
        [one.name for one in ticket.slices],
    )


def data_of(job: Job, folder: JobFolder) -> tuple[str, ...]:
    """Return the URIs of all that has to be opened to score something of a job again.

    Raises: Unavailable: what the job has noted of its inputs cannot be read.
    """
    noted = read_arguments(folder.arguments)
    given = () if noted is None else noted.inputs.values()
    beside = (each for each in given if isinstance(each, JobInput))
    return (*job.scoring.input.sources, *(uri for each in beside for uri in each.sources))


def _of_step(job: Job, order: NodeOrder, scratch: Path) -> NodeOrder:
    """Have a step's other inputs here again, and new folders for what its script writes."""
    noted = read_arguments(JobFolder(order.job_dir).arguments)
    if noted is None:
        return order
    folder = JobFolder(scratch / "step")
    folder.make()
    StepFiles(job, noted.inputs, folder, order.access).arrange()
    return replace(order, job_dir=folder.root)


class _Place(NamedTuple):
    """A mini-batch, and the slices of it that are wanted (counted from its beginning)."""

    mini_batch: MiniBatch
    start: int
    stop: int


def _find(folder: JobFolder, item: Item, *, alone: bool) -> _Place:
    """Look an item up in the plan, as far as there is one."""
    for index, segment in enumerate(_segments(folder)):
        slices = _slices_of(segment, item)
        if not slices:
            continue
        first = slices[0]
        number = bisect_right(segment.cuts, first) - 1
        bounds = (*segment.cuts, len(segment))
        start, stop = bounds[number], bounds[number + 1]
        mini_batch = MiniBatch(segment.first + number, index, start, stop)
        if not alone:
            return _Place(mini_batch, 0, stop - start)
        last = min(slices[-1] + 1, stop)
        return _Place(mini_batch, first - start, last - start)
    told = f"item {item.ordinal}" if item.ordinal is not None else repr(item.name)
    raise NotFound(
        f"the plan of the job holds no {told}; `batchpoint job failed-items` names those that "
        "failed, -o json with their numbers",
        code="input_not_found",
        where="--item",
    )


def _segments(folder: JobFolder) -> Iterator[Segment]:
    for index in count():
        path = folder.segment(index)
        if not path.exists():
            return
        yield read_segment(path)


def _slices_of(segment: Segment, item: Item) -> list[int]:
    """Return the slices of an item in a segment; with a row, the one that holds it."""
    if item.ordinal is not None:
        found = [i for i, ordinal in enumerate(segment.items) if ordinal == item.ordinal]
    else:
        found = [i for i, one in enumerate(segment.slices()) if one.name == item.name]
    if item.row is None or len(found) <= 1:
        return found
    slices = segment.slices(found[0], found[-1] + 1)
    before = [i for i, one in zip(found, slices, strict=True) if one.row <= item.row]
    return before[-1:]


def _staged(order: NodeOrder, place: _Place, scratch: Path) -> Ticket:
    """Bring the data of the slices to files, as a node does."""
    staging = Staging(JobFolder(order.job_dir), scratch, script=order.spec.code is not None)
    task = Task(place.mini_batch.number, place.start, place.stop)
    assignment = Assignment(task, 1, 0.0)
    slices = staging.slices(place.mini_batch, assignment)
    ticket = Ticket(1, place.mini_batch, assignment, slices)
    if all(is_local(one.uri) for one in slices):
        if not staging.at_hand(ticket):
            staging.make(ticket)
        staging.check_unchanged(ticket)
        return ticket
    remote = remote_files(order, scratch)
    folder = scratch / "staged"
    for number, (one, name) in enumerate(zip(slices, staged_names(slices), strict=True)):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = remote.bring(one, target)
        ticket.paths.append(str(target))
        if part is not None:
            ticket.parts[number] = part
    return ticket


def item_of(text: str) -> Item:
    """Read `--item`: the number of an item, or its name.

    Raises: Invalid when it is empty.
    """
    if not text:
        raise Invalid("needs the number or the name of an item", where="--item")
    return Item(int(text), "") if text.isascii() and text.isdigit() else Item(None, text)
