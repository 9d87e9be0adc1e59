"""The supervisor: adopts jobs that nobody runs, and owns the nodes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from batchpoint.clock import Clock
from batchpoint.domain import limits
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import TERMINAL_STATES, Job, Progress
from batchpoint.domain.job_spec import PipelineSpec
from batchpoint.engines.local_nodes import LeaseRequest, NodePool
from batchpoint.engines.zygote import Child, Zygote
from batchpoint.formats.layout import job_folder
from batchpoint.ledger.ledger import Ledger
from batchpoint.runner.giving_up import give_up
from batchpoint.runner.node_lease import NodeLease
from batchpoint.runner.notify import Courier
from batchpoint.runner.supervisor_link import SOCKET, record_address
from batchpoint.runner.tidying import tidy, tidy_all

_log = structlog.get_logger(__name__)
_TIDY_EVERY_SECONDS = 3600.0
_KILL_WEIGHT = 0.1
_CRASH_SECONDS = 0.1
_CRASH_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """How a supervisor behaves: where it lives, and when it ends by itself.

    `runners_max` jobs run at a time and `idle_nodes_max` nodes stay warm; further jobs are queued.
    """

    home: Path
    runtime_dir: Path
    exit_when_idle: bool
    poll_seconds: float = 0.5
    idle_exit_seconds: float = 2.0
    runners_max: int = 4
    idle_nodes_max: int = 4
    runner_crashes_max: int = 10
    # An idle supervisor stays for messages that are due so soon; later ones wait for another one.
    notices_seconds_max: float = 60.0


def take_lock(home: Path, *, wait: Callable[[], bool]) -> int | None:
    """Become the one supervisor of a home; returns the lock's descriptor, or None.

    `wait()` is asked between tries and says whether to try again (another supervisor may be on
    its way out). The lock ends with the process, however that ends.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait():
                continue
            os.close(lock)
            return None
        return lock


class Supervisor:
    """Adopts jobs by lease, starts a runner for each, and leases nodes to runners."""

    def __init__(
        self,
        options: SupervisorOptions,
        ledger: Ledger,
        zygote: Zygote,
        clock: Clock,
        courier: Courier | None = None,
    ) -> None:
        """Build from collaborators; `run` does the work. `courier` tells of the end of jobs."""
        self._options = options
        self._ledger = ledger
        self._zygote = zygote
        self._clock = clock
        self._courier = courier or Courier(ledger, clock)
        # However the home was spelled: whoever has its lock is the only one of this machine.
        self._owner_prefix = f"{socket.gethostname()}:{options.home.resolve()}:"
        self._owner = f"{self._owner_prefix}{os.getpid()}"
        self._runners: dict[str, Child] = {}
        self._lapsed: dict[str, float] = {}  # since when a job that has a runner could be adopted
        self._crashes: dict[str, tuple[float, int]] = {}
        self._socket = options.runtime_dir / SOCKET
        self._wake = asyncio.Event()
        self._end = asyncio.Event()
        self._connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._nodes = NodePool(
            zygote,
            options.runtime_dir,
            idle_max=options.idle_nodes_max,
            on_change=self._wake.set,
        )

    async def run(self) -> None:
        """Adopt and supervise until told to end, or until idle when so configured."""
        gone = self._zygote.attach()
        gone.add_done_callback(lambda _: self._end.set())
        # The lock says that every earlier supervisor of this home on this machine is dead.
        await asyncio.to_thread(self._ledger.lapse_leases, self._owner_prefix)
        self._go(self._tidy_regularly())
        self._go(self._courier.run())
        try:
            while True:
                await self._listen_until_idle()
                if self._end.is_set():
                    break
                # Nobody can reach us any more; whoever tried to has written a job's row before.
                await self._adopt()
                if not self._runners and not await self._work_left():
                    break
        finally:
            for task in self._tasks:
                task.cancel()
            for child in self._runners.values():
                child.kill()
            await self._nodes.close()
            self._zygote.close()
            with contextlib.suppress(OSError):
                self._options.runtime_dir.rmdir()
            _log.info("supervisor ended")

    def stop(self) -> None:
        """End soon (signal handler)."""
        self._end.set()
        self._wake.set()

    async def _listen_until_idle(self) -> None:
        path = self._socket
        while True:
            # Somebody may have cleaned up the folder for temporary files.
            self._options.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            try:
                server = await asyncio.start_unix_server(self._serve, str(path))
            except FileNotFoundError:
                continue  # the cleaning goes on: the folder went again since it was made
            record_address(self._options.home, path)
            _log.info("supervisor ready", home=str(self._options.home), pid=os.getpid())
            try:
                await self._adopt_until_end()
                if self._is_there() or self._end.is_set():
                    return
            finally:
                server.close()
                record_address(self._options.home, None)
                path.unlink(missing_ok=True)

    def _is_there(self) -> bool:
        return self._socket.exists()

    async def _adopt_until_end(self) -> None:
        """Adopt until the end, until idle, or until our socket has gone away."""
        loop = asyncio.get_running_loop()
        busy_at = loop.time()
        while not self._end.is_set() and self._is_there():
            self._wake.clear()
            await self._adopt()
            if self._runners or len(self._nodes) or self._connections:
                busy_at = loop.time()
            elif (
                self._options.exit_when_idle
                and loop.time() - busy_at > self._options.idle_exit_seconds
                and not await self._work_left()
            ):
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._options.poll_seconds)

    async def _adopt(self) -> None:
        try:
            names = await asyncio.to_thread(
                self._ledger.adoptable_jobs, self._clock.seconds(), self._options.runners_max
            )
            await self._replace_hung([name for name in names if name in self._runners])
            for name in names:
                if name not in self._runners and len(self._runners) < self._options.runners_max:
                    await self._start_runner(name)
        except BatchpointError as error:
            _log.warning("cannot adopt jobs now", error=str(error))

    async def _work_left(self) -> bool:
        """Whether a job has not ended, or somebody waits to be told of one that has.

        A lease that nobody gave back has to run out first.
        """
        try:
            jobs_left = await asyncio.to_thread(self._ledger.count_open_jobs) > 0
        except BatchpointError:
            return True  # nobody can tell
        return jobs_left or await self._courier.expects_work(self._options.notices_seconds_max)

    async def _replace_hung(self, lapsed: list[str]) -> None:
        """Kill runners that have not renewed their leases for long: they are stopped, or hang.

        Taking the lease first shuts a runner out from writing, and fails while the ledger's disk is
        full, where killing would help nobody.
        """
        now = asyncio.get_running_loop().time()
        self._lapsed = {job: self._lapsed.get(job, now) for job in lapsed}
        for job, since in list(self._lapsed.items()):
            if now - since < limits.LEASE_SECONDS:
                continue  # after a suspended night, it is the runner's turn to renew
            epoch = await asyncio.to_thread(
                self._ledger.acquire_lease,
                job,
                self._owner,
                self._clock.seconds(),
                limits.LEASE_SECONDS,
            )
            runner = self._runners.get(job)
            if epoch is not None and runner is not None:
                _log.warning("runner hangs, another one takes over", job=job)
                runner.kill()
            if epoch is not None:
                await asyncio.to_thread(self._ledger.release, job, epoch)
            self._lapsed.pop(job, None)

    async def _start_runner(self, job: str) -> None:
        epoch = await asyncio.to_thread(
            self._ledger.acquire_lease,
            job,
            self._owner,
            self._clock.seconds(),
            limits.LEASE_SECONDS,
        )
        if epoch is None:
            return
        try:
            child = await self._zygote.spawn("runner", {"job": job, "epoch": epoch})
        except BatchpointError:
            await asyncio.to_thread(self._ledger.release, job, epoch)
            raise
        self._runners[job] = child
        _log.info("job adopted", job=job, epoch=epoch, pid=child.pid)
        self._go(self._watch(job, epoch, child))

    async def _watch(self, job: str, epoch: int, child: Child) -> None:
        status = await child.exited
        try:
            await self._after_runner(job, epoch, status)
            crashes, _ = self._crashes.get(job, (0.0, 0))
            if crashes >= 1:  # what has ended it may pass
                await asyncio.sleep(min(_CRASH_SECONDS_MAX, _CRASH_SECONDS * 2**crashes))
        except BatchpointError as error:
            _log.warning("cannot look after an ended runner now", job=job, error=str(error))
        finally:
            self._runners.pop(job, None)
            self._wake.set()
            self._courier.wake()

    async def _after_runner(self, job: str, epoch: int, exit_status: int) -> None:
        """Free the lease of a runner that ended; give up on a job that kills every runner."""
        now = await asyncio.to_thread(self._ledger.get_job, job)
        if now.status.state in TERMINAL_STATES:
            self._crashes.pop(job, None)
            await asyncio.to_thread(self._tidy, now)
            return
        crashes, done_before = self._crashes.get(job, (0.0, -1))
        done = _done(now.status.progress)
        # Killed from outside, a runner is not to blame; out of memory, it is killed just so.
        weight = _KILL_WEIGHT if exit_status == -signal.SIGKILL else 1.0
        crashes = (crashes if done == done_before else 0.0) + weight
        self._crashes[job] = (crashes, done)
        _log.warning("runner ended early", job=job, exit_status=exit_status, crashes=crashes)
        if crashes > self._options.runner_crashes_max:
            why = f"last exit status {exit_status}); see {self._options.home}/logs/supervisor.log"
            await asyncio.to_thread(give_up, self._ledger, now, epoch, f"({why}", self._clock.now())
            return
        await asyncio.to_thread(self._ledger.release, job, epoch)

    async def _tidy_regularly(self) -> None:
        """Tidy up after jobs whose supervisor died before it could, and what has grown old."""
        while True:
            try:
                await asyncio.to_thread(
                    tidy_all, self._options.home, self._ledger.get_job, self._clock.now()
                )
            except (OSError, BatchpointError) as error:
                _log.warning("cannot tidy up now", error=str(error))
            await asyncio.sleep(_TIDY_EVERY_SECONDS)

    def _tidy(self, job: Job) -> None:
        """Tidy up after an ended job and all its steps."""
        home, now = self._options.home, self._clock.now()
        steps = self._ledger.child_jobs(job.name) if isinstance(job.spec, PipelineSpec) else []
        for each in (job, *steps):
            tidy(each, job_folder(home, each.name), now)

    # --- the socket ---------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            line = await reader.readline()
            if not line:
                return
            request = json.loads(line)
            match request.get("op"):
                case "poke":
                    self._wake.set()
                    await _answer(writer, {"pid": os.getpid()})
                case "status":
                    await _answer(writer, self._describe())
                case "down":
                    await _answer(writer, self._describe())
                    self.stop()
                case "lease":
                    await self._lease_nodes(request, reader, writer)
                case _:
                    await _answer(writer, {"error": "unknown operation"})
        except (ConnectionError, ValueError):
            return
        finally:
            self._connections -= 1
            self._wake.set()
            writer.close()

    def _describe(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "jobs": [{"job": job, "pid": runner.pid} for job, runner in self._runners.items()],
            "nodes": self._nodes.describe(),
        }

    async def _lease_nodes(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one runner: lines `{"count", "lost", "back"}`; end of file frees all nodes."""
        want = LeaseRequest(
            job=request["job"],
            compute=request["compute"],
            max_instances=request["max_instances"],
            idle_seconds=request["idle_seconds"],
            affinity=request["affinity"],
        )
        lease = NodeLease(self._nodes, want, lambda told: writer.write(_line(told)))
        try:
            while line := await reader.readline():
                asked = json.loads(line)
                lease.want(asked["count"], asked["lost"], asked["back"])
        finally:
            lease.close()

    def _go(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _done(progress: Progress) -> int:
    """Count what only grows when a job gets further."""
    ended = progress.steps_done + progress.steps_failed + progress.steps_canceled
    return progress.mini_batches_done + ended


async def _answer(writer: asyncio.StreamWriter, message: dict[str, object]) -> None:
    writer.write(_line(message))
    await writer.drain()


def _line(message: dict[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"
