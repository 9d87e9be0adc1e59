"""What the routes work with, put together by wiring, and shapes that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from batchpoint.api.problems import Problem
from batchpoint.clock import Clock
from batchpoint.control.assets import Assets
from batchpoint.control.datastores import Datastores
from batchpoint.control.invocation import Invocations
from batchpoint.control.job_files import JobFiles
from batchpoint.control.job_outputs import JobOutputs
from batchpoint.control.registry import Registry
from batchpoint.domain import limits
from batchpoint.ledger.ledger import Ledger
from batchpoint.storage.tree_store import TreeStore

Item = TypeVar("Item")


@dataclass(frozen=True)
class Services:
    """The collaborators of the app.

    `public_url`: the address that callers use, for `scoring_uri`; None: take the request's own
    (`embedded` apps have none). `log` takes one line at a time of what creating something does.
    """

    ledger: Ledger
    registry: Registry
    assets: Assets
    datastores: Datastores
    trees: TreeStore
    invocations: Invocations
    clock: Clock
    home: Path
    version: str
    log: Callable[[str], None]
    public_url: str | None = None
    embedded: bool = False

    @cached_property
    def job_files(self) -> JobFiles:
        """Reads what jobs leave."""
        return JobFiles(self.home, self.datastores.access_for)

    @cached_property
    def job_outputs(self) -> JobOutputs:
        """Finds the named outputs of jobs."""
        return JobOutputs(self.job_files, self.datastores.access_for, self.ledger.get_job)


class Page(BaseModel, Generic[Item]):
    """Some of a list. `next_after` is what to ask for as `after` to get the rest; null: the end."""

    value: list[Item]
    next_after: str | None = None


Limit = Annotated[
    int, Query(ge=1, le=limits.LIST_PAGE_MAX, description="How many to return at most.")
]
After = Annotated[
    str | None, Query(description="Begin after this one: `next_after` of the page before.")
]
LIMIT_DEFAULT = 100


def page(found: list[Item], limit: int, key: Callable[[Item], str | None]) -> Page[Item]:
    """Make a page of a list that was cut at `limit`; `key` is the cursor of an item."""
    full = len(found) >= limit
    return Page(value=found, next_after=key(found[-1]) if full and found else None)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problem documents that an operation may answer with."""
    meaning = {
        400: "The request is wrong; `detail` says what was expected.",
        404: "What was named does not exist.",
        409: "The present state forbids it.",
        416: "The range lies outside the file.",
        503: "A part of the system cannot be reached now; trying again may help.",
        507: "The disk is full.",
    }
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {
            "description": meaning[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in (400, *statuses, 503)
    }
