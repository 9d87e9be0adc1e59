"""What a runner asks of an engine: nodes, work on them, and the bytes' last journey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from batchpoint.core.messages import Assignment, NodeLost, NodeReady, Reported, WorkerFailed
from batchpoint.domain.minibatch import MiniBatch, Slice
from batchpoint.node.command_order import CommandEnd, CommandOrder, Heard, heard_by_nobody
from batchpoint.node.output_request import AssembledOutput, AssembleRequest
from batchpoint.node.wire import Heartbeat

EngineEvent = NodeReady | NodeLost | Reported | WorkerFailed | Heartbeat


class Engine(Protocol):
    """Provides nodes for one job. Losing a node is an event, never an exception."""

    def events(self) -> AsyncIterator[EngineEvent]:
        """Yield what nodes tell, until `close`."""
        ...

    async def provision(self, count: int) -> None:
        """Have `count` nodes in all; each announces itself by `NodeReady`."""
        ...

    async def assign(self, node: str, assignments: Sequence[tuple[MiniBatch, Assignment]]) -> None:
        """Hand tasks to a node; to a node that is gone it does nothing (`NodeLost` comes)."""
        ...

    async def retime(self, timeout_seconds: float) -> None:
        """Bound every `run` handed out with a longer timeout by this one."""
        ...

    async def abort(self) -> None:
        """Stop all user code of the job now; returns when none runs any more."""
        ...

    async def index(self, whole: Slice, target_bytes: int) -> list[Slice]:
        """Cut a big item into slices of about `target_bytes` on record boundaries."""
        ...

    async def assemble(self, request: AssembleRequest) -> AssembledOutput:
        """Write and publish the output of the job where the bytes are.

        Raises:
            BatchpointError: what the assembly raised (`output_exists`, `storage_full`, ...).
        """
        ...

    async def withdraw(self, request: AssembleRequest) -> None:
        """Remove what is left of an output that will not be completed.

        Raises:
            BatchpointError: it could not be removed (`storage_unavailable`, `storage_denied`).
        """
        ...

    async def close(self) -> None:
        """Give all nodes back; idempotent."""
        ...


class CommandEngine(Protocol):
    """Runs the commands of one pipeline on nodes; the pipeline decides how many at a time.

    Nodes are kept between commands, and given back when nobody needs them or with `close`.
    """

    async def run(self, order: CommandOrder, heard: Heard = heard_by_nobody) -> CommandEnd:
        """Run one attempt on a node of its compute, waiting for a node as long as it takes.

        `heard` is told how far it is, on the caller's event loop. Cancelling the caller stops the
        command, and returns when nothing of it runs any more.

        Raises:
            Unavailable: the node was lost with the command (`node_lost`), no node can be had, or
                the order is of a runner that was replaced (`lease_lost`).
        """
        ...

    async def close(self) -> None:
        """Stop what runs and give all nodes back; idempotent."""
        ...
