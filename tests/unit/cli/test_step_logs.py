"""Lines of steps' logs: as they arrive, each once, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from batchpoint.cli.step_logs import StepLogs
from batchpoint.domain.errors import NotFound
from batchpoint.domain.job import JobState
from batchpoint.domain.results import StoredFile
from tests.unit.cli.pipeline_jobs import step_job
from tests.unit.resolved_jobs import NOON


class Server:
    """What a server keeps of the logs of jobs: bytes by job and path."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, bytes]] = {}
        self.asked = 0

    def job(self, name: str) -> Handle:
        self.asked += 1
        return Handle(self.kept.setdefault(name, {}))


class Handle:
    """A job's logs."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept = kept

    def logs(self) -> list[StoredFile]:
        return [
            StoredFile(path=path, size=len(data), modified_at=NOON)
            for path, data in self.kept.items()
        ]

    def log(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        data = self.kept[path]
        if data == b"gone":
            raise NotFound("gone", code="output_not_found")
        for start in range(offset, len(data), 5):
            yield data[start : start + 5]


def reader(server: Server) -> tuple[StepLogs, list[str]]:
    lines: list[str] = []
    logs = StepLogs(
        cast("Any", server), lambda job, step, line: lines.append(f"{job}/{step}: {line}")
    )
    return logs, lines


def test_lines_come_once_and_whole() -> None:
    server = Server()
    logs, lines = reader(server)
    running = step_job("a", state=JobState.RUNNING)
    kept = server.kept.setdefault(running.name, {"job.log": b"ours\n"})
    logs.read([running])
    assert lines == []
    kept["user/std_log.txt"] = b"one\r\ntwo\nthr"
    logs.read([running])
    logs.read([running])
    assert lines == ["heart-1-a/a: one", "heart-1-a/a: two"]
    kept["user/std_log.txt"] += b"ee\n"
    kept["user/std_log-2.txt"] = b"again"
    logs.read([running])
    assert lines[2:] == ["heart-1-a/a: three"]
    logs.read([step_job("a")])
    logs.read([step_job("a")])
    assert lines[3:] == ["heart-1-a/a: again"]
    assert server.asked == 1


def test_steps_are_interleaved_as_their_lines_arrive() -> None:
    server = Server()
    logs, lines = reader(server)
    steps = [step_job("a", state=JobState.RUNNING), step_job("b", state=JobState.RUNNING)]
    for number in range(2):
        for step in steps:
            kept = server.kept.setdefault(step.name, {})
            kept["user/x"] = kept.get("user/x", b"") + f"{number}\n".encode()
            logs.read(steps)
    assert [line.partition("/")[2] for line in lines] == ["a: 0", "b: 0", "a: 1", "b: 1"]


def test_nothing_is_asked_for_what_has_not_run() -> None:
    server = Server()
    logs, lines = reader(server)
    logs.read([step_job("a", state=JobState.QUEUED), step_job("b", reused_from="x")])
    logs.read([step_job("c", state=JobState.CANCELED, started_at=None)])
    assert (server.asked, lines) == (0, [])


def test_a_line_without_an_end_is_shown_in_pieces() -> None:
    server = Server()
    logs, lines = reader(server)
    running = step_job("a", state=JobState.RUNNING)
    server.kept[running.name] = {"user/x": b"x" * 20_000}
    logs.read([running])
    assert [len(line.rpartition(" ")[2]) for line in lines] == [8_192, 8_192]


def test_a_log_that_has_gone_is_no_error() -> None:
    server = Server()
    logs, lines = reader(server)
    ended = step_job("a")
    server.kept[ended.name] = {"user/x": b"gone", "user/y": b"here\n"}
    logs.read([ended])
    assert lines == ["heart-1-a/a: here"]
