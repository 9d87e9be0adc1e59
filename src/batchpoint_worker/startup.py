"""Brings a worker process into shape before its first order, and takes it down after its last."""

from __future__ import annotations

import sys
from typing import Tuple

from batchpoint_worker import lifeline, surroundings
from batchpoint_worker.forking import ForkingWorker
from batchpoint_worker.loop import Pipes, Worker
from batchpoint_worker.pipes import SELF, moved_away


def serve(descriptors: Tuple[int, int, int, int], control: int) -> int:
    """Follow the agent's orders until the last; returns the exit status.

    Args:
        descriptors: read, write, status and lifeline (-1: none), as protocol.py describes them.
        control: the socket on which file descriptors for forks come, or -1.
    """
    lifeline.lead_group()
    pipes = Pipes(*[moved_away(fd) for fd in descriptors])
    control = moved_away(control)
    SELF.hold((*pipes, control))
    surroundings.set_streams()
    may_fork = control >= 0 and sys.platform.startswith("linux")
    # A thread would make the process unfit for forking: it comes when that is decided.
    lifeline.guard(pipes.read, pipes.lifeline, thread=not may_fork)
    worker = ForkingWorker(pipes, control) if may_fork else Worker(pipes)
    return worker.serve()
