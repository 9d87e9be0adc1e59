"""The app in this process: answers are streamed, failures are seen, nothing is left running."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import httpx
import pytest

from batchpoint.client.embedded_transport import EmbeddedTransport


def client_of(app) -> httpx.Client:
    return httpx.Client(transport=EmbeddedTransport(lambda: app), base_url="http://app")


async def start(send, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"a", b"b")]})


def test_request_and_answer_pass_through() -> None:
    seen = {}

    async def app(scope, receive, send) -> None:
        message = await receive()
        seen.update(scope, body=message["body"], more=message["more_body"])
        await start(send, 201)
        await send({"type": "http.response.body", "body": b"answer"})

    with client_of(app) as client:
        answer = client.post("/a%2Fb/c?x=1&y=é", content=b"question", headers={"X-Y": "z"})
    assert (answer.status_code, answer.content, answer.headers["a"]) == (201, b"answer", "b")
    assert (seen["path"], seen["raw_path"]) == ("/a/b/c", b"/a%2Fb/c")
    assert seen["query_string"] == b"x=1&y=%C3%A9"
    assert (b"x-y", b"z") in seen["headers"]
    assert (seen["body"], seen["more"]) == (b"question", False)


def test_bodies_are_sent_chunk_by_chunk() -> None:
    received: list[bytes] = []

    async def app(scope, receive, send) -> None:
        while True:
            message = await receive()
            received.append(message["body"])
            if not message["more_body"]:
                break
        await start(send)
        await send({"type": "http.response.body"})

    def chunks() -> Iterator[bytes]:
        yield from (b"one", b"two", b"three")

    with client_of(app) as client:
        assert client.put("/", content=chunks()).content == b""
    assert received == [b"one", b"two", b"three", b""]


def test_the_app_waits_until_its_chunks_are_taken() -> None:
    sent: list[int] = []

    async def app(scope, receive, send) -> None:
        await start(send)
        for number in range(100):
            await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
            sent.append(number)
        await send({"type": "http.response.body"})

    with client_of(app) as client:
        with client.stream("GET", "/") as answer:
            taken = answer.iter_raw()
            for _ in range(3):
                next(taken)
            assert len(sent) <= 3
            assert sum(len(chunk) for chunk in taken) == 97 * 10
        assert len(sent) == 100


def test_an_answer_that_nobody_wants_is_stopped() -> None:
    stopped = threading.Event()

    async def app(scope, receive, send) -> None:
        await start(send)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        except asyncio.CancelledError:
            stopped.set()
            raise

    with client_of(app) as client:
        with client.stream("GET", "/") as answer:
            next(answer.iter_raw())
        assert stopped.wait(10)


def test_a_failing_app_is_an_error_of_transport() -> None:
    async def at_once(scope, receive, send) -> None:
        raise ZeroDivisionError

    async def halfway(scope, receive, send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ZeroDivisionError

    for app in (at_once, halfway):
        with client_of(app) as client, pytest.raises(httpx.RemoteProtocolError):
            client.get("/")


def test_requests_run_side_by_side() -> None:
    together = threading.Barrier(4, timeout=20)

    async def app(scope, receive, send) -> None:
        await asyncio.get_running_loop().run_in_executor(None, together.wait)
        await start(send)
        await send({"type": "http.response.body", "body": b"ok"})

    with client_of(app) as client:
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.get("/").content))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [b"ok"] * 4


def test_closing_ends_the_thread() -> None:
    async def app(scope, receive, send) -> None:
        await start(send)
        await send({"type": "http.response.body"})

    before = set(threading.enumerate())  # other tests may have clients of their own
    client = client_of(app)
    client.get("/")
    mine = [thread.name for thread in threading.enumerate() if thread not in before]
    assert "batchpoint-embedded" in mine
    client.close()
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert "batchpoint-embedded" not in left
    client.close()


def test_closing_ends_what_forgets_that_it_was_canceled() -> None:
    """As `wait_for` of Python 3.11 does, when what it waits for comes in the same moment."""
    began = threading.Event()

    async def app(scope, receive, send) -> None:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await start(send)
        await send({"type": "http.response.body", "body": b"nobody takes it"})

    transport = EmbeddedTransport(lambda: app)
    asking = threading.Thread(
        target=transport.handle_request, args=(httpx.Request("GET", "http://app/"),), daemon=True
    )
    asking.start()
    assert began.wait(5)
    closing = threading.Thread(target=transport.close, daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
