"""Real processes fight over one job: whoever lost the lease has written nothing."""

import json
import subprocess
import sys
from pathlib import Path

from batchpoint.domain.job import JobState
from batchpoint.ledger.ledger import Ledger
from tests.unit.resolved_jobs import new_job

ROUNDS = 40

# Takes the lease by force, writes twice, and tells what it was told, line by line.
CONTENDER = """
import json, sys
from pathlib import Path
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import JobState, JobStatus
from batchpoint.ledger.ledger import Ledger

ledger, owner = Ledger(Path(sys.argv[1])), sys.argv[2]
status = JobStatus(state=JobState.RUNNING)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    epoch = ledger.acquire_lease("j-1", owner, 1.0 + number, 15, force=True)
    for turn in range(2):
        record = f"{owner}/{epoch}/{turn}"
        try:
            ledger.renew("j-1", epoch, 1.0 + number, 15, status=status, records=record.encode())
            print(json.dumps([epoch, record, "kept"]), flush=True)
        except Unavailable as error:
            assert error.code == "lease_lost", error
            print(json.dumps([epoch, record, "lost"]), flush=True)
"""

FINISHER = """
import sys
from pathlib import Path
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.job import JobState, JobStatus
from batchpoint.ledger.ledger import Ledger

ledger, owner = Ledger(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    job = f"j-{number}"
    epoch = ledger.acquire_lease(job, owner, 1.0, 15, force=True)
    if epoch is None:
        continue
    try:
        ledger.finish(job, epoch, JobStatus(state=JobState.COMPLETED, output_uri=owner))
        print(job, flush=True)
    except Unavailable as error:
        assert error.code == "lease_lost", error
"""


def race(code: str, ledger: Path, contenders: int, rounds: int) -> list[list[str]]:
    """Start processes, let them go at the same moment, and return what each of them said."""
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(ledger), f"owner-{number}", str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(contenders)
    ]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].splitlines() for process in racing]
    assert [process.returncode for process in racing] == [0] * contenders
    return said


def test_only_the_holder_writes(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    told = [json.loads(line) for lines in race(CONTENDER, ledger.path, 3, ROUNDS) for line in lines]
    epochs = {(record.split("/")[0], epoch) for epoch, record, _ in told}
    assert len(epochs) == 3 * ROUNDS
    assert {epoch for _, epoch in epochs} == set(range(1, 3 * ROUNDS + 1))
    written = [body.decode() for body in ledger.checkpoints("j-1")]
    assert sorted(written) == sorted(record for _, record, end in told if end == "kept")
    order = [int(record.split("/")[1]) for record in written]
    assert order == sorted(order), "a writer with an older epoch came after a newer one"
    assert ledger.job_version("j-1") == len(written)
    assert ledger.get_job("j-1").status.state is JobState.RUNNING


def test_a_job_ends_once(ledger: Ledger) -> None:
    for number in range(ROUNDS):
        ledger.create_job(new_job(f"j-{number}"), None, None)
    said = race(FINISHER, ledger.path, 3, ROUNDS)
    ended = [job for lines in said for job in lines]
    assert len(ended) == len(set(ended))
    for number, lines in enumerate(said):
        for job in lines:
            assert ledger.get_job(job).status.output_uri == f"owner-{number}"
    # Whoever lost every race still left the job to somebody who can end it.
    for number in range(ROUNDS):
        if f"j-{number}" not in ended:
            assert ledger.acquire_lease(f"j-{number}", "last", 99.0, 15) is not None


def test_processes_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    opener = (
        "import sys; from pathlib import Path; from batchpoint.ledger.ledger import Ledger;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(len(Ledger(Path(sys.argv[1])).list_jobs()))"
    )
    assert race(opener, tmp_path / "new" / "ledger.db", 4, 0) == [["0"]] * 4
