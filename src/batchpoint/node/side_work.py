"""Work of a node beside scoring: cutting big files into slices, and assembling the output."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from batchpoint.domain.errors import Invalid
from batchpoint.domain.minibatch import Slice
from batchpoint.node.wire import NodeOrder


class SideWork:
    """Index and assemble for one job, in threads of its own."""

    def __init__(self, order: NodeOrder, scratch: Path) -> None:
        self._order = order
        self._scratch = scratch
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="side")

    async def index(self, whole: Slice, target_bytes: int) -> list[Slice]:
        """Cut an item into slices."""
        raise Invalid("index")

    async def assemble(self, request: dict[str, Any]) -> dict[str, Any]:
        """Assemble."""
        raise Invalid("assemble")

    async def close(self) -> None:
        """Stop."""
        await asyncio.sleep(0)
        self._threads.shutdown(wait=False)
