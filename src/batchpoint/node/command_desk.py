"""The commands of a node: one at a time, none of them outliving its runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from batchpoint.domain.errors import Conflict
from batchpoint.node.command_order import CommandBeat, CommandEnd, CommandOrder, Heard
from batchpoint.node.command_process import CommandProcess
from batchpoint.node.command_run import CommandRun


class CommandDesk:
    """Runs the commands that the runner orders; used on the agent's event loop."""

    def __init__(self, node: str, spared: Callable[[], Collection[int]]) -> None:
        """`spared` tells which children of this process are no leftovers of a command."""
        self._node = node
        self._process = CommandProcess(spared)
        self._command: CommandRun | None = None
        self._over = asyncio.Event()
        self._over.set()
        self._ending: asyncio.Task[None] | None = None

    async def free(self) -> None:
        """Wait until the command of a runner that has gone has ended.

        Raises: Conflict: a command runs here.
        """
        while self._ending is not None:
            await self._ending
        if self._command is not None:
            raise Conflict(f"node {self._node} runs the command of {self._command.order.job}")

    @property
    def beat(self) -> CommandBeat | None:
        """How far the command is that runs now."""
        return self._command.beat if self._command is not None else None

    async def run(self, order: CommandOrder, heard: Heard) -> CommandEnd:
        """Run a command to its end; it ends early by `stop` and `end`.

        `heard` is told how far it is when that changes.

        Raises:
            Conflict: another command runs here.
            Unavailable: as `CommandRun.run`.
        """
        await self.free()
        command = self._command = CommandRun(order, self._process, heard)
        self._over.clear()
        try:
            return await command.run()
        finally:
            self._command = None
            self._over.set()

    def stop(self, job: str) -> None:
        """Have the command of a job end, if it runs; `run` tells when it has."""
        if self._command is not None and self._command.order.job == job:
            self._command.stop()

    def kill(self) -> None:
        """Kill whatever runs, now."""
        self._process.kill()

    def sample_memory(self) -> None:
        """Look whether the kernel runs out of memory; call it twice a second or so."""
        if self._command is not None:
            self._command.sample_memory()

    def end(self) -> asyncio.Task[None]:
        """Kill what runs; the task ends when nothing is left of it, and no other begins before."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
        return self._ending

    async def _end(self) -> None:
        try:
            if self._command is not None:
                self._command.stop()
                self._process.kill()
            await self._over.wait()
            await self._process.close()
        finally:
            self._ending = None
