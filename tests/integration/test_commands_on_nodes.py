"""Commands on real agents: what they print, how they end, and that nothing outlives that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from batchpoint.domain import limits
from batchpoint.domain.errors import Conflict, Unavailable
from batchpoint.node.agent_connection import AgentConnection
from batchpoint.node.command_attempt import withdraw_attempt
from batchpoint.node.command_order import CommandEnd, CommandOrder
from tests.integration.agent_harness import AgentProcess, alive, until
from tests.integration.command_orders import data, log_of, order, output


@pytest.fixture
def agent(tmp_path: Path):
    made = AgentProcess.start(tmp_path)
    yield made
    made.end()


@pytest.fixture
async def node(agent: AgentProcess) -> AsyncIterator[AgentConnection]:
    connection = await agent.connect()
    yield connection
    await connection.close()


def printed_pids(given: CommandOrder, count: int) -> list[int]:
    """The process ids that a command has printed, a line each, once it has printed them all."""
    try:
        lines = log_of(given).splitlines()
    except FileNotFoundError:
        return []
    pids = [int(line.split()[1]) for line in lines if line.startswith("pid ")]
    return pids if len(pids) >= count else []


async def started(node: AgentConnection, given: CommandOrder, count: int):
    """Run a command until it has printed so many process ids."""
    running = asyncio.create_task(node.run_command(given))
    await until(lambda: running.done() or len(printed_pids(given, count)) == count)
    assert not running.done(), running.result()
    return running, printed_pids(given, count)


def left_behind(given: CommandOrder) -> list[str]:
    """Scratch folders and half outputs that an attempt should have removed."""
    work = given.job_dir / "work"
    partial = given.job_dir.parents[2].rglob("*.partial")
    return [str(path) for path in (*([work] if work.exists() else []), *partial)]


# Grandchildren in sessions of their own, whose parents have ended.
ESCAPE = """
setsid sh -c 'setsid sleep 1000 & echo pid $!' &
(sleep 1001 & echo pid $!) &
python -c '
import os, sys, time
if os.fork() == 0:
    os.setsid()
    pid = os.fork()
    if pid == 0:
        time.sleep(1002)
    print("pid", pid, flush=True)
    os._exit(0)
os.wait()
' &
wait
echo pid $$
"""


async def test_a_command_reads_its_inputs_and_its_outputs_appear(tmp_path, node):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1\n2\n")
    code = tmp_path / "code"
    code.mkdir()
    (code / "total.py").write_text(
        "import pathlib, sys\n"
        "source, folder, file = sys.argv[1:]\n"
        "rows = [int(line) for line in open(source + '/a.csv')]\n"
        "pathlib.Path(folder, 'sum.txt').write_text(str(sum(rows)))\n"
        "pathlib.Path(file).write_text('one file')\n"
        "print('done')\n"
    )
    given = order(
        tmp_path,
        "python total.py ${{inputs.data}} ${{outputs.folder}} ${{outputs.file}}",
        inputs={"data": data(tmp_path / "in")},
        outputs={
            "folder": output(tmp_path / "out" / "folder"),
            "file": output(tmp_path / "out" / "file.txt", "uri_file"),
        },
        code=code,
    )
    end = await node.run_command(given)
    assert (end.outcome, end.exit_code, end.error) == ("completed", 0, None)
    assert (tmp_path / "out" / "folder" / "sum.txt").read_text() == "3"
    assert (tmp_path / "out" / "file.txt").read_text() == "one file"
    assert {name: told.uri for name, told in end.outputs.items()} == {
        "folder": str(tmp_path / "out" / "folder"),
        "file": str(tmp_path / "out" / "file.txt"),
    }
    assert all(told.hash for told in end.outputs.values())
    assert log_of(given) == "done\n"
    assert left_behind(given) == []
    assert list(code.iterdir()) == [code / "total.py"]  # it ran in a copy


HOSTILE = [
    "two words",
    "",
    "$(touch OWNED)",
    "`touch OWNED`",
    "'; touch OWNED; '",
    '"; touch OWNED; "',
    "${HOME} $((1+1)) * ? ~ !! \\",
    "-rf",
    "a\nb\tc\r",
    "ünï ☃ \U0001f600",
    "${{inputs.value}}",
    "x" * 60_000,
]


@pytest.mark.parametrize(
    "template",
    [
        "printf %s ${{inputs.value}} > ${{outputs.file}}",
        "printf %s '${{inputs.value}}' > ${{outputs.file}}",
        'printf %s "${{inputs.value}}" > "${{outputs.file}}"',
        "cat > ${{outputs.file}} <<END\n${{inputs.value}}\nEND",
    ],
    ids=["bare", "single", "double", "heredoc"],
)
async def test_values_arrive_as_they_are_and_are_never_run(tmp_path, node, template):
    for number, value in enumerate(HOSTILE):
        target = tmp_path / "out put; touch OWNED" / f"it's $(x) {number}.txt"
        given = order(
            tmp_path,
            template,
            inputs={"value": value},
            outputs={"file": output(target, "uri_file")},
        )
        end = await node.run_command(given)
        assert end.error is None
        assert target.read_bytes().decode() == value + ("\n" if "END" in template else "")
    assert not list(tmp_path.rglob("OWNED"))


async def test_what_a_command_finds_around_it(tmp_path, node):
    given = order(
        tmp_path,
        "pwd; ls -A; echo job=$BATCHPOINT_JOB run=$AZUREML_RUN_ID; which python; "
        'echo ours=$OURS theirs=$THEIRS both=$BOTH; env | grep -c "^PYTHONPATH" ; '
        'env | grep ^BATCHPOINT_ | grep -v "_JOB="; [ -t 0 ] || cat; echo threads=$OMP_NUM_THREADS',
        variables={"OURS": "1", "BOTH": "ours"},
        own={"THEIRS": "2", "BOTH": "theirs"},
    )
    end = await node.run_command(given)
    assert end.outcome == "completed"
    lines = log_of(given).splitlines()
    assert lines[0].startswith(str(given.job_dir / "work"))
    assert lines[1] == f"job={given.job} run={given.job}"
    assert lines[2] == str(Path(given.spec.environment.python).parent / "python")
    assert lines[3:] == [
        "ours=1 theirs=2 both=theirs",
        "0",
        f"threads={len(os.sched_getaffinity(0))}",
    ]


@pytest.mark.parametrize(
    ("command", "exit_code", "words"),
    [
        ("exit 3", 3, "the command exited with code 3, and printed nothing"),
        ("echo no such column >&2; exit 2", 2, "no such column (the command exited with code 2)"),
        ("no-such-program", 127, "no-such-program: command not found"),
        ("touch x; ./x", 126, "chmod +x"),
        ("kill -9 $$", -9, "SIGKILL"),
        ("sh -c 'kill -9 $$'; exit $?", 137, "SIGKILL"),
        ("kill -SEGV $$", -11, "segmentation fault"),
        (
            "python -c 'import json; json.loads(\"{\")'",
            1,
            "json.decoder.JSONDecodeError: Expecting property name",
        ),
    ],
)
async def test_a_failure_tells_its_own_cause(tmp_path, node, command, exit_code, words):
    given = order(tmp_path, command, outputs={"out": output(tmp_path / "out")})
    end = await node.run_command(given)
    assert (end.outcome, end.exit_code) == ("failed", exit_code)
    assert end.error is not None
    assert end.error.code == "command_failed"
    assert end.error.origin == "user"
    assert words in end.error.message
    assert not (tmp_path / "out").exists()
    assert left_behind(given) == []


async def test_an_exception_leads_with_its_line_and_the_frames_of_user_code(tmp_path, node):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(
        "import pathlib\n\ndef fit():\n    pathlib.Path('/nowhere/x.csv').read_text()\n\nfit()\n"
    )
    given = order(tmp_path, "python train.py", code=tmp_path / "code")
    error = (await node.run_command(given)).error
    assert error is not None
    assert error.message.startswith("FileNotFoundError: [Errno 2] No such file or directory")
    assert error.type == "FileNotFoundError"
    assert error.line == "train.py:4"
    assert error.traceback is not None
    assert "pathlib.py" not in error.traceback
    assert "in fit" in error.traceback
    assert error.log == "logs/user/std_log.txt"


async def test_processes_that_escape_end_with_the_command(tmp_path, node):
    given = order(tmp_path, ESCAPE)
    end = await node.run_command(given)
    assert end.outcome == "completed"
    pids = printed_pids(given, 4)
    assert len(pids) == 4
    assert not any(map(alive, pids))


async def test_a_stop_ends_everything_after_a_moment(tmp_path, node):
    patient = "trap 'echo asked; exit 0' TERM; echo pid $$; while :; do sleep 0.05; done"
    given = order(tmp_path, patient, outputs={"out": output(tmp_path / "out")})
    running, pids = await started(node, given, 1)
    await node.stop_command(given.job)
    end = await running
    assert end.outcome == "stopped"
    assert "asked" in log_of(given)
    assert not any(map(alive, pids))
    assert not (tmp_path / "out").exists()
    assert left_behind(given) == []


IGNORES = """
trap '' TERM INT HUP
setsid python -c '
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("pid", os.getpid(), flush=True)
time.sleep(1000)
' &
echo pid $$
while :; do sleep 0.1; done
"""


async def test_what_ignores_a_stop_is_killed(tmp_path, node):
    given = order(tmp_path, IGNORES)
    running, pids = await started(node, given, 2)
    begun = asyncio.get_running_loop().time()
    await node.stop_command(given.job)
    end = await running
    assert end.outcome == "stopped"
    assert limits.CANCEL_GRACE_SECONDS <= asyncio.get_running_loop().time() - begun < 8
    assert not any(map(alive, pids))


async def test_a_timeout_says_so_and_ends_everything(tmp_path, node):
    given = order(tmp_path, "echo still loading; " + IGNORES, timeout_seconds=1)
    end = await node.run_command(given)
    assert end.outcome == "timed_out"
    assert end.error is not None
    assert end.error.code == "command_timed_out"
    assert "longer than 1 s" in end.error.message
    assert not any(map(alive, printed_pids(given, 2)))


async def test_a_flood_is_cut_and_the_cause_is_still_told(tmp_path, node):
    given = order(
        tmp_path,
        "head -c 90000000 /dev/zero | tr '\\0' 'x' | fold -w 100; echo; "
        "echo the very cause; exit 5",
    )
    end = await node.run_command(given)
    assert end.error is not None
    assert end.error.message.startswith("the very cause")
    log = given.job_dir / "logs" / "user" / "std_log.txt"
    assert log.stat().st_size <= limits.LOG_BYTES_PER_FILE_MAX + 100
    assert "truncated" in log.read_bytes()[-100:].decode()


async def test_a_hang_up_kills_everything_and_the_next_attempt_is_clean(tmp_path, agent):
    node = await agent.connect()
    given = order(
        tmp_path,
        f"echo half > ${{{{outputs.out}}}}/half; {ESCAPE.rsplit('wait', 1)[0]} sleep 1000",
        outputs={"out": output(tmp_path / "out")},
    )
    running, pids = await started(node, given, 3)
    node.hang_up()
    with pytest.raises(Unavailable):
        await running
    await until(lambda: not any(map(alive, pids)))
    await until(lambda: left_behind(given) == [])
    again = await agent.connect()
    whole = order(
        tmp_path,
        "ls ${{outputs.out}}; echo whole > ${{outputs.out}}/whole",
        outputs={"out": output(tmp_path / "out")},
        job=given.job,
    )
    end = await again.run_command(whole)
    assert end.outcome == "completed"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]
    await again.close()


async def test_a_killed_agent_takes_everything_with_it(tmp_path, agent):
    node = await agent.connect()
    given = order(
        tmp_path,
        f"echo half > ${{{{outputs.out}}}}/half; {ESCAPE.rsplit('wait', 1)[0]} sleep 1000",
        outputs={"out": output(tmp_path / "out")},
    )
    running, pids = await started(node, given, 3)
    agent.process.send_signal(signal.SIGKILL)
    with pytest.raises(Unavailable):
        await running
    await asyncio.to_thread(withdraw_attempt, given)  # waits until nothing runs any more
    assert not any(map(alive, pids))
    assert left_behind(given) == []
    assert not (tmp_path / "out").exists()


async def test_the_end_of_the_supervisor_ends_everything(tmp_path, agent):
    node = await agent.connect()
    given = order(tmp_path, f"{ESCAPE.rsplit('wait', 1)[0]} sleep 1000")
    running, pids = await started(node, given, 3)
    guards = agent.workers()
    agent.cut_lifeline()
    with pytest.raises(Unavailable):
        await running
    await until(lambda: not any(map(alive, [*pids, *guards])))
    assert agent.process.wait(10) == 0


async def test_a_command_that_kills_or_stops_its_guard_gains_nothing(tmp_path, node):
    killed = order(tmp_path, "setsid sleep 1000 & echo pid $!; kill -9 $PPID; sleep 1000")
    end = await node.run_command(killed)
    assert end.error is not None
    assert "guard" in end.error.message
    pids = printed_pids(killed, 1)
    assert pids
    await until(lambda: not any(map(alive, pids)))
    after = await node.run_command(order(tmp_path, "true"))
    assert after.outcome == "completed"


async def test_a_stopped_guard_does_its_duty_all_the_same(tmp_path, node):
    given = order(tmp_path, "echo pid $$; kill -STOP $PPID; sleep 1000", timeout_seconds=1)
    assert (await node.run_command(given)).outcome == "timed_out"
    assert not any(map(alive, printed_pids(given, 1)))


BREEDS = """
import os, time
print("pid", os.getpid(), flush=True)
for _ in range(40):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork() == 0:
                time.sleep(0.02)
                os._exit(0)
            time.sleep(0.005)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
time.sleep(0.3)
"""


async def test_what_forks_and_forks_ends_too(tmp_path, agent, node):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "breed.py").write_text(BREEDS)
    given = order(tmp_path, "python breed.py", code=tmp_path / "code")
    end = await node.run_command(given)
    assert end.outcome == "completed"
    (guard,) = psutil.Process(agent.process.pid).children(recursive=True)
    assert "command_guard" in " ".join(guard.cmdline())


async def test_a_node_runs_one_command_at_a_time(tmp_path, agent, node):
    given = order(tmp_path, "echo pid $$; exec sleep 1000")
    running, _ = await started(node, given, 1)
    with pytest.raises(Conflict, match=given.job):
        await node.run_command(order(tmp_path, "true"))
    other = await agent.connect()
    with pytest.raises(Unavailable):
        await other.run_command(order(tmp_path, "true"))
    await node.stop_command("somebody-else")
    assert not running.done()
    await node.stop_command(given.job)
    assert (await running).outcome == "stopped"
    other.hang_up()


async def test_two_attempts_of_one_job_never_run_together(tmp_path, agent):
    node = await agent.connect()
    given = order(tmp_path, "echo pid $$; exec sleep 1000")
    running, pids = await started(node, given, 1)
    (tmp_path / "second").mkdir()
    second = AgentProcess.start(tmp_path / "second")
    try:
        other = await second.connect()
        waiting = asyncio.create_task(
            other.run_command(order(tmp_path, "echo second", job=given.job, attempt=2))
        )
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        assert all(map(alive, pids))
        await node.stop_command(given.job)
        assert (await running).outcome == "stopped"
        assert (await waiting).outcome == "completed"
        await other.close()
    finally:
        second.end()
    with contextlib.suppress(Unavailable):
        await node.close()


async def test_ends_survive_the_wire():
    end = CommandEnd("failed", 1.5, -9)
    assert CommandEnd.from_json(end.to_json()) == end


async def test_no_descriptor_and_no_process_is_leaked(tmp_path, agent, node):
    await node.run_command(order(tmp_path, "true"))
    before, family = agent.descriptors(), len(agent.workers())
    for _ in range(10):
        await node.run_command(order(tmp_path, "sleep 100 & exit 1"))
    await until(lambda: agent.descriptors() == before)
    assert len(agent.workers()) == family
    (guard,) = psutil.Process(agent.process.pid).children()
    assert guard.num_fds() <= 8


async def test_commands_see_no_secrets_of_ours(tmp_path, monkeypatch):
    """Neither among their own variables nor among those of the process that started them."""
    monkeypatch.setenv("BATCHPOINT_SECRETS_KEY", "the-key-of-the-server")
    agent = AgentProcess.start(tmp_path)
    try:
        node = await agent.connect()
        given = order(tmp_path, "env; tr '\\0' '\\n' < /proc/$PPID/environ; echo done")
        assert (await node.run_command(given)).outcome == "completed"
        await node.close()
    finally:
        agent.end()
    assert "the-key-of-the-server" not in log_of(given)
    assert "PATH=" in log_of(given)
    assert log_of(given).endswith("done\n")
