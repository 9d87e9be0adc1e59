"""An agent with real workers: what is scored, reported and left behind."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint.domain.errors import Unavailable
from batchpoint.domain.minibatch import Slice
from batchpoint.formats.parts import PartReader
from batchpoint.node.user_log import UserLog
from batchpoint.storage.locate import etag_of
from tests.integration.agent_harness import AgentProcess, Tiny, listen, rows_of, run, served, until

ECHO = """
def init():
    print("init was here")
def run(mini_batch):
    return [open(path).read().strip() for path in mini_batch]
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    started = AgentProcess.start(tmp_path)
    yield started
    started.end()


async def test_every_mini_batch_is_scored_once_and_echoed(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(tmp_path, ECHO, files=20)
    heard = await run(agent, job)
    assert sorted(r.task for r in heard.results) == [a.task for _, a in job.work()]
    assert {(r.outcome, r.attempt, r.rows) for r in heard.results} == {("scored", 1, 2)}
    assert sorted(i for r in heard.results for i in r.items) == list(range(20))
    rows = rows_of(job, heard)
    assert "".join(rows[i] for i in sorted(rows)) == "".join(
        f"f{i:05d}.txt,content {i}\n" for i in range(20)
    )
    assert heard.ready == 1
    logs = [path.read_text() for path in job.folder.logs.glob("user/*")]
    assert set(logs) == {"init was here\n"}


async def test_a_second_job_of_the_same_kind_needs_no_loading(
    agent: AgentProcess, tmp_path: Path
) -> None:
    first = Tiny(tmp_path, ECHO, files=4)
    async with served(agent, first) as connection:
        connection.assign(first.work())
        await listen(connection, lambda h: any(beat.workers == 2 for beat in h.heartbeats))
    workers = sorted(agent.workers())
    second = Tiny(tmp_path, ECHO, files=6, job="second", epoch=7)
    heard = await run(agent, second)
    assert len(heard.of("scored")) == 3
    assert sorted(agent.workers()) == workers
    assert not list(second.folder.logs.glob("user/*")), "init() did not run again"


async def test_other_variables_mean_other_workers(agent: AgentProcess, tmp_path: Path) -> None:
    script = "import os\ndef init(): pass\ndef run(b): return [os.environ['MOOD'] for _ in b]\n"
    first = Tiny(tmp_path, script, files=2, variables={"MOOD": "calm"})
    assert rows_of(first, await run(agent, first))[0] == "f00000.txt,calm\nf00001.txt,calm\n"
    before = set(agent.workers())
    second = Tiny(tmp_path, script, files=2, job="second", variables={"MOOD": "wild"})
    assert rows_of(second, await run(agent, second))[0] == "f00000.txt,wild\nf00001.txt,wild\n"
    await until(lambda: len(agent.workers()) == 2)
    assert not before & set(agent.workers())


async def test_the_variables_of_the_contract(agent: AgentProcess, tmp_path: Path) -> None:
    script = """
import os
def init(): pass
def run(batch):
    model = os.environ["AZUREML_MODEL_DIR"]
    assert os.environ["BATCHPOINT_MODEL_DIR"] == model
    [only] = os.listdir(model)
    out = os.environ["AZUREML_BI_OUTPUT_PATH"]
    assert os.path.isdir(out) and os.environ["BATCHPOINT_OUTPUT_PATH"] == out
    return [" ".join((only, open(os.path.join(model, only)).read(), os.environ["OMP_NUM_THREADS"],
             os.environ["AZUREML_RUN_ID"], os.environ.get("PYTHONPATH", "none"))) for _ in batch]
"""
    job = Tiny(tmp_path, script, files=1, slots=2)
    threads = max(1, len(os.sched_getaffinity(0)) // 2) if sys.platform == "linux" else 1
    assert rows_of(job, await run(agent, job))[0] == (
        f"f00000.txt,model.bin weights {threads} tiny none\n"
    )


async def test_files_of_scripts_are_harvested_and_named_in_the_frame(
    agent: AgentProcess, tmp_path: Path
) -> None:
    script = """
import os
out = None
def init():
    global out
    out = os.environ["AZUREML_BI_OUTPUT_PATH"]
    open(os.path.join(out, "labels.txt"), "w").write("a b c")
def run(batch):
    for path in batch:
        name = os.path.basename(path)
        open(os.path.join(out, name), "w").write("seen " + name)
        if name == "f00002.txt":
            raise ValueError("half of it is written")
    return list(batch)
"""
    job = Tiny(tmp_path, script, files=4, per_batch=1, action="summary_only")
    heard = await run(agent, job)
    found: dict[str, str] = {}
    for report in heard.reports:
        if report.part is None:
            continue
        with PartReader(job.folder.part(report.part)) as reader:
            for frame in reader.frames:
                assert frame.files is not None
                for name, size in frame.files.files:
                    text = (job.folder.files / frame.files.folder / name).read_text()
                    assert len(text) == size
                    found[name] = text
    assert found == {f"f0000{i}.txt": f"seen f0000{i}.txt" for i in (0, 1, 3)}
    folders = [path.name for path in job.folder.files.iterdir()]
    assert len(folders) == 4, "three tasks and what init() wrote; nothing of the failed one"
    assert (job.folder.files / "000001-n1-init" / "labels.txt").read_text() == "a b c"


async def test_a_large_result_goes_through(agent: AgentProcess, tmp_path: Path) -> None:
    script = "def init(): pass\ndef run(b): return ['x' * 40_000_000 for _ in b]\n"
    job = Tiny(tmp_path, script, files=2, per_batch=1)
    heard = await run(agent, job)
    assert [len(rows) for rows in rows_of(job, heard).values()] == [40_000_012] * 2
    assert all(len(report.results) == 1 for report in heard.reports), "one part each"


async def test_what_user_code_prints_is_kept_up_to_a_limit(tmp_path: Path) -> None:
    log = UserLog(tmp_path / "deep" / "log.txt", bytes_max=100)
    for number in range(30):
        log.write(b"line %d\n" % number)
    log.close()
    text = (tmp_path / "deep" / "log.txt").read_text()
    assert text.startswith("line 0\nline 1\n")
    assert text.count("truncated") == 1
    assert text.endswith("\n")
    again = UserLog(tmp_path / "deep" / "log.txt", bytes_max=100)
    again.write(b"of another worker\n")
    again.close()
    assert (tmp_path / "deep" / "log.txt").read_text() == text


async def test_a_storm_of_prints_hurts_nobody(agent: AgentProcess, tmp_path: Path) -> None:
    script = """
import sys
def init(): pass
def run(batch):
    for _ in range(20000):
        print("x" * 100)
    sys.stderr.write("no line end")
    return list(batch)
"""
    job = Tiny(tmp_path, script, files=8)
    heard = await run(agent, job)
    assert len(heard.of("scored")) == 4
    text = "".join(path.read_text() for path in job.folder.logs.glob("user/*"))
    assert text.count("x" * 100 + "\n") == 80000


async def test_logs_that_cannot_be_written_hurt_nobody(agent: AgentProcess, tmp_path: Path) -> None:
    job = Tiny(tmp_path, ECHO, files=4)
    (job.folder.logs / "user").rmdir()
    (job.folder.logs / "user").write_text("in the way")
    assert len((await run(agent, job)).of("scored")) == 2


async def test_a_script_gets_slices_as_files_with_the_header(
    agent: AgentProcess, tmp_path: Path
) -> None:
    source = tmp_path / "big.csv"
    source.write_bytes(b'"a\n,b",c\n1,2\n3,4\n5,6\n')
    etag = etag_of(source.stat())
    slices = [
        Slice(0, f"file://{source}", "big.csv", 21, etag, "bytes", 9, 13, 0),
        Slice(0, f"file://{source}", "big.csv", 21, etag, "bytes", 13, 21, 1),
    ]
    script = """
import os
def init(): pass
def run(batch):
    [path] = batch
    return [os.path.basename(path) + "|" + open(path, newline="").read().replace("\\n", "/")]
"""
    job = Tiny(tmp_path, script, slices=slices, per_batch=1)
    rows = rows_of(job, await run(agent, job))
    assert rows[0] == 'big.csv,"big-000000000009.csv|""a/,b"",c/1,2/"\n'
    assert rows[1] == 'big.csv,"big-000000000013.csv|""a/,b"",c/3,4/5,6/"\n'
    await until(lambda: not list(tmp_path.glob("agent.work/epoch-*/*")))


async def test_an_input_that_is_gone_is_a_failed_attempt(
    agent: AgentProcess, tmp_path: Path
) -> None:
    source = tmp_path / "gone.csv"
    slices = [Slice(0, f"file://{source}", "gone.csv", 21, "e", "bytes", 9, 13, 0)]
    job = Tiny(tmp_path, ECHO, slices=slices, per_batch=1)
    [result] = (await run(agent, job)).results
    assert result.outcome == "failed"
    assert result.error is not None
    assert (result.error.origin, result.error.kind) == ("input", "input_unreadable")
    assert str(source) in result.error.message


async def test_a_second_runner_is_refused_while_one_is_served(
    agent: AgentProcess, tmp_path: Path
) -> None:
    job = Tiny(tmp_path, ECHO)
    async with served(agent, job):
        second = await agent.connect()
        with pytest.raises(Unavailable, match="serves another runner"):
            await second.open(job.order)
        await second.close()
    assert len((await run(agent, job)).of("scored")) == 4


async def test_parts_are_never_named_twice(agent: AgentProcess, tmp_path: Path) -> None:
    job = Tiny(tmp_path, ECHO, files=2)
    parts = [(await run(agent, job)).reports[0].part for _ in range(3)]
    assert len(set(parts)) == 3


async def test_noise_on_the_socket_disturbs_nobody(agent: AgentProcess, tmp_path: Path) -> None:
    await (await agent.connect()).close()
    reader, writer = await asyncio.open_unix_connection(str(agent.socket))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert len((await run(agent, Tiny(tmp_path, ECHO))).of("scored")) == 4
