"""Scripts that run wild inside their process: the job says what happened, and no row is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.domain.job import Job, JobState
from tests.integration.conftest import Place

HEAD = """
import ctypes, multiprocessing, os, shutil, signal, sys, threading
from pathlib import Path

PRECIOUS = Path(__file__).resolve().parent

def square(text):
    return str(int(text) ** 2)

def output():
    return Path(os.environ["AZUREML_BI_OUTPUT_PATH"])

def fail():
    raise RuntimeError("in a thread")

def init():
    {init}

def run(mini_batch):
    {run}
    return [Path(path).read_text() for path in mini_batch]
"""
HARMLESS = {
    "changes its folder": "os.chdir('/')",
    "writes below Python": "os.write(1, b'raw \\x00\\xff'); ctypes.CDLL(None).puts(b'from C')",
    "speaks through a shell": "os.system('echo shell; echo more >&2')",
    "closes its streams": "sys.stdout.close(); sys.stderr.close()",
    "has no streams": "sys.stdout = sys.stderr = None",
    "catches all signals": "[signal.signal(s, lambda *_: None) for s in (1, 2, 10, 12, 13, 15)]",
    "ignores all signals": "[signal.signal(s, signal.SIG_IGN) for s in (1, 2, 10, 12, 13, 15)]",
    "leaves its session": "os.getpid() == os.getsid(0) or os.setsid()",
    "raises in a thread": "t = threading.Thread(target=fail); t.start(); t.join()",
    "forks and returns twice": "os.fork()",
    "forks a pool": "multiprocessing.get_context('fork').Pool(2).map(square, ['1', '2'])",
    "changes its variables": "os.environ['AZUREML_BI_OUTPUT_PATH'] = '/x'; os.environ.clear()",
    "forgets its modules": "sys.path.clear(); sys.modules.clear()",
    "is unkind to files": "os.umask(0o777); os.nice(19)",
    "removes its output folder": "output().exists() and shutil.rmtree(output())",
    "has a file for an output folder": "shutil.rmtree(output()); output().write_text('file')",
    "links its output folder away": (
        "shutil.rmtree(output()); os.symlink(PRECIOUS.parent / 'precious', output())"
    ),
}
FATAL = {
    "closes all files": ("os.closerange(0, 4096)", "WorkerDied"),
    "ends as if all was well": ("os._exit(0)", "WorkerDied"),
    "calls exit": ("sys.exit('enough')", "enough"),
    "is interrupted": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "never comes to an end": ("return run(mini_batch)", "RecursionError"),
    "has an error without words": (
        "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})",
        "cannot be shown",
    ),
    "has too much to say": ("raise ValueError('x' * 10_000_000 + '\\ud800\\x1b[31m')", "xxxx"),
}


def score(place: Place, folder: Path, init: str, run: str) -> Job:
    script = HEAD.replace("{init}", init).replace("{run}", run)
    name = f"hostile-{abs(hash((init, run))) % 10**8}"
    place.deploy_script(folder, name, script, max_concurrency_per_instance=1, max_retries=0)
    data = folder / "data"
    data.mkdir()
    for number in range(4):
        (data / f"{number}.txt").write_text(str(number))
    job = place.client.invoke(name, data, mini_batch_size=2)
    return job.wait(check=False, timeout_seconds=60)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_harms_nobody_changes_no_row(place: Place, tmp_path: Path, what: str) -> None:
    (tmp_path / "code").mkdir()
    job = score(place, tmp_path, "pass", HARMLESS[what])
    assert job.status.state == JobState.COMPLETED, job.status.error
    rows = "".join(f"{number}.txt,{number}\n" for number in range(4))
    assert place.predictions(job) == "_file,prediction\n" + rows
    names = {path.name for path in place.output(job).iterdir()}
    assert names == {"predictions.csv", "_receipt.json", "_failed_items.jsonl"}


@pytest.mark.parametrize("what", FATAL)
def test_what_ends_a_run_is_told(place: Place, tmp_path: Path, what: str) -> None:
    run, words = FATAL[what]
    job = score(place, tmp_path, "pass", run)
    assert job.status.state == JobState.FAILED
    assert job.status.error is not None
    assert words in job.status.error.message
    assert len(job.status.error.message) < 2_000
    assert "\x1b" not in place.folder(job).job_log.read_text().replace("\\x1b", "")


@pytest.mark.parametrize("what", ["raise ValueError('no model')", "os._exit(3)", "fail()"])
def test_an_init_that_fails_fails_the_job(place: Place, tmp_path: Path, what: str) -> None:
    job = score(place, tmp_path, what, "pass")
    assert job.status.error is not None
    assert job.status.error.code == "init_failed"


def test_a_folder_behind_a_link_is_left_alone(place: Place, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("the only copy")
    link = f"shutil.rmtree(output()); os.symlink({str(precious)!r}, output())"
    for number, run in enumerate((link, link + "; raise ValueError")):
        job = score(place, tmp_path / str(number), "pass", run)
        assert job.status.state in (JobState.COMPLETED, JobState.FAILED)
        assert (precious / "thesis.txt").read_text() == "the only copy"
