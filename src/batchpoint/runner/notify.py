"""Telling others of the end of jobs: messages from the ledger's outbox, sent until they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from batchpoint.clock import Clock
from batchpoint.core.webhook_event import (
    backoff_seconds,
    message_body,
    message_headers,
    retry_after_seconds,
)
from batchpoint.core.webhook_target import Target, is_private, target_of
from batchpoint.domain.errors import BatchpointError, NotFound
from batchpoint.ledger.ledger import DueDelivery, Ledger

if TYPE_CHECKING:  # imported when there is something to send
    import httpx

_log = structlog.get_logger(__name__)
_CHANCE_DIGITS = 4
_GONE = 410
_SAID_CHARS_MAX = 300
_WAIT_SECONDS_MIN = 0.01


@dataclass(frozen=True, slots=True)
class CourierOptions:
    """How messages are sent.

    A message is given up after `tries_max`, or `give_up_seconds` after the end of its job. When
    nothing is due the outbox is looked at every `poll_seconds`.
    """

    tries_max: int = 30
    give_up_seconds: float = 24 * 3600.0
    try_seconds: float = 15.0
    at_once_max: int = 8
    poll_seconds: float = 60.0
    trouble_seconds: float = 5.0
    # A try that has not ended so long after its time limit has died with its process.
    claim_margin_seconds: float = 15.0


class Answer(NamedTuple):
    """What came of one try; after a `final` one there is no other."""

    arrived: bool
    said: str
    final: bool = False
    retry_after_seconds: float | None = None


class Courier:
    """Sends the messages of one ledger; lives in the supervisor and never delays a job."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        key: bytes | None = None,
        unseal: Callable[[str, str], str] = lambda text, _about: text,
        options: CourierOptions | None = None,
    ) -> None:
        """`key` signs messages; `unseal` opens the URLs that were sealed at invoke."""
        self._ledger = ledger
        self._clock = clock
        self._key = key
        self._unseal = unseal
        self._options = options or CourierOptions()
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None

    def wake(self) -> None:
        """Look at the outbox now: a job has ended."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is due, for ever; what a dead predecessor was sending is due again."""
        lapsed = False
        try:
            while True:
                self._wake.clear()
                try:
                    if not lapsed:
                        now = self._clock.seconds()
                        await asyncio.to_thread(self._ledger.lapse_deliveries, now)
                        lapsed = True
                    wait = await self._send_due()
                except BatchpointError as error:
                    _log.warning("cannot look at the outbox now", error=str(error))
                    wait = self._options.trouble_seconds
                # Not `wait_for`: until Python 3.12 that swallows a cancellation now and then.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
        finally:
            for task in self._sending:
                task.cancel()
            if self._client is not None:
                await self._client.aclose()

    async def expects_work(self, within_seconds: float) -> bool:
        """Tell whether a message is being sent, or is due within so many seconds."""
        if self._sending:
            return True
        try:
            due_at = await asyncio.to_thread(self._ledger.next_delivery)
        except BatchpointError:
            return False
        return due_at is not None and due_at <= self._clock.seconds() + within_seconds

    async def _send_due(self) -> float:
        """Begin to send what is due; returns after how many seconds to look again."""
        options, now = self._options, self._clock.seconds()
        due_at = await asyncio.to_thread(self._ledger.next_delivery)
        free = options.at_once_max - len(self._sending)
        if due_at is not None and due_at <= now and free:
            until = now + options.try_seconds + options.claim_margin_seconds
            for due in await asyncio.to_thread(self._ledger.claim_deliveries, now, until, free):
                task = asyncio.create_task(self._send(due))
                self._sending.add(task)
                task.add_done_callback(self._sent)
            due_at = await asyncio.to_thread(self._ledger.next_delivery)
        if due_at is None or len(self._sending) >= options.at_once_max:
            return options.poll_seconds
        return min(options.poll_seconds, max(_WAIT_SECONDS_MIN, due_at - now))

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            # It stays claimed, and is tried again when the claim has run out.
            _log.error("a message was not sent", exc_info=task.exception())

    async def _send(self, due: DueDelivery) -> None:
        try:
            job = await asyncio.to_thread(self._ledger.get_job, due.job)
            answer = await self._try(due, message_body(job))
        except NotFound:
            answer = Answer(arrived=False, said="there is no such job any more", final=True)
        except BatchpointError as error:
            answer = Answer(arrived=False, said=error.message)
        await asyncio.to_thread(self._settle, due, answer)

    def _settle(self, due: DueDelivery, answer: Answer) -> None:
        now, told = self._clock.seconds(), {"job": due.job, "said": answer.said}
        if answer.arrived:
            self._ledger.settle_delivery(due.identity, due.attempts, now, answer.said, None)
            _log.info("message delivered", **told, attempts=due.attempts)
            return
        chance = int(self._clock.hexadecimal(_CHANCE_DIGITS), 16) / 16**_CHANCE_DIGITS
        wait = max(backoff_seconds(due.attempts, chance), answer.retry_after_seconds or 0.0)
        over = (
            due.attempts >= self._options.tries_max
            or now + wait > due.since + self._options.give_up_seconds
        )
        if answer.final or over:
            self._ledger.give_up_delivery(due.identity, due.attempts, now, answer.said)
            _log.warning("message given up", **told, attempts=due.attempts)
            return
        self._ledger.settle_delivery(due.identity, due.attempts, now, answer.said, now + wait)
        _log.info("message not delivered yet", **told, attempts=due.attempts, again_in=wait)

    async def _try(self, due: DueDelivery, body: bytes) -> Answer:
        url = await asyncio.to_thread(self._unseal, due.url, due.identity)
        target = target_of(url, "webhook_url")
        now = int(self._clock.seconds())
        headers = message_headers(due.identity, body, now, self._key)
        try:
            async with asyncio.timeout(self._options.try_seconds):
                addresses = await _addresses(target)
                if not due.private_allowed and any(map(is_private, addresses)):
                    said = f"{target.host} leads to an address inside this server or its cloud"
                    return Answer(arrived=False, said=said)
                return await self._post(url, target, addresses, headers, body)
        except TimeoutError:
            limit = self._options.try_seconds
            return Answer(arrived=False, said=f"no answer within {limit:g} seconds")
        except OSError as error:
            return Answer(arrived=False, said=f"{target.host} cannot be found: {error.strerror}")

    async def _post(
        self, url: str, target: Target, addresses: list[str], headers: dict[str, str], body: bytes
    ) -> Answer:
        """Send to the first address that can be reached, as the name that was looked up.

        The name is not looked up again: it could lead elsewhere by then.
        """
        import httpx  # noqa: PLC0415  # few supervisors ever send anything

        client = self._connected()
        whole = httpx.URL(url)
        said = "it has no address"
        for address in addresses:
            extensions = {} if _is_address(target.host) else {"sni_hostname": target.host}
            named = {"host": whole.netloc.decode("ascii"), **headers}
            request = client.build_request(
                "POST",
                whole.copy_with(host=address),
                headers=named,
                content=body,
                extensions=extensions,
            )
            try:
                response = await client.send(request, stream=True)
            except httpx.ConnectError as error:
                said = f"cannot connect: {str(error)[:_SAID_CHARS_MAX]}"
                continue
            except httpx.HTTPError as error:
                said = f"{type(error).__name__}: {str(error)[:_SAID_CHARS_MAX]}"
                return Answer(arrived=False, said=said)
            await response.aclose()  # nobody reads what it says
            return self._answer(response)
        return Answer(arrived=False, said=said)

    def _answer(self, response: httpx.Response) -> Answer:
        said = f"answered {response.status_code}"
        if response.is_success:
            return Answer(arrived=True, said=said)
        if response.is_redirect:
            said += ", a redirect, and those are not followed"
        after = retry_after_seconds(response.headers.get("retry-after"), self._clock.now())
        final = response.status_code == _GONE
        return Answer(arrived=False, said=said, final=final, retry_after_seconds=after)

    def _connected(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415  # few supervisors ever send anything

        if self._client is None:
            for name in ("httpx", "httpcore"):  # they log URLs
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = httpx.AsyncClient(
                verify=httpx.create_ssl_context(),
                timeout=self._options.try_seconds,
                # A connection kept for one name must not serve another one at its address.
                limits=httpx.Limits(max_keepalive_connections=0),
                follow_redirects=False,
                trust_env=False,  # a proxy would look names up by itself
                headers={"user-agent": "batchpoint"},
            )
        return self._client


async def _addresses(target: Target) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
