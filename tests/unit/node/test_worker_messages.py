"""The worker protocol read piecemeal, with bodies of any size."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchpoint.node import worker_messages
from batchpoint.node.worker_messages import WorkerMessages, WorkerOrders
from batchpoint_worker import protocol


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_messages_are_cut_where_they_end_spooled_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bodies: list[bytes], piece: int
) -> None:
    monkeypatch.setattr(worker_messages, "SPOOL_BYTES_MIN", 100)
    data = b"".join(
        protocol.encode({"op": "results", "n": n}, body) for n, body in enumerate(bodies)
    )
    messages = WorkerMessages(tmp_path)
    found = [m for at in range(0, len(data), piece) for m in messages.feed(data[at : at + piece])]
    assert [header["n"] for header, _ in found] == list(range(len(bodies)))
    assert [bytes(body) for _, body in found] == bodies
    messages.close()
    assert not list(tmp_path.iterdir())


def test_a_large_body_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_messages, "SPOOL_BYTES_MIN", 10)
    messages = WorkerMessages(tmp_path)
    [(_, body)] = messages.feed(protocol.encode({"op": "results"}, b"0123456789abcdef"))
    assert isinstance(body, memoryview)
    assert bytes(body[10:]) == b"abcdef"
    [(_, small)] = messages.feed(protocol.encode({"op": "results"}, b"012345678"))
    assert isinstance(small, bytes)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff\0\0\0\0", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0x]"]
)
def test_what_is_no_message_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(protocol.ProtocolError):
        WorkerMessages(tmp_path).feed(data)


def test_orders_wait_for_a_worker_that_does_not_read() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    orders = WorkerOrders(write)
    sent = [{"op": "run", "text": "x" * 50_000, "n": n} for n in range(10)]
    done = [orders.send(order) for order in sent]
    assert not done[-1]
    data = b""
    while not orders.flush():
        data += os.read(read, 1 << 20)
    data += os.read(read, 1 << 20)
    assert data == b"".join(protocol.encode(order) for order in sent)
    os.close(read)
    with pytest.raises(BrokenPipeError):
        orders.send({"op": "run"})
    os.close(write)
