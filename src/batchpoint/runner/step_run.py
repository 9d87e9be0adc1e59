"""One attempt at a step of a pipeline: from its inputs to outputs that are published."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, ParamSpec, TypeVar

from batchpoint.clock import Clock
from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Unavailable
from batchpoint.domain.job import ErrorInfo, Job, JobStatus, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import (
    CommandSpec,
    NodeSpec,
    ResolvedEnvironment,
    ScoreSpec,
    StepPlace,
)
from batchpoint.engines.interface import CommandEngine
from batchpoint.formats.layout import JobFolder
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.command_attempt import withdraw_attempt
from batchpoint.node.command_order import CommandBeat, CommandOrder
from batchpoint.node.step_files import command_order
from batchpoint.runner.causes import cause_from
from batchpoint.runner.job_log import JobLog
from batchpoint.runner.patience import pause
from batchpoint.runner.pipeline_standing import PipelineStanding
from batchpoint.runner.reuse import wanted_elsewhere
from batchpoint.runner.score_step import StepResult
from batchpoint.runner.step_inputs import Published, actual_inputs, variables_for
from batchpoint.runner.takeover import Takeover, Work
from batchpoint.storage.locate import is_local

StepOutcome = Literal["completed", "reused", "failed", "timed_out", "lost", "stopped"]
_P = ParamSpec("_P")
_T = TypeVar("_T")
# For environments, assets and what opens data.
_THREADS = 4
_MODEL_TYPES = ("mlflow_model", "custom_model")
_CLEARINGS_MAX = 4


@dataclass(frozen=True, slots=True)
class PipelineParts:
    """What the runner of a pipeline works with; put together by `batchpoint.wiring`.

    Blocking, called in threads: `prepare` makes sure that an environment can be used, returning
    sentences for the log (raises Invalid when it cannot); `open_data` returns what opens data at
    remote URIs (raises BatchpointError when a datastore is gone); `identify` names the content of
    data, "" where nobody can know; `register` makes the asset that an output asks for and returns
    the output with its name. `score` runs a step that scores to its end. `tracking_uri` is where
    commands tell MLflow of their runs. `saw` is told every status of the pipeline.
    """

    ledger: Ledger
    engine: CommandEngine
    clock: Clock
    folder_of: Callable[[str], JobFolder]
    prepare: Callable[[ResolvedEnvironment], list[str]]
    open_data: Callable[[Iterable[str]], StorageAccess]
    identify: Callable[[JobInput, StorageAccess], str]
    register: Callable[[Job, str, PublishedOutput], PublishedOutput]
    score: Callable[[Job, Mapping[str, Scalar | JobInput], StorageAccess], Awaitable[StepResult]]
    tracking_uri: str
    saw: Callable[[JobStatus], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How an attempt at a step ended. `outputs` are published, and registered where asked for.

    `key` names what was computed, for later steps; `status` is that of a step that scored.
    """

    outcome: StepOutcome
    error: ErrorInfo | None = None
    outputs: Mapping[str, PublishedOutput] = field(default_factory=dict[str, PublishedOutput])
    exit_code: int | None = None
    reused_from: str | None = None
    key: str | None = None
    status: JobStatus | None = None


class StepRun:
    """Runs attempts at steps of one pipeline; all of them share environments and what is known."""

    def __init__(
        self,
        parts: PipelineParts,
        standing: PipelineStanding,
        log: JobLog,
        *,
        epoch: int,
        look_up: bool,
    ) -> None:
        """`log` is the pipeline's, and `epoch` that of its lease.

        `look_up`: steps may take over what earlier ones computed.
        """
        self._epoch = epoch
        self._log = log
        self._parts = parts
        self._standing = standing
        self._look_up = look_up
        self.scoring: set[str] = set()
        """Steps whose scoring runs now: their rows are written by whoever scores."""
        self.unwanted: set[str] = set()
        """Steps that are cancelled for good: what they publish is taken back."""
        self._environments: dict[str, asyncio.Future[list[str]]] = {}
        self._ready: set[str] = set()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="steps")
        self._takeover = Takeover(parts.ledger, parts.identify, parts.open_data)

    def close(self) -> None:
        """Begin nothing more; what blocks in a thread is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._takeover.close()

    async def run(self, child: Job, attempt: int, published: Published) -> StepEnd:
        """Run an attempt; waits as long as it takes for storage, ledger and nodes that are away.

        Cancelling the caller stops a command; nothing of it runs any more then. Of an attempt that
        did not complete nothing is left at the places of its outputs; of one that is cancelled only
        if the step is `unwanted`: else the next runner may find that it has been completed.

        Raises:
            Unavailable: `lease_lost`: another runner has taken the pipeline, or a step that scores.
        """
        try:
            end = await self._attempted(child, attempt, published)
            if end.outcome not in ("completed", "reused"):
                await self.clear(child)
        except asyncio.CancelledError:
            if _place(child).name in self.unwanted:
                await self.clear(child)
            raise
        return end

    def has_begun(self, child: Job) -> bool:
        """Tell whether any attempt at a step came so far as to write something, recorded or not."""
        return self._parts.folder_of(child.name).command_lock.exists()

    async def clear(self, child: Job) -> None:
        """Remove what attempts at a step have left where its outputs were to be.

        What cannot be removed in a few tries stays, and the step's log says so.

        Raises:
            Unavailable: `lease_lost`.
        """
        for waits in range(_CLEARINGS_MAX):
            try:
                order = self._order(child, 1, {}, await self._opened(child.spec.places))
                await asyncio.to_thread(withdraw_attempt, order)
            except BatchpointError as error:
                if error.code == "lease_lost":
                    raise
                told = f"what the step has published could not be removed: {error.message}"
                self.log_of(child)(told)
                if not error.retryable:
                    return
            else:
                return
            await pause(waits)

    async def _attempted(self, child: Job, attempt: int, published: Published) -> StepEnd:
        for waits in itertools.count():
            try:
                end = await self._run_once(child, attempt, published)
            except BatchpointError as error:
                if error.code == "lease_lost":
                    raise
                if error.code == "node_lost":
                    return StepEnd("lost", cause_from(error))
                if not error.retryable:
                    return StepEnd("failed", cause_from(error))
                await self._wait(child, waits, error)
            else:
                self._warn(_place(child).name, "")
                return end
        raise AssertionError  # never reached: the loop has no end of its own

    def log_of(self, child: Job) -> JobLog:
        """Return the log of a step's own job."""
        return JobLog(self._parts.folder_of(child.name).job_log, self._parts.clock)

    async def _run_once(self, child: Job, attempt: int, published: Published) -> StepEnd:
        spec, place = child.spec, _place(child)
        assert isinstance(spec, NodeSpec)
        inputs = actual_inputs(place, published)
        access = await self._access(child, inputs)
        work = Work(inputs, published, access)
        key = asyncio.ensure_future(self._takeover.key(place, work))
        try:
            if self._look_up and child.status.started_at is None:
                taken = await self._take_over(child, await key, work)
                if taken is not None:
                    return taken
            await self._make_ready(place, spec.environment)
            end = await (
                self._command(child, attempt, inputs, access)
                if isinstance(spec, CommandSpec)
                else self._score(child, inputs, access)
            )
            if end.outcome != "completed":
                return end
            confirmed = await self._takeover.confirmed(await key, place, work)
            return StepEnd(
                end.outcome,
                outputs=await self._registered(child, end.outputs),
                exit_code=end.exit_code,
                key=confirmed,
                status=end.status,
            )
        finally:
            key.cancel()

    async def _command(
        self,
        child: Job,
        attempt: int,
        inputs: Mapping[str, Scalar | JobInput],
        access: StorageAccess,
    ) -> StepEnd:
        step = _place(child).name

        def heard(beat: CommandBeat) -> None:
            self._standing.phase(step, beat.phase)
            self._warn(step, beat.warning)

        end = await self._parts.engine.run(self._order(child, attempt, inputs, access), heard)
        return StepEnd(end.outcome, end.error, end.outputs, end.exit_code)

    def _order(
        self,
        child: Job,
        attempt: int,
        inputs: Mapping[str, Scalar | JobInput],
        access: StorageAccess,
    ) -> CommandOrder:
        folder = self._parts.folder_of(child.name)
        if isinstance(child.spec, ScoreSpec):
            return command_order(child, inputs, folder, access, self._epoch)
        assert isinstance(child.spec, CommandSpec)
        return CommandOrder(
            job=child.name,
            job_dir=folder.root,
            attempt=attempt,
            spec=child.spec,
            inputs=inputs,
            variables=variables_for(child, self._parts.tracking_uri),
            access=access,
            epoch=self._epoch,
        )

    async def _score(
        self, child: Job, inputs: Mapping[str, Scalar | JobInput], access: StorageAccess
    ) -> StepEnd:
        step = _place(child).name
        self.scoring.add(step)
        try:
            result = await self._parts.score(child, inputs, access)
        finally:
            self.scoring.discard(step)
        return StepEnd(result.outcome, result.error, result.outputs, status=result.status)

    async def _access(self, child: Job, inputs: Mapping[str, Scalar | JobInput]) -> StorageAccess:
        given = [each for each in inputs.values() if isinstance(each, JobInput)]
        return await self._opened(
            [*child.spec.places, *(uri for each in given for uri in each.sources)]
        )

    async def _opened(self, uris: Iterable[str]) -> StorageAccess:
        remote = [uri for uri in uris if not is_local(uri)]
        if not remote:
            return StorageAccess()
        try:
            return await self._aside(self._parts.open_data, remote)
        except Unavailable as error:
            if error.code != "secrets_unreadable":
                raise
            # The key of the secrets does not come back by waiting.
            raise BatchpointError(error.message, code=error.code) from error

    def _aside(
        self, work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Run what blocks in a thread, apart from those that commits and leases need."""
        call = partial(work, *arguments, **named)
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _make_ready(self, place: StepPlace, environment: ResolvedEnvironment) -> None:
        """Make sure that an environment can be used; once for all steps that have it."""
        known = self._environments.get(environment.hash)
        if known is None:
            known = self._aside(self._parts.prepare, environment)
            self._environments[environment.hash] = known
        if not known.done():
            self._standing.phase(place.name, "environment")
        try:
            notes = await asyncio.shield(known)
        except BatchpointError:
            if self._environments.get(environment.hash) is known:
                del self._environments[environment.hash]
            raise
        if environment.hash not in self._ready:
            self._ready.add(environment.hash)
            for note in notes:
                self._log(f"environment {environment.name}: {note}")
        self._standing.phase(place.name, "inputs")

    async def _take_over(self, child: Job, key: str | None, work: Work) -> StepEnd | None:
        """Take over what an earlier step has computed, if there is such a thing."""
        found = await self._takeover.find(child, key, work.access) if key is not None else None
        if found is None:
            return None

        async def order(more: Iterable[str]) -> CommandOrder:
            access = await self._opened([*child.spec.places, *more])
            return self._order(child, 1, work.inputs, access)

        try:
            if not wanted_elsewhere(_place(child), found) and self.has_begun(child):
                await self.clear(child)  # its runner was killed, and nobody will speak of it
            outputs = await self._takeover.copied(child, found, order)
        except BatchpointError as error:
            if error.code == "lease_lost":
                raise
            self.log_of(child)(f"the outputs of {found.job} cannot be copied: {error.message}")
            return None  # it is computed; if its place is in the way, that will be said
        self.log_of(child)(f"took over the outputs of {found.job}, which computed the same")
        registered = await self._registered(child, outputs)
        return StepEnd("reused", outputs=registered, reused_from=found.job)

    async def _registered(
        self, child: Job, outputs: Mapping[str, PublishedOutput]
    ) -> dict[str, PublishedOutput]:
        """Register what is to be; what was computed is not lost while that cannot be done."""
        found = dict(outputs)
        # Models first: that they are refused is found when nothing points at the outputs yet.
        declared = _place(child).outputs.items()
        for name, wanted in sorted(declared, key=lambda each: each[1].type not in _MODEL_TYPES):
            if wanted.register_as is None or name not in found:
                continue
            for waits in itertools.count():
                try:
                    made = await self._aside(self._parts.register, child, name, found[name])
                except BatchpointError as error:
                    if not error.retryable:
                        raise
                    await self._wait(child, waits, error)
                else:
                    found[name] = made
                    break
        return found

    async def _wait(self, child: Job, waits: int, error: BatchpointError) -> None:
        self.log_of(child)(f"cannot go on now, trying again: {error.message}")
        self._warn(_place(child).name, error.message)
        await pause(waits)

    def _warn(self, step: str, message: str) -> None:
        """Tell people what holds a step up now, or that nothing does."""
        self._standing.warnings.pop(step, None)
        if message:
            self._standing.warnings[step] = f"step {step}: {message}"


def _place(child: Job) -> StepPlace:
    assert child.spec.step is not None
    return child.spec.step
