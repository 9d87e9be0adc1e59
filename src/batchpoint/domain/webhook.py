"""Webhooks: what becomes of the message that tells of a job's end, and URLs fit to be shown."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from batchpoint.domain.model_shape import Noun

MASK = "***"


class WebhookDelivery(Noun):
    """How far the message of a job's end has come.

    "waiting" for the job to end, "pending" (to be sent, or sent again), "delivered", or "given_up".
    `said` is what came of the latest try, in one sentence; `next_at` when the next one is due.
    """

    state: Literal["waiting", "pending", "delivered", "given_up"]
    attempts: int = 0
    said: str | None = None
    next_at: datetime | None = None
    ended_at: datetime | None = None


def masked(url: str) -> str:
    """Return a URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{MASK if user else ''}{at}{host}"
    return urlunsplit((parts.scheme, netloc, parts.path, MASK if parts.query else "", ""))
