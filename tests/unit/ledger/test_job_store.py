"""Jobs are made once, held by one, and written only by their holder."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchpoint.domain.errors import Conflict, NotFound, Unavailable
from batchpoint.domain.job import Job, JobState, JobStatus, Progress
from batchpoint.ledger.ledger import Ledger
from tests.unit.resolved_jobs import new_job

NOW = 1_800_000_000.0


def running(rows: int) -> JobStatus:
    return JobStatus(state=JobState.RUNNING, progress=Progress(phase="scoring", rows_done=rows))


def done() -> JobStatus:
    return JobStatus(state=JobState.COMPLETED, output_uri="file:///out")


def test_a_job_reads_back_as_it_was_written(ledger: Ledger) -> None:
    job = new_job()
    assert ledger.create_job(job, None, None) == job
    assert ledger.get_job(job.name) == job


def test_an_unknown_job_is_not_found(ledger: Ledger) -> None:
    for ask in (ledger.get_job, ledger.job_version, ledger.request_cancel):
        with pytest.raises(NotFound, match="'ghost'") as caught:
            ask("ghost")
        assert caught.value.code == "job_not_found"
    with pytest.raises(NotFound):
        ledger.acquire_lease("ghost", "me", NOW, 15)


def test_the_same_key_and_body_give_the_same_job(ledger: Ledger) -> None:
    first = ledger.create_job(new_job("j-1"), "key", "body")
    assert ledger.create_job(new_job("j-2"), "key", "body") == first
    assert [job.name for job in ledger.list_jobs()] == ["j-1"]
    assert ledger.job_of_key("heart", "key", "body") == first
    assert ledger.job_of_key("heart", "other", "body") is None


def test_the_same_key_with_another_body_is_a_conflict(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), "key", "body")
    with pytest.raises(Conflict) as caught:
        ledger.create_job(new_job("j-2"), "key", "other")
    assert caught.value.code == "idempotency_conflict"


def test_a_key_counts_for_its_endpoint_only(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), "key", "body")
    assert ledger.create_job(new_job("j-2", endpoint="lung"), "key", "other").name == "j-2"


def test_two_jobs_of_one_name_are_a_conflict(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    with pytest.raises(Conflict, match="already a job named 'j-1'"):
        ledger.create_job(new_job("j-1"), None, None)


def test_lists_go_from_new_to_old_in_pages(ledger: Ledger) -> None:
    for number in range(7):
        ledger.create_job(new_job(f"j-{number}", deployment="ab"[number % 2] * 3), None, None)
    pages, after = [], None
    while page := ledger.list_jobs(limit=3, after=after):
        pages.append([job.name for job in page])
        after = page[-1].name
    assert pages == [["j-6", "j-5", "j-4"], ["j-3", "j-2", "j-1"], ["j-0"]]
    assert [job.name for job in ledger.list_jobs("heart", "bbb")] == ["j-5", "j-3", "j-1"]
    assert ledger.list_jobs("lung") == []
    with pytest.raises(NotFound):
        ledger.list_jobs(after="ghost")


def test_a_lease_of_a_clock_that_was_set_back_is_free(ledger: Ledger) -> None:
    ledger.create_job(new_job("a-job"), None, None)
    assert ledger.acquire_lease("a-job", "one", NOW + 3600, 15) == 1
    assert ledger.adoptable_jobs(NOW, 9) == ["a-job"]
    assert ledger.acquire_lease("a-job", "two", NOW, 15) == 2
    assert ledger.adoptable_jobs(NOW, 9) == []


def test_a_lease_is_exclusive_until_it_ends(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    assert ledger.adoptable_jobs(NOW, 10) == ["j-1"]
    assert ledger.acquire_lease("j-1", "a", NOW, 15) == 1
    assert ledger.acquire_lease("j-1", "b", NOW + 14.9, 15) is None
    assert ledger.adoptable_jobs(NOW + 14.9, 10) == []
    assert ledger.adoptable_jobs(NOW + 15, 10) == ["j-1"]
    assert ledger.acquire_lease("j-1", "b", NOW + 15, 15) == 2
    assert ledger.acquire_lease("j-1", "c", NOW + 15, 15, force=True) == 3


def test_a_writer_with_an_old_epoch_changes_nothing(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    old = ledger.acquire_lease("j-1", "a", NOW, 15)
    new = ledger.acquire_lease("j-1", "b", NOW, 15, force=True)
    assert old is not None
    assert new is not None
    ledger.renew("j-1", new, NOW, 15, status=running(5), records=b"new")
    before = ledger.get_job("j-1")
    for write in (
        lambda: ledger.renew("j-1", old, NOW, 15, status=running(9), records=b"old"),
        lambda: ledger.finish("j-1", old, done()),
    ):
        with pytest.raises(Unavailable) as caught:
            write()
        assert caught.value.code == "lease_lost"
    ledger.release("j-1", old)
    assert ledger.get_job("j-1") == before
    assert list(ledger.checkpoints("j-1")) == [b"new"]
    assert ledger.acquire_lease("j-1", "c", NOW + 1, 15) is None


def test_an_ended_job_stays_as_it_is(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    epoch = ledger.acquire_lease("j-1", "a", NOW, 15)
    assert epoch is not None
    ledger.finish("j-1", epoch, done())
    ended = ledger.get_job("j-1")
    assert ended.status == done()
    with pytest.raises(Unavailable):
        ledger.renew("j-1", epoch, NOW, 15, status=running(1))
    with pytest.raises(Unavailable):
        ledger.finish("j-1", epoch, JobStatus(state=JobState.FAILED))
    assert ledger.request_cancel("j-1") == ended
    assert ledger.acquire_lease("j-1", "b", NOW + 99, 15, force=True) is None
    assert ledger.adoptable_jobs(NOW + 99, 10) == []
    assert ledger.open_jobs("heart", limit=5) == []


def test_each_change_raises_the_version(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    epoch = ledger.acquire_lease("j-1", "a", NOW, 15)
    assert epoch is not None
    seen = [ledger.job_version("j-1")]
    ledger.renew("j-1", epoch, NOW, 15, status=running(1))
    seen.append(ledger.job_version("j-1"))
    ledger.request_cancel("j-1")
    seen.append(ledger.job_version("j-1"))
    ledger.request_cancel("j-1")
    assert ledger.job_version("j-1") == seen[-1]
    ledger.finish("j-1", epoch, done())
    seen.append(ledger.job_version("j-1"))
    assert seen == sorted(set(seen))
    assert ledger.job_versions(["j-1", "ghost"]) == {"j-1": seen[-1]}
    assert ledger.job_versions([]) == {}


def test_a_wish_to_cancel_is_seen_by_all(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    epoch = ledger.acquire_lease("j-1", "a", NOW, 15)
    assert epoch is not None
    assert not ledger.renew("j-1", epoch, NOW, 15, status=running(1)).cancel_requested
    assert ledger.request_cancel("j-1").status.state is JobState.CANCEL_REQUESTED
    assert ledger.renew("j-1", epoch, NOW, 15, status=running(2)).cancel_requested
    job = ledger.get_job("j-1")
    assert job.status.state is JobState.CANCEL_REQUESTED
    assert job.status.progress.rows_done == 2


def test_a_dead_supervisors_jobs_can_be_adopted_at_once(ledger: Ledger) -> None:
    for name, owner in (("j-1", "sup_1/a"), ("j-2", "sup_1/b"), ("j-3", "sup21/a")):
        ledger.create_job(new_job(name), None, None)
        ledger.acquire_lease(name, owner, NOW, 15)
    assert sorted(ledger.lapse_leases("sup_1/")) == ["j-1", "j-2"]
    assert ledger.adoptable_jobs(NOW, 10) == ["j-1", "j-2"]
    assert ledger.adoptable_jobs(NOW, 1) == ["j-1"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), st.binary(max_size=2_000)), max_size=150))
def test_checkpoints_come_back_in_order(ledger: Ledger, records: list[bytes | None]) -> None:
    name = f"j-{ledger.count_open_jobs()}"
    ledger.create_job(new_job(name), None, None)
    epoch = ledger.acquire_lease(name, "a", NOW, 15)
    assert epoch is not None
    with ledger.atomic():
        for body in records:
            ledger.renew(name, epoch, NOW, 15, status=running(1), records=body)
    assert list(ledger.checkpoints(name)) == [body for body in records if body is not None]


def test_calls_in_one_transaction_are_kept_together_or_not_at_all(ledger: Ledger) -> None:
    def fails() -> None:
        with ledger.atomic():
            ledger.create_job(new_job("j-1"), None, None)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert ledger.list_jobs() == []


def test_threads_with_one_key_make_one_job(ledger: Ledger) -> None:
    made: list[Job] = []

    def invoke(number: int) -> None:
        made.append(ledger.create_job(new_job(f"j-{number}"), "key", "body"))

    threads = [threading.Thread(target=invoke, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 16
    assert len({job.name for job in made}) == 1
    assert len(ledger.list_jobs()) == 1


def test_a_full_disk_is_said_clearly_and_loses_nothing(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-0"), None, None)
    with ledger.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        # Holds for this connection, which the pool gives out again.
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 4}")
    epoch = ledger.acquire_lease("j-0", "a", NOW, 15)
    assert epoch is not None
    kept = []

    def fill() -> None:
        for number in range(100):
            ledger.renew("j-0", epoch, NOW, 15, status=running(number), records=bytes(3_000))
            kept.append(number)

    with pytest.raises(Unavailable, match="disk that holds the ledger is full") as caught:
        fill()
    assert caught.value.code == "storage_full"
    assert caught.value.retryable
    assert len(list(ledger.checkpoints("j-0"))) == len(kept) > 0
    assert ledger.get_job("j-0").status.progress.rows_done == kept[-1]
    with ledger.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    ledger.renew("j-0", epoch, NOW, 15, status=running(500), records=b"goes on")
    assert list(ledger.checkpoints("j-0"))[-1] == b"goes on"


def test_a_damaged_ledger_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Unavailable, match="the ledger cannot be used") as caught:
        Ledger(tmp_path / "ledger.db")
    assert caught.value.code == "ledger_unavailable"


def test_a_place_that_cannot_be_written_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="the ledger cannot be used"):
        Ledger(tmp_path / "file" / "ledger.db")


def test_a_ledger_from_the_future_is_refused(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version = 999")
    with pytest.raises(Unavailable, match="version 999"):
        Ledger(ledger.path)


def test_a_ledger_is_durable_and_lets_readers_read(ledger: Ledger) -> None:
    with sqlite3.connect(ledger.path) as plain:
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    plain.close()
    with ledger.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
    reopened = Ledger(ledger.path)
    with ledger.atomic():
        ledger.create_job(new_job("j-1"), None, None)
        seen: list[int] = []
        reader = threading.Thread(target=lambda: seen.append(len(reopened.list_jobs())))
        reader.start()
        reader.join(5)
        assert seen == [0]
    assert len(reopened.list_jobs()) == 1
    reopened.close()


def test_a_forked_child_has_connections_of_its_own(ledger: Ledger) -> None:
    ledger.create_job(new_job("j-1"), None, None)
    child = os.fork()
    if child == 0:
        # Nothing of pytest may run in here: leave by the shortest way.
        try:
            epoch = ledger.acquire_lease("j-1", "child", NOW, 15)
            os._exit(0 if epoch == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ledger.acquire_lease("j-1", "parent", NOW, 15) is None
    assert ledger.acquire_lease("j-1", "parent", NOW + 15, 15) == 2
