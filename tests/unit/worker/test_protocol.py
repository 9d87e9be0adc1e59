import os
import struct
import tempfile
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint_worker import protocol
from batchpoint_worker.scorer import Request

HEADERS = st.dictionaries(st.text(), st.text() | st.integers() | st.none())


@given(HEADERS, st.binary(max_size=10_000))
def test_a_message_is_read_as_it_was_written(header, body):
    read, write = os.pipe()
    try:
        protocol.write(write, header, body)
        assert protocol.read(read) == (header, body)
    finally:
        os.close(read)
        os.close(write)


def test_names_that_are_not_unicode_survive():
    name = os.fsdecode(b"caf\xe9")
    data = protocol.encode({"op": "run", "name": name})
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        assert protocol.read(file.fileno())[0]["name"] == name


def test_a_cut_message_is_an_end_of_file():
    data = protocol.encode({"op": "x"}, b"body")
    for cut in range(len(data)):
        read, write = os.pipe()
        os.write(write, data[:cut])
        os.close(write)
        with pytest.raises(EOFError):
            protocol.read(read)
        os.close(read)


def test_a_header_over_the_limit_is_refused_before_it_is_read():
    read, write = os.pipe()
    os.write(write, struct.pack("<II", protocol.HEADER_BYTES_MAX + 1, 0))
    with pytest.raises(protocol.ProtocolError, match="over the limit"):
        protocol.read(read)
    os.close(read)
    os.close(write)


def test_the_status_page_is_never_read_torn():
    with tempfile.TemporaryFile() as file:
        file.truncate(protocol.STATUS_BYTES)
        ours, theirs = (protocol.StatusPage(file.fileno()) for _ in range(2))
        assert theirs.get() == (0, 0.0, protocol.IDLE, 0)
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                ours.set(number, float(number), number % 4, number)

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(20_000):
            task, since, state, slice_rows = theirs.get()
            assert since == float(task)
            assert (state, slice_rows) == (task % 4, task)
        stop.set()
        writer.join()

        ours.set(7, 1.5, protocol.RUNNING)
        ours.set_slice_rows(12)
        assert theirs.get() == (7, 1.5, protocol.RUNNING, 12)
        ours.close()
        assert theirs.get() == (7, 1.5, protocol.RUNNING, 12)
        theirs.close()


def test_a_page_whose_writer_died_halfway_is_still_read():
    with tempfile.TemporaryFile() as file:
        file.truncate(protocol.STATUS_BYTES)
        page = protocol.StatusPage(file.fileno())
        page.set(5, 2.0, protocol.RUNNING)
        os.pwrite(file.fileno(), struct.pack("<Q", 99), 0)
        assert page.get() == (5, 2.0, protocol.RUNNING, -1)
        page.close()


def test_a_request_changes_with_the_job():
    request = Request.from_header({"op": "load", "code_dir": "c", "render": "jsonl"})
    assert (request.mode, request.render, request.threads) == ("script", "jsonl", 0)
    changed = request.for_job({"op": "job", "render": "csv", "environment": {"A": "1"}})
    assert (changed.render, changed.code_dir, changed.environment) == ("csv", "c", {"A": "1"})
