"""What a step computes, by name; and taking over what an earlier one has computed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from batchpoint.core.reuse_key import reuse_key
from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import Job, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepPlace
from batchpoint.ledger.ledger import Ledger
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.command_takeover import copy_outputs
from batchpoint.runner.reuse import Earlier, are_unchanged, earlier_outputs, wanted_elsewhere
from batchpoint.runner.step_inputs import Published, known_contents
from batchpoint.storage.locate import is_local

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Enough to keep a disk busy.
_THREADS = 4


class Work(NamedTuple):
    """What a step computes from: its values that hold now, and what opens its data."""

    inputs: Mapping[str, Scalar | JobInput]
    published: Published
    access: StorageAccess


class Takeover:
    """Looks into the data of steps. Reading it may take hours, and has threads of its own."""

    def __init__(
        self,
        ledger: Ledger,
        identify: Callable[[JobInput, StorageAccess], str],
        open_data: Callable[[Iterable[str]], StorageAccess],
    ) -> None:
        """See `PipelineParts` about the arguments."""
        self._ledger = ledger
        self._identify = identify
        self._open_data = open_data
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="content")

    def close(self) -> None:
        """Read nothing more; what is being read is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def key(self, place: StepPlace, work: Work) -> str | None:
        """Name what a step computes; None: nobody can, or nothing may be taken for the same.

        Data that nobody has looked at yet is read for it.
        """
        return await self._named(place, work, known_contents(place, work.published))

    async def confirmed(self, key: str | None, place: StepPlace, work: Work) -> str | None:
        """Return the key if the step's data is still what it was named for, else None.

        What was written to while the step ran belongs to no key: nobody knows what it has read.
        """
        if key is None:
            return None
        nothing = dict.fromkeys(known_contents(place, work.published))
        return key if await self._named(place, work, nothing) == key else None

    async def find(self, child: Job, key: str, access: StorageAccess) -> Earlier | None:
        """Return what an earlier step has computed under this key, if it is still as it was."""
        identify = partial(self._identify_anywhere, access)
        return await self._aside(earlier_outputs, child, key, self._ledger, identify)

    async def copied(
        self,
        child: Job,
        found: Earlier,
        order: Callable[[Iterable[str]], Awaitable[CommandOrder]],
    ) -> dict[str, PublishedOutput]:
        """Return the outputs of an earlier step as this one's: copies, where places were chosen.

        `order` makes the step's order, given more URIs that have to be opened.

        Raises:
            Conflict: something is in the place of an output (`output_exists`).
            Unavailable, Invalid: an earlier output cannot be read, or a place not be written to.
            Invalid (`input_changed`): an earlier output was changed while it was copied.
        """
        assert child.spec.step is not None
        if not wanted_elsewhere(child.spec.step, found):
            return found.outputs
        given = await order(each.uri for each in found.outputs.values())
        identify = partial(self._identify_anywhere, given.access)
        return await self._aside(
            copy_outputs,
            given,
            found.outputs,
            lambda: are_unchanged(found.outputs, identify),
        )

    async def _named(
        self, place: StepPlace, work: Work, known: Mapping[str, str | None]
    ) -> str | None:
        if not place.is_deterministic:
            return None
        contents: dict[str, str] = {}
        for name, content in known.items():
            source = work.inputs[name]
            contents[name] = content or ""
            if content is None and isinstance(source, JobInput):
                try:
                    contents[name] = await self._aside(self._identify, source, work.access)
                except BatchpointError:
                    return None  # whoever needs the data will say so
        literals = {
            name: each for name, each in work.inputs.items() if not isinstance(each, JobInput)
        }
        return reuse_key(place, literals, contents)

    def _identify_anywhere(self, access: StorageAccess, source: JobInput) -> str:
        """Name the content of an earlier output, which may lie in another datastore."""
        remote = [uri for uri in source.sources if not is_local(uri)]
        return self._identify(source, self._open_data(remote) if remote else access)

    def _aside(
        self, work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs
    ) -> asyncio.Future[_T]:
        call = partial(work, *arguments, **named)
        return asyncio.get_running_loop().run_in_executor(self._threads, call)
