"""The contract between node agent and scoring worker: framed messages on private pipes.

The worker owns this contract and the big system imports it from here. Stdlib only, Python >= 3.8.

A message is `u32 header length | u32 body length | header (JSON, UTF-8) | body (bytes)`, little
endian. Never pickle. The header is an object with an `op`.

How a worker is started
    <user's python> -u .../batchpoint_worker/__main__.py --read-fd R --write-fd W --status-fd S
    [--control-fd C] [--lifeline-fd L]. The parent directory of the package is never put on
    `sys.path`. stdout and stderr stay the user's own and are pumped into the job's logs by the
    agent. The working directory it is started in is its own, and the agent's to delete. The worker
    makes itself leader of a process group if it was not started as one. SIGUSR1 makes it print
    where all its threads are to stderr.

    End of file on R means that the agent is gone: the worker kills its own process group at once,
    also in the middle of `run` (a daemon thread watches R). L is the read end of a pipe of this
    worker alone that nobody ever writes to, its write end held by the agent: on Linux the kernel
    itself then kills the whole group at end of file (O_ASYNC with SIGKILL as its signal), even when
    user code holds the interpreter. Without L, PR_SET_PDEATHSIG guards on Linux; it is bound to the
    *thread* that started the worker and spares grandchildren, so agents should give L.

Agent -> worker
    load      {mode: "script"|"mlflow", model_path, code_dir, scoring_script, logging_level,
              output_dir, harvest, render, action, threads, environment: {..}, coalesce,
              parameters: {name: text, number or truth value}, arguments: [text..]}
              Once per process. `output_dir` is the worker's own folder and is emptied. `harvest`
              takes what `init()` writes. `model_path`: the file or folder that is the single child
              of AZUREML_MODEL_DIR. `render`: "csv" | "jsonl" | "arrow" | "azure" | "none".
              `coalesce` (true when absent): a model without code may get the rows of several
              items in one call. `parameters`: a script's arguments (`--name value`), or the
              `params` of a model without code. `arguments` come before them, as they are.
    job       {environment: {..}, render, action, output_dir, coalesce}: before the first run of
              another job on the same loaded model. No answer; wrong values show in the results.
    run       {tasks: [{id, items: [{path, name, item, unit, start, stop, row, size}], rows: [a, b]
              or null, harvest: dir or ""}]}: run them one after the other. `path` is local and
              absolute; `rows` narrows a lone item to those of its rows (-1 = to the end). `harvest`
              is on the file system of `output_dir` and is made only when there are files; what was
              in it is replaced. Of an item only `path`, `name` and `item` must be there.
    fork      {slot}: only for a worker that said `forkable`; six file descriptors (read, write,
              status, lifeline as L above, stdout, stderr) come by SCM_RIGHTS with one byte on the
              control socket C (a stream socket), sent before this message. The child leads a
              process group of its own, works in a folder of its own within the parent's, says
              nothing more about loading and takes `job`, `run`, `shutdown`.
    index     {path, format, target_bytes}: cut a Parquet file by row groups (no model needed).
    assemble  {…}: write the one Parquet file from Arrow frames (see parquet_assembly.py).
    shutdown  {}: call the script's `shutdown()` if there is one, and exit 0.

Worker -> agent
    loaded      {seconds, forkable, loader, python, packages: {name: version}, warnings: [..],
                files: [[relative path, size]..]}: `files` were written by `init()` and lie in
                `load.harvest`.
    load_failed {error}: the worker then exits with status 1.
    results     {results: [{id, ok, seconds, rows, failed_rows, unattributed, slice_rows,
                failed_items: [{item, name, rows: n, error}], columns: [[name, type]..],
                files: [[relative path, size]..], encoding, length, failures_length, warnings: [..],
                error}]}; the body is, per result in order, `length` bytes of rendered rows followed
                by `failures_length` bytes of failure lines (JSON, one per failed row or item:
                {"item", "name", "row" or null, "type", "message", "traceback" or ""}).
                Results may be grouped: a worker flushes when its queue is empty, when 5 ms have
                passed since the oldest unflushed result (also while the next task runs), at 1 MB.
                Absent keys of a result have the values 0, "", [] or (slice_rows) -1: of a task that
                went well only what there is to tell is sent. `error` only when `ok` is false.
    forked      {slot, pid};  exited {slot, pid, status}: from a forking parent, about its children.
    indexed     {row_groups: [[rows, bytes unpacked, start, stop]..]}: each lies in the bytes
                `start` to `stop` of the file. assembled {…};  op_failed {error}
    bye         {}: answer to shutdown.

An `error` is {origin, type, message, traceback, file, line}: `traceback` is trimmed to the user's
frames, `file` and `line` are the user's own innermost frame.

Column types in `columns`: "int", "float", "bool", "string", "json", and "null" for a column without
any value so far, which is widened to whatever the others have. Rendered rows carry no header.
`encoding` of a frame is its `render`, or "jsonl" where "arrow" was asked for and the user's
environment has no pyarrow.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from typing import Any, Dict, List, Tuple

Header = Dict[str, Any]

HEADER = struct.Struct("<II")
STATUS = struct.Struct("<QQdqd")
STATUS_BYTES = 64
HEADER_BYTES_MAX = 64 * 1024 * 1024
BODY_BYTES_MAX = (1 << 32) - 1

# What a worker is doing, as told by its status page; survives the worker's death.
IDLE, LOADING, RUNNING, HARVESTING = 0, 1, 2, 3

# How many file descriptors come with `fork`: read, write, status, lifeline, stdout, stderr.
FORK_DESCRIPTORS = 6

_VERSION = struct.Struct("<Q")
_SLICE_ROWS = struct.Struct("<d")
_SLICE_ROWS_AT = STATUS.size - _SLICE_ROWS.size


class ProtocolError(Exception):
    """The other side sent something that is not a message."""


def encode(header: Header, body: bytes = b"") -> bytes:
    """Return the bytes of one message.

    Args:
        header: a JSON-able dict with an "op".
        body: raw bytes that travel beside it, below 4 GiB.

    Raises:
        ProtocolError: header or body is over its limit.
    """
    head = json.dumps(header, separators=(",", ":")).encode("ascii")
    if len(head) > HEADER_BYTES_MAX or len(body) > BODY_BYTES_MAX:
        raise ProtocolError("a message of %d + %d bytes is too large" % (len(head), len(body)))
    return b"".join((HEADER.pack(len(head), len(body)), head, body))


def read_exactly(fd: int, count: int) -> bytes:
    """Read `count` bytes from a file descriptor; raises EOFError when the other side is gone."""
    chunks: List[bytes] = []
    while count:
        chunk = os.read(fd, min(count, 1 << 20))
        if not chunk:
            raise EOFError("the other side closed the pipe")
        chunks.append(chunk)
        count -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read(fd: int) -> Tuple[Header, bytes]:
    """Read one message from a file descriptor and return (header, body)."""
    head_length, body_length = HEADER.unpack(read_exactly(fd, HEADER.size))
    if head_length > HEADER_BYTES_MAX:
        raise ProtocolError("a message header of %d bytes is over the limit" % head_length)
    header = json.loads(read_exactly(fd, head_length).decode("utf-8"))
    body = read_exactly(fd, body_length) if body_length else b""
    return header, body


def write(fd: int, header: Header, body: bytes = b"") -> None:
    """Write one message to a file descriptor."""
    data = memoryview(encode(header, body))
    while data:
        data = data[os.write(fd, data) :]


class StatusPage:
    """A page shared with the agent that says which task runs since when, at no cost per task.

    Fields: `task` (id of the running task), `since` (time.monotonic() when it began), `state`
    (IDLE, LOADING, RUNNING, HARVESTING) and `slice_rows` packed as a double (-1: unknown).
    Written by the worker, read by the agent, also after the worker has died. A version counter that
    is odd while a write is under way keeps a reader from mixing two tasks.
    """

    def __init__(self, fd: int) -> None:
        """Map the file behind `fd`, which is at least STATUS_BYTES long."""
        self._map = mmap.mmap(fd, STATUS_BYTES)
        self._version = 0

    def set(self, task: int, since: float, state: int, slice_rows: int = -1) -> None:
        """Publish what the worker does now."""
        version = self._version + 1
        _VERSION.pack_into(self._map, 0, version)
        STATUS.pack_into(self._map, 0, version, task, since, state, slice_rows)
        self._version = version + 1
        _VERSION.pack_into(self._map, 0, version + 1)

    def set_slice_rows(self, slice_rows: int) -> None:
        """Publish how many rows the lone slice of the running task has."""
        _SLICE_ROWS.pack_into(self._map, _SLICE_ROWS_AT, slice_rows)

    def get(self) -> Tuple[int, float, int, int]:
        """Return (task, since, state, slice_rows) as last published."""
        for _ in range(1000):
            version, task, since, state, slice_rows = STATUS.unpack_from(self._map, 0)
            if version % 2 == 0 and _VERSION.unpack_from(self._map, 0)[0] == version:
                break
        else:  # the worker died in the middle of a write; what is there is the best there is
            _, task, since, state, slice_rows = STATUS.unpack_from(self._map, 0)
        return task, since, state, int(slice_rows)

    def close(self) -> None:
        """Unmap the page."""
        self._map.close()
