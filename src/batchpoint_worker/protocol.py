"""The contract between node agent and scoring worker: framed messages on private pipes.

The worker owns this contract and the big system imports it from here. Stdlib only, Python >= 3.8.

A message is `u32 header length | u32 body length | header (JSON, UTF-8) | body (bytes)`, little
endian. Never pickle. The header is an object with an `op`.

How a worker is started
    <user's python> -u .../batchpoint_worker/__main__.py --read-fd R --write-fd W --status-fd S
    [--control-fd C]. The parent directory of the package is never put on `sys.path`. stdout and
    stderr stay the user's own and are pumped into the job's logs by the agent. End of file on R
    means that the agent is gone: the worker kills its own process group at once, also in the middle
    of `run` (a daemon thread watches a dup of the lifeline; on Linux PR_SET_PDEATHSIG as well).

Agent -> worker
    load      {mode: "script"|"mlflow", model_path, code_dir, scoring_script, logging_level,
              output_dir, render, action, threads, environment: {..}}
              Once per process. `model_path`: the file or folder that is the single child of
              AZUREML_MODEL_DIR. `render`: "csv" | "jsonl" | "arrow" | "azure" | "none".
    job       {environment: {..}, render, action, output_dir}: before the first run of another job.
    run       {tasks: [{id, items: [{path, name, item, unit, start, stop, row, size}], rows: [a, b]
              or null, harvest: dir or ""}]}: run them one after the other. `path` is local and
              absolute; `rows` narrows a lone item to those of its rows (-1 = to the end).
    fork      {slot}: only for a worker that said `forkable`; four file descriptors (read, write,
              status, lifeline unused) + stdout, stderr come by SCM_RIGHTS on the control socket.
    index     {path, format, target_bytes}: cut a Parquet file by row groups (no model needed).
    assemble  {…}: write the one Parquet file from Arrow frames (see parquet_assembly.py).
    shutdown  {}: call the script's `shutdown()` if there is one, and exit 0.

Worker -> agent
    loaded      {seconds, forkable, loader, python, packages: {name: version}, warnings: [..]}
    load_failed {error}
    results     {results: [{id, ok, seconds, rows, failed_rows, unattributed, slice_rows,
                failed_items: [{item, name, rows: n, error}], columns: [[name, type]..],
                files: [[relative path, size]..], encoding, length, failures_length, warnings: [..],
                error}]}; the body is, per result in order, `length` bytes of rendered rows followed
                by `failures_length` bytes of failure lines (JSON, one per failed row or item:
                {"item", "name", "row" or null, "type", "message", "traceback" or ""}).
                Results may be grouped: a worker flushes when its queue is empty, when 5 ms have
                passed since the oldest unflushed result, or at 1 MB.
    forked      {slot, pid};  exited {slot, pid, status}: from a forking parent, about its children.
    indexed     {row_groups: [[rows, bytes]..]};  assembled {…};  op_failed {error}
    bye         {}: answer to shutdown.

An `error` is {origin, type, message, traceback, file, line}: `traceback` is trimmed to the user's
frames, `file` and `line` are the user's own innermost frame.

Column types in `columns`: "int", "float", "bool", "string", "json". Rendered rows carry no header.
"""

import json
import mmap
import os
import struct

HEADER = struct.Struct("<II")
STATUS = struct.Struct("<Qdqd")
STATUS_BYTES = 64
HEADER_BYTES_MAX = 64 * 1024 * 1024

# What a worker is doing, as told by its status page; survives the worker's death.
IDLE, LOADING, RUNNING, HARVESTING = 0, 1, 2, 3


class ProtocolError(Exception):
    """The other side sent something that is not a message."""


def encode(header, body=b""):
    """Return the bytes of one message.

    Args:
        header: a JSON-able dict with an "op".
        body: raw bytes that travel beside it.
    """
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return b"".join((HEADER.pack(len(head), len(body)), head, body))


def read_exactly(fd, count):
    """Read `count` bytes from a file descriptor; raises EOFError when the other side is gone."""
    chunks = []
    while count:
        chunk = os.read(fd, min(count, 1 << 20))
        if not chunk:
            raise EOFError("the other side closed the pipe")
        chunks.append(chunk)
        count -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read(fd):
    """Read one message from a file descriptor and return (header, body)."""
    head_length, body_length = HEADER.unpack(read_exactly(fd, HEADER.size))
    if head_length > HEADER_BYTES_MAX:
        raise ProtocolError("a message header of %d bytes is over the limit" % head_length)
    header = json.loads(read_exactly(fd, head_length).decode("utf-8"))
    body = read_exactly(fd, body_length) if body_length else b""
    return header, body


def write(fd, header, body=b""):
    """Write one message to a file descriptor."""
    data = memoryview(encode(header, body))
    while data:
        data = data[os.write(fd, data) :]


class StatusPage:
    """A page shared with the agent that says which task runs since when, at no cost per task.

    Fields: `task` (id of the running task), `since` (time.monotonic() when it began), `state`
    (IDLE, LOADING, RUNNING, HARVESTING) and `slice_rows` packed as a double (-1: unknown).
    Written by the worker, read by the agent, also after the worker has died.
    """

    def __init__(self, fd):
        """Map the file behind `fd`, which is at least STATUS_BYTES long."""
        self._map = mmap.mmap(fd, STATUS_BYTES)

    def set(self, task, since, state, slice_rows=-1):
        """Publish what the worker does now."""
        STATUS.pack_into(self._map, 0, task, since, state, float(slice_rows))

    def get(self):
        """Return (task, since, state, slice_rows) as last published."""
        task, since, state, slice_rows = STATUS.unpack_from(self._map, 0)
        return task, since, state, int(slice_rows)

    def close(self):
        """Unmap the page."""
        self._map.close()
