"""Whom to tell of a job's end: URLs checked at invoke, and kept so that nobody reads them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from batchpoint.core.webhook_event import message_id
from batchpoint.core.webhook_target import is_private, target_of
from batchpoint.domain.errors import Denied, Invalid
from batchpoint.domain.job import Job
from batchpoint.domain.webhook import masked
from batchpoint.ledger.ledger import Notice

_WHERE = "webhook_url"


def addresses_of(host: str, port: int) -> list[str]:
    """Look a host up; empty when nobody can tell at the moment. Raises: Invalid: there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
            return []  # it is looked up again when there is something to send
        raise Invalid(
            f"names the host {host!r}, which cannot be found",
            code="field_invalid",
            where=_WHERE,
        ) from error
    except (UnicodeError, OSError):
        return []
    return [str(address[4][0]) for address in found]


class Webhooks:
    """Makes the notices of jobs."""

    def __init__(
        self,
        default_url: str | None = None,
        *,
        private_allowed: bool = True,
        seal: Callable[[str, str], str] = lambda text, _about: text,
        look_up: Callable[[str, int], Iterable[str]] = addresses_of,
    ) -> None:
        """`default_url` is for jobs that name none; `seal` keeps a URL from being read.

        `seal` gets the URL and what it belongs to, which `Courier` gives again to open it.
        """
        self._default_url = default_url
        self._private_allowed = private_allowed
        self._seal = seal
        self._look_up = look_up

    def notice(self, job: Job, url: str | None) -> tuple[Job, Notice | None]:
        """Return a new job that shows whom it tells of its end, and the notice to record with it.

        Raises: Invalid (`field_invalid`) when the URL is none; Denied (`denied`) when it leads to
        an address that this server's callers may not have it talk to.
        """
        wanted = url or self._default_url
        if wanted is None:
            return job, None
        target = target_of(wanted, _WHERE)
        if not self._private_allowed and any(map(is_private, self._look_up(*target))):
            raise Denied(
                f"leads to {target.host!r}, an address inside this server's own machine or cloud; "
                "give one outside, or have its administrator set webhook_allow_private",
                where=_WHERE,
            )
        spec = job.spec.model_copy(update={"webhook_url": masked(wanted)})
        identity = message_id(job.name, job.created_at)
        notice = Notice(identity, self._seal(wanted, identity), self._private_allowed)
        return job.model_copy(update={"spec": spec}), notice
