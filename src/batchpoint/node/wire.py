"""What a job's runner and its node agents say to each other: length-prefixed JSON on a socket.

A message is `u32 length (little endian) | JSON object (UTF-8)` and has an `op`.

Runner -> agent
    open      {id, order}                  answered; then `ready` when the first worker has loaded
    assign    {work: [[mini_batch, segment, segment start, segment stop, task start, task stop,
              row_start, row_stop, attempt, timeout_seconds]..]}
    retime    {timeout_seconds}            bounds every `run` given out with a longer timeout
    index     {id, slice, target_bytes}    answered with slices
    assemble  {id, request}                answered with what the assembly gave
    abort     {id}                         answered when no user code of the job runs any more
    close     {id}                         answered; loaded workers stay warm
    run_command  {id, order}               answered with how it ended, when nothing of it runs
    stop_command {id, job}                 answered at once; `run_command` tells when it has ended
Agent -> runner
    ready     {slots} · reported {part, results} · worker_failed {error}
    heartbeat {phase, workers, rows, items, warning}
    answer    {id, value} or {id, error: {code, message}}
A second runner gets an error (`unavailable`) to whatever it asks while another one is served.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from batchpoint.core.messages import Assignment, AttemptError, Outcome, TaskResult
from batchpoint.domain import limits
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.domain.minibatch import MiniBatch, Slice, Task

Message = dict[str, Any]
Phase = Literal["environment", "model", "scoring", "waiting"]

_LENGTH = struct.Struct("<I")
_OUTCOMES: tuple[Outcome, ...] = ("scored", "failed", "crashed", "timed_out", "lost")
_OUTCOME_CODES = {outcome: code for code, outcome in enumerate(_OUTCOMES)}


@dataclass(frozen=True, slots=True)
class NodeOrder:
    """What a node must know of a job before it can take work.

    `job_dir` is the job's folder, `epoch` the runner's lease epoch, `slots` how many workers run on
    the node. `threads`: what numeric libraries may use per worker; 0 derives it from the cores of
    this machine and all workers of the job, as if every node of the job ran here. `access` holds
    secrets: it goes over the agent's private socket and is never written anywhere.
    """

    job: str
    job_dir: Path
    spec: ScoreSpec
    epoch: int
    node: str
    slots: int
    threads: int = 0
    access: StorageAccess = field(default_factory=StorageAccess, repr=False)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A node's own counts for display; nothing is decided by them.

    `rows` and `items` count what was scored but not yet reported; `workers` are loaded workers;
    `warning` is a sentence for people ("disk full at ..."), or empty.
    """

    node: str
    phase: Phase
    workers: int
    rows: int
    items: int
    warning: str = ""


def encode(message: Message) -> bytes:
    """Return the bytes of one message."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return _LENGTH.pack(len(body)) + body


class MessageBuffer:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take what was read and return the messages that are complete now.

        Raises:
            Unavailable: the other side does not speak this protocol.
        """
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > limits.PROTOCOL_HEADER_BYTES_MAX:
                raise Unavailable(
                    f"a message of {length} bytes is over the limit of "
                    f"{limits.PROTOCOL_HEADER_BYTES_MAX}: the other side is no node agent"
                )
            end = at + _LENGTH.size + length
            if len(buffer) < end:
                break
            messages.append(_parsed(bytes(buffer[at + _LENGTH.size : end])))
            at = end
        if at:
            del buffer[:at]
        return messages


def _parsed(body: bytes) -> Message:
    try:
        message: object = json.loads(body)
    except ValueError as error:
        raise Unavailable(f"a message is not JSON: {error}") from error
    if not isinstance(message, dict) or "op" not in message:
        raise Unavailable("a message is no object with an op: the other side is no node agent")
    return cast("Message", message)


# --- nouns as JSON ----------------------------------------------------------------------------


def order_to_json(order: NodeOrder) -> Message:
    """Return the order as a JSON object."""
    return {
        "job": order.job,
        "job_dir": str(order.job_dir),
        "spec": order.spec.model_dump(mode="json"),
        "epoch": order.epoch,
        "node": order.node,
        "slots": order.slots,
        "threads": order.threads,
        "access": access_to_json(order.access),
    }


def order_from_json(value: Message) -> NodeOrder:
    """Read back what `order_to_json` gave."""
    return NodeOrder(
        job=value["job"],
        job_dir=Path(value["job_dir"]),
        spec=ScoreSpec.model_validate(value["spec"]),
        epoch=value["epoch"],
        node=value["node"],
        slots=value["slots"],
        threads=value["threads"],
        access=StorageAccess.model_validate(value["access"]),
    )


def access_to_json(access: StorageAccess) -> Message:
    """Return what opens data, credentials in clear: only for the agent's private socket."""
    return {
        "ambient": access.ambient,
        "datastores": [
            {
                "datastore": each.datastore.model_dump(mode="json"),
                "credentials": each.credentials and each.credentials.revealed(),
            }
            for each in access.datastores
        ],
    }


def work_to_json(work: Sequence[tuple[MiniBatch, Assignment]]) -> list[list[float]]:
    """Return assignments with the numbers of their mini-batches as flat lists."""
    return [
        [
            batch.number,
            batch.segment,
            batch.start,
            batch.stop,
            given.task.start,
            given.task.stop,
            given.task.row_start,
            given.task.row_stop,
            given.attempt,
            given.timeout_seconds,
        ]
        for batch, given in work
    ]


def work_from_json(value: Sequence[Sequence[Any]]) -> list[tuple[MiniBatch, Assignment]]:
    """Read back what `work_to_json` gave."""
    return [
        (
            MiniBatch(index, segment, seg_start, seg_stop),
            Assignment(Task(index, start, stop, row_start, row_stop), attempt, timeout_seconds),
        )
        for (
            index,
            segment,
            seg_start,
            seg_stop,
            start,
            stop,
            row_start,
            row_stop,
            attempt,
            timeout_seconds,
        ) in value
    ]


def _ordinals_to_json(items: tuple[int, ...]) -> list[Any]:
    """Return ordinals as a list; a long unbroken run of them as [[first, last]]."""
    if len(items) > 2 and items[-1] - items[0] + 1 == len(items) and items == tuple(sorted(items)):
        return [[items[0], items[-1]]]
    return list(items)


def _ordinals_from_json(value: list[Any]) -> tuple[int, ...]:
    if len(value) == 1 and isinstance(value[0], list):
        first, last = cast("list[int]", value[0])
        return tuple(range(first, last + 1))
    return tuple(value)


def results_to_json(results: Sequence[TaskResult]) -> list[list[Any]]:
    """Return results as flat lists."""
    return [
        [
            *r.task,
            r.attempt,
            _OUTCOME_CODES[r.outcome],
            round(r.seconds, 6),
            r.frame,
            r.rows,
            r.failed_rows,
            _ordinals_to_json(r.items),
            _ordinals_to_json(r.failed_items),
            r.unattributed,
            r.slice_rows,
            None if r.error is None else list(r.error),
        ]
        for r in results
    ]


def results_from_json(value: Sequence[Sequence[Any]]) -> tuple[TaskResult, ...]:
    """Read back what `results_to_json` gave."""
    return tuple(
        TaskResult(
            task=Task(*r[:5]),
            attempt=r[5],
            outcome=_OUTCOMES[r[6]],
            seconds=r[7],
            frame=r[8],
            rows=r[9],
            failed_rows=r[10],
            items=_ordinals_from_json(r[11]),
            failed_items=_ordinals_from_json(r[12]),
            unattributed=r[13],
            slice_rows=r[14],
            error=None if r[15] is None else AttemptError(*r[15]),
        )
        for r in value
    )


def slices_to_json(slices: Sequence[Slice]) -> list[list[Any]]:
    """Return slices as flat lists."""
    return [list(one) for one in slices]


def slices_from_json(value: Sequence[Sequence[Any]]) -> list[Slice]:
    """Read back what `slices_to_json` gave."""
    return [Slice(*one) for one in value]
