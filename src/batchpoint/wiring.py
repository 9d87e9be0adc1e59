"""The only place where concrete classes meet: the app, the supervisor, a runner, an agent."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchpoint.clock import SystemClock
from batchpoint.settings import Settings

if TYPE_CHECKING:  # FastAPI is slow to import and only the app needs it
    from fastapi import FastAPI

_OTHER_SUPERVISOR_SECONDS_MAX = 10.0


def ledger_path(home: Path) -> Path:
    """Return where the ledger of a home lies."""
    return home / "batchpoint.db"


def run_supervisor(settings: Settings, *, exit_when_idle: bool) -> bool:
    """Be the supervisor of `settings.home` until the end; False when there is another one."""
    from batchpoint.engines.zygote import Zygote
    from batchpoint.ledger.ledger import Ledger
    from batchpoint.runner.supervisor import Supervisor, SupervisorOptions, take_lock
    from batchpoint.runner.supervisor_link import SupervisorLink, runtime_dir

    home = settings.home
    give_up = time.monotonic() + _OTHER_SUPERVISOR_SECONDS_MAX
    link = SupervisorLink(home)

    def another_is_leaving() -> bool:
        if link.ask("poke") is not None or time.monotonic() > give_up:
            return False
        time.sleep(0.02)
        return True

    lock = take_lock(home, wait=another_is_leaving)
    if lock is None:
        return False
    # Everything that runners and agents need is imported before the zygote is forked.
    zygote = Zygote.start({"runner": _be_runner, "agent": _be_agent})
    options = SupervisorOptions(
        home=home, runtime_dir=runtime_dir(home), exit_when_idle=exit_when_idle
    )

    async def supervise() -> None:
        supervisor = Supervisor(options, Ledger(ledger_path(home)), zygote, SystemClock())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        await supervisor.run()

    asyncio.run(supervise())
    os.close(lock)
    return True
