"""What is said about a job: the cause of failure first, then what to do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from batchpoint.cli import job_cards
from batchpoint.domain.job import ErrorInfo, Job, JobState, Progress
from batchpoint.domain.webhook import WebhookDelivery
from tests.unit.resolved_jobs import NOON, new_job


def ended(state: JobState, error: ErrorInfo | None = None, **progress: object) -> Job:
    job = new_job()
    status = job.status.model_copy(
        update={
            "state": state,
            "error": error,
            "started_at": NOON,
            "ended_at": NOON + timedelta(seconds=12),
            "progress": Progress.model_validate({"phase": "done", "listed": True} | progress),
            "output_uri": "file:///out" if state == JobState.COMPLETED else None,
        }
    )
    return job.model_copy(update={"status": status})


USER_ERROR = ErrorInfo(
    origin="user",
    code="nothing_scored",
    message="none of the 3 items could be scored: ValueError: could not convert string to float: "
    "'abc' at score.py:14 (b.csv, row 17)",
    type="ValueError",
    traceback='Traceback (most recent call last):\n  File "score.py", line 14, in run\n'
    "    float(x)\nValueError: could not convert string to float: 'abc'\n",
    file="b.csv",
    row=17,
    line="score.py:14",
    log="logs/user/local-0.txt",
)


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (ended(JobState.COMPLETED, items_done=3), 0),
        (ended(JobState.FAILED), 1),
        (ended(JobState.COMPLETED, items_done=3, items_failed=1), 3),
        (ended(JobState.COMPLETED, items_done=3, rows_failed=1), 3),
        (ended(JobState.CANCELED, items_failed=1), 4),
    ],
)
def test_exit_codes(job: Job, code: int) -> None:
    assert job_cards.exit_code(job) == code


def test_a_failed_job_leads_with_its_cause() -> None:
    shown = job_cards.job_card(ended(JobState.FAILED, USER_ERROR, items_failed=3), 80, NOON)
    assert shown.split("\n")[:17] == [
        "Job heart-00000001 failed after 12s [nothing_scored]",
        "  none of the 3 items could be scored: ValueError: could not convert string to",
        "  float: 'abc' at score.py:14 (b.csv, row 17)",
        "",
        "  cause       your code, model or data",
        "  exception   ValueError",
        "  line        score.py:14",
        "  file        b.csv, row 17",
        "  log         logs/user/local-0.txt",
        "",
        "  Traceback (most recent call last):",
        '    File "score.py", line 14, in run',
        "      float(x)",
        "  ValueError: could not convert string to float: 'abc'",
        "",
        "  state       Failed",
        "  endpoint    heart / first",
    ]


@pytest.mark.parametrize(
    ("job", "line"),
    [
        (
            ended(JobState.COMPLETED, items_done=3, rows_done=1_200, items_failed=1),
            "Job heart-00000001 completed in 12s: 1,200 rows scored, 1 of 3 files with failures",
        ),
        (
            ended(JobState.COMPLETED, items_done=1, rows_done=299, rows_failed=1, items_failed=1),
            (
                "Job heart-00000001 completed in 12s: 299 rows scored, "
                "1 of 1 file with failures (1 row)"
            ),
        ),
        (
            ended(JobState.COMPLETED, items_done=3, items_failed=2),
            "Job heart-00000001 completed in 12s: 2 of 3 files with failures",
        ),
        (
            ended(JobState.COMPLETED, items_done=3, rows_done=2, rows_failed=1),
            "Job heart-00000001 completed in 12s: 3 files scored (2 rows) but for 1 row",
        ),
        (
            ended(JobState.COMPLETED, items_done=1),
            "Job heart-00000001 completed in 12s: 1 file scored",
        ),
        (ended(JobState.CANCELED), "Job heart-00000001 was canceled after 12s"),
        (new_job(), "Job heart-00000001 is queued"),
    ],
)  # fmt: skip
def test_headlines(job: Job, line: str) -> None:
    assert job_cards.headline(job) == line


def test_a_mistake_of_ours_says_so() -> None:
    error = ErrorInfo(origin="batchpoint", code="runner_failed", message="it broke")
    assert "not your mistake" in job_cards.cause_card(error, 80)


def test_a_long_traceback_keeps_its_end() -> None:
    error = USER_ERROR.model_copy(update={"traceback": "\n".join(f"line {n}" for n in range(99))})
    shown = job_cards.cause_card(error, 80)
    assert "line 98" in shown
    assert "line 80" not in shown


def test_nothing_of_the_user_drives_the_terminal() -> None:
    nasty = "\x1b[2J\x1b]0;title\x07\u202eevil\r\x00"
    error = ErrorInfo(
        origin="user", code="init_failed", message=nasty, type=nasty, traceback=nasty,
        file=nasty, line=nasty, log=nasty,
    )  # fmt: skip
    job = ended(JobState.FAILED, error)
    examples = [{"name": nasty, "row": 1, "type": nasty, "message": nasty}]
    shown = job_cards.job_card(job, 80, NOON) + job_cards.failed_items_card(job, examples, 80)
    assert not set("\x1b\x07\u202e\r\x00") & set(shown)


def test_failed_items_show_three_and_the_way_to_all() -> None:
    job = ended(JobState.COMPLETED, items_done=9, items_failed=5)
    examples = [
        {"name": f"{n}.csv", "row": n or None, "type": "ValueError", "message": "bad\nvalue"}
        for n in range(5)
    ]
    assert job_cards.failed_items_card(job, examples, 40).split("\n") == [
        "5 failed items:",
        "  0.csv  ValueError: bad value",
        "  1.csv, row 1  ValueError: bad value",
        "  2.csv, row 2  ValueError: bad value",
        "  all of them: batchpoint job failed-items heart-00000001",
    ]
    assert job_cards.failed_items_card(ended(JobState.COMPLETED), [], 80) == ""


def test_messages_of_failed_items_are_told_in_full_and_places_once() -> None:
    job = ended(JobState.COMPLETED, items_done=1, items_failed=1)
    item: dict[str, object] = {
        "name": "a.csv", "row": 3, "type": "input_row_invalid",
        "message": "a.csv, row 3 (line 5): column 'age' must be a whole number, not 'old'",
    }  # fmt: skip
    assert job_cards.failed_items_card(job, [item], 60).split("\n")[1:-1] == [
        "  a.csv, row 3  input_row_invalid: line 5: column 'age'",
        "    must be a whole number, not 'old'",
    ]
    assert job_cards.failed_items_table([item], 50).split("\n")[2:] == [
        "a.csv    3  input_row_invalid  line 5: column",
        "                               'age' must be a",
        "                               whole number, not",
        "                               'old'",
    ]
    endless = job_cards.failed_items_card(job, [item | {"message": "word " * 99}], 60).split("\n")
    assert (len(endless), endless[-2][-1]) == (5, "…")


@pytest.mark.parametrize(
    ("job", "commands"),
    [
        (ended(JobState.COMPLETED, items_failed=1), ["head", "download", "failed-items"]),
        (ended(JobState.FAILED), ["show", "logs"]),
        (new_job(), ["stream", "cancel"]),
    ],
)
def test_what_to_do_next(job: Job, commands: list[str]) -> None:
    lines = job_cards.next_commands(job).split("\n")
    assert [line.split()[2] for line in lines] == commands


def test_jobs_as_a_table() -> None:
    jobs = [ended(JobState.COMPLETED, items_done=1_234), new_job("heart-00000002")]
    assert job_cards.jobs_table(jobs, 86, NOON).split("\n") == [
        "job             type   endpoint/deploym…  state       done  failed  created       took",
        "--------------  -----  -----------------  ---------  -----  ------  ------------  ----",
        "heart-00000001  score  heart/first        Completed  1,234       0  05-04 12:00Z  12s",
        "heart-00000002  score  heart/first        Queued         0       0  05-04 12:00Z",
    ]


def test_a_job_without_a_predictions_file_is_not_told_to_show_its_rows() -> None:
    job = ended(JobState.COMPLETED, items_done=3)
    assert "job head" in job_cards.next_commands(job)
    settings = job.scoring.settings.model_copy(update={"output_action": "summary_only"})
    silent = job.model_copy(update={"spec": job.spec.model_copy(update={"settings": settings})})
    assert "job head" not in job_cards.next_commands(silent)
    assert "job download" in job_cards.next_commands(silent)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (None, ""),
        (WebhookDelivery(state="waiting"), "https://e.com/?***, waiting"),
        (
            WebhookDelivery(state="pending", attempts=2, said="answered 500"),
            "https://e.com/?***, pending, 2 tries: answered 500",
        ),
        (
            WebhookDelivery(state="given_up", attempts=1, said="answered 410"),
            "https://e.com/?***, given up, 1 try: answered 410",
        ),
    ],
)
def test_whether_somebody_was_told(told: WebhookDelivery | None, line: str) -> None:
    job = ended(JobState.COMPLETED)
    spec = job.spec.model_copy(update={"webhook_url": told and "https://e.com/?***"})
    job = job.model_copy(update={"spec": spec, "webhook": told})
    assert job_cards.webhook_line(job) == line
    assert (f"  webhook     {line}" in job_cards.job_card(job, 100, NOON)) == bool(line)


def test_what_a_command_printed_last_is_told_once_and_without_the_path_of_its_copy() -> None:
    folder = "/home/jobs/pipe-1-train/work/command-vh7_enn0/code"
    said = f"python: can't open file '{folder}/train.py': no such file"
    error = ErrorInfo(
        origin="user",
        code="command_failed",
        message=f"{said} (the command exited with code 2)",
        traceback=said,
    )
    shown = job_cards.cause_card(error, 200)
    assert shown.count("can't open") == 1
    assert "can't open file 'train.py'" in shown
    lines = f'Traceback (most recent call last):\n  File "{folder}/lib/a.py", line 9, in fit'
    shown = job_cards.cause_card(error.model_copy(update={"traceback": lines}), 200)
    assert '  File "lib/a.py", line 9, in fit' in shown


@pytest.mark.parametrize("code", ["step_not_run", "step_canceled"])
def test_a_step_that_was_not_run_or_was_canceled_is_nobodys_code(code: str) -> None:
    error = ErrorInfo(origin="user", code=code, message="it needs step 'a'")
    assert "cause" not in job_cards.cause_card(error, 80)
