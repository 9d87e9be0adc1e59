"""The outbox: a message for each job that asked for one, due from the moment in which it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from batchpoint.domain.job import Job
from batchpoint.domain.webhook import WebhookDelivery
from batchpoint.ledger.database import Database
from batchpoint.ledger.schema import deliveries


class Notice(NamedTuple):
    """A message that shall tell of a job's end; `url` is sealed.

    `private_allowed`: it may go to addresses that only this machine or its cloud can see.
    """

    identity: str
    url: str
    private_allowed: bool


class DueDelivery(NamedTuple):
    """A message whose turn it is, claimed by whoever got it. `since`: when it became due first."""

    identity: str
    job: str
    url: str
    private_allowed: bool
    attempts: int
    since: float


class DeliveryStore(Database):
    """Messages on their way; times are seconds since 1970."""

    def claim_deliveries(self, now: float, until: float, limit: int) -> list[DueDelivery]:
        """Take up to `limit` messages that are due; nobody else gets them before `until`.

        Each counts as tried once more, whatever becomes of whoever took it.
        """
        with self.writing() as connection:
            chosen = (
                select(deliveries.c.id)
                .where(deliveries.c.state == "pending", deliveries.c.due_at <= now)
                .order_by(deliveries.c.due_at)
                .limit(limit)
            )
            rows = connection.execute(
                deliveries.update()
                .where(deliveries.c.id.in_(chosen))
                .values(attempts=deliveries.c.attempts + 1, due_at=until, claimed=True)
                .returning(deliveries)
            ).mappings()
            return [
                DueDelivery(
                    row["id"],
                    row["job"],
                    row["url"],
                    row["private_allowed"],
                    row["attempts"],
                    row["since"],
                )
                for row in rows
            ]

    def settle_delivery(
        self, identity: str, attempts: int, now: float, said: str, next_at: float | None
    ) -> None:
        """Record what came of a try: delivered, unless it is due again at `next_at`.

        Nothing changes when another has tried since.
        """
        done = next_at is None
        values: dict[str, object] = {"said": said, "claimed": False, "due_at": next_at}
        if done:
            values |= {"state": "delivered", "ended_at": now, "url": ""}
        self._settle(identity, attempts, values)

    def give_up_delivery(self, identity: str, attempts: int, now: float, said: str) -> None:
        """Record that a message is not tried again."""
        values: dict[str, object] = {"said": said, "claimed": False, "due_at": None}
        self._settle(identity, attempts, values | {"state": "given_up", "ended_at": now, "url": ""})

    def next_delivery(self) -> float | None:
        """Return when the next message is due; None when there is none."""
        with self.reading() as connection:
            return connection.execute(
                select(func.min(deliveries.c.due_at)).where(deliveries.c.state == "pending")
            ).scalar()

    def lapse_deliveries(self, now: float) -> None:
        """Make due at once what somebody had claimed who is known to be dead."""
        with self.writing() as connection:
            connection.execute(
                deliveries.update()
                .where(deliveries.c.state == "pending", deliveries.c.claimed)
                .values(due_at=now, claimed=False)
            )

    def _settle(self, identity: str, attempts: int, values: dict[str, object]) -> None:
        with self.writing() as connection:
            connection.execute(
                deliveries.update()
                .where(
                    deliveries.c.id == identity,
                    deliveries.c.attempts == attempts,
                    deliveries.c.state == "pending",
                )
                .values(values)
            )


def add_notice(connection: Connection, job: str, notice: Notice) -> None:
    """Keep a message until its job, which is made in this transaction, has ended."""
    connection.execute(
        deliveries.insert().values(
            id=notice.identity,
            job=job,
            url=notice.url,
            private_allowed=notice.private_allowed,
            state="waiting",
            attempts=0,
            claimed=False,
        )
    )


def release_notice(connection: Connection, job: str, ended_at: float) -> None:
    """Make the message of a job due that ends in this transaction, if it has one."""
    connection.execute(
        deliveries.update()
        .where(deliveries.c.job == job, deliveries.c.state == "waiting")
        .values(state="pending", due_at=ended_at, since=ended_at)
    )


def with_deliveries(connection: Connection, jobs: Sequence[Job]) -> list[Job]:
    """Return jobs that tell what became of their messages."""
    asked = [job.name for job in jobs if job.spec.webhook_url is not None]
    if not asked:
        return list(jobs)
    rows = connection.execute(select(deliveries).where(deliveries.c.job.in_(asked))).mappings()
    known = {
        row["job"]: WebhookDelivery(
            state=row["state"],
            attempts=row["attempts"],
            said=row["said"],
            next_at=_moment(row["due_at"]),
            ended_at=_moment(row["ended_at"]),
        )
        for row in rows
    }
    return [job.model_copy(update={"webhook": known.get(job.name)}) for job in jobs]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
