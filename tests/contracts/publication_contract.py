"""What every way of publishing results must keep; one ground per place they may go to."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Conflict, Unavailable
from batchpoint.formats import receipt as receipts
from batchpoint.node.output_assembly import assemble, withdraw
from batchpoint.node.output_request import AssembleRequest
from tests.unit.node.output_jobs import OutputJob

NAMES = {"predictions.csv", "_failed_items.jsonl", "_receipt.json", "notes.txt", "deep/x.bin"}
RECEIPT = "_receipt.json"


class Killed(BaseException):
    """Not an error of ours: nothing is cleaned up after it, as after kill -9."""


class Ground(ABC):
    """A place results may go to; `objects` is everything there, hidden things included."""

    access = StorageAccess()

    @abstractmethod
    def fresh(self, name: str) -> str:
        """Return the URI of a folder that nobody has used yet."""

    @abstractmethod
    def objects(self, uri: str) -> dict[str, bytes]:
        """Return all that is in a folder, and beside it on behalf of it."""

    @abstractmethod
    def put(self, uri: str, name: str, body: bytes) -> None:
        """Write an object as somebody else does."""

    def assemble(
        self, request: AssembleRequest, step: Callable[[str], None] = lambda name: None
    ) -> None:
        """Publish."""
        assemble(request, step, access=self.access)

    def withdraw(self, request: AssembleRequest) -> None:
        """Give the output up."""
        withdraw(request, self.access)


def stop_at(number: int, error: BaseException) -> Callable[[str], None]:
    """A step that raises when it is called for the `number`-th time, from 0."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == number + 1:
            raise error

    return step


def make_job(home: Path, name: str = "", *, says: bytes = b"ours") -> AssembleRequest:
    """A finished job whose output is four objects and the receipt."""
    job = OutputJob(home, frames_per_part=2)
    for item in range(3):
        files = {"notes.txt": b"seen %d by %s\n" % (item, says)}
        if item == 2:
            files["deep/x.bin"] = b"\0" + says
        job.add(b"%d.csv,0,%d\n" % (item, item) * 9, [job.fail(item, 9)], files=files)
    request = job.seal()
    timings = {"created_at": f"2026-01-01T00:00:00.{len(says)}", **request.timings}
    return replace(request, job=name or request.job, timings=timings)


class RaceContract:
    """What holds for two jobs with one output; a subclass provides the fixture `ground`."""

    @pytest.fixture
    def request_(self, tmp_path: Path) -> AssembleRequest:
        return make_job(tmp_path / "home")

    @pytest.fixture
    def expected(self, tmp_path: Path, request_: AssembleRequest) -> dict[str, bytes]:
        """What an undisturbed publication into a local folder gives, without the receipt."""
        out = tmp_path / "expected"
        assemble(replace(request_, output_uri=out.as_uri()))
        return {
            path.relative_to(out).as_posix(): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and path.name != RECEIPT
        }

    def steps(self, ground: Ground, request: AssembleRequest) -> list[str]:
        steps: list[str] = []
        ground.assemble(replace(request, output_uri=ground.fresh("undisturbed")), steps.append)
        return steps

    def complete(
        self, ground: Ground, uri: str, expected: dict[str, bytes], why: object = ""
    ) -> None:
        found = ground.objects(uri)
        receipt = receipts.decode(found.pop(RECEIPT, b""))
        assert found == expected, why
        assert {f.path: f.size for f in receipt.files} == {n: len(b) for n, b in expected.items()}

    def test_of_two_jobs_with_one_output_at_most_one_publishes(
        self,
        ground: Ground,
        request_: AssembleRequest,
        expected: dict[str, bytes],
        tmp_path: Path,
    ) -> None:
        other = make_job(tmp_path / "other", "the-other-job-1", says=b"theirs")
        out = tmp_path / "others"
        assemble(replace(other, output_uri=out.as_uri()))
        others = {name: (out / name).read_bytes() for name in expected}
        winners: set[str] = set()
        for number, name in enumerate(self.steps(ground, request_)):
            uri = ground.fresh(f"raced-{number}")
            won: list[str] = []

            def step(at: str, name: str = name, uri: str = uri, won: list[str] = won) -> None:
                if at == name and "other" not in won:
                    won.append("other")
                    try:
                        ground.assemble(replace(other, output_uri=uri))
                    except (Conflict, Unavailable):
                        won.append("refused")

            try:
                ground.assemble(replace(request_, output_uri=uri), step)
                assert won == ["other", "refused"], name
                self.complete(ground, uri, expected, name)
                winners.add("first")
            except Conflict:
                if won == ["other"]:
                    self.complete(ground, uri, others, name)
                    winners.add("second")
                else:
                    assert ground.objects(uri) == {}, name
        assert winners == {"first", "second"}


class PublicationContract(RaceContract):
    """All tests; a subclass provides the fixture `ground`."""

    def test_exactly_the_objects_appear_and_a_second_try_finds_them(
        self, ground: Ground, request_: AssembleRequest, expected: dict[str, bytes]
    ) -> None:
        uri = ground.fresh("out")
        request = replace(request_, output_uri=uri)
        ground.assemble(request)
        self.complete(ground, uri, expected)
        before = ground.objects(uri)
        ground.assemble(request)
        assert ground.objects(uri) == before

    def test_a_kill_at_any_step_shows_no_receipt_too_early_and_the_next_try_finishes(
        self, ground: Ground, request_: AssembleRequest, expected: dict[str, bytes]
    ) -> None:
        for number, name in enumerate(self.steps(ground, request_)):
            uri = ground.fresh(f"killed-{number}")
            request = replace(request_, output_uri=uri)
            with pytest.raises(Killed):
                ground.assemble(request, stop_at(number, Killed()))
            there = ground.objects(uri)
            for path in there.keys() & expected.keys():  # what is there is whole
                assert there[path] == expected[path], name
            if RECEIPT in there:
                assert expected.items() <= there.items(), name
            ground.assemble(request)
            self.complete(ground, uri, expected, name)

    def test_kills_at_every_step_in_a_row(
        self, ground: Ground, request_: AssembleRequest, expected: dict[str, bytes]
    ) -> None:
        uri = ground.fresh("out")
        request = replace(request_, output_uri=uri)
        for number in range(100):
            try:
                ground.assemble(request, stop_at(number, Killed()))
            except Killed:
                continue
            break
        else:
            pytest.fail("it never finished")
        self.complete(ground, uri, expected)

    def test_a_job_that_is_given_up_after_a_kill_leaves_nothing(
        self, ground: Ground, request_: AssembleRequest
    ) -> None:
        number = 0
        for number in range(100):
            uri = ground.fresh(f"given-up-{number}")
            request = replace(request_, output_uri=uri)
            ground.put(uri, "mine.md", b"mine")
            try:
                ground.assemble(request, stop_at(number, Killed()))
                break
            except Killed:
                pass
            complete = RECEIPT in ground.objects(uri)
            ground.withdraw(request)
            found = ground.objects(uri)
            assert found == {"mine.md": b"mine"} or (complete and found.keys() > NAMES), number
        assert number > len(NAMES)

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.ENOSPC, "No space left on device"),
            Unavailable("not now", code="storage_unavailable"),
            BatchpointError("aborted"),
        ],
        ids=["full", "unavailable", "aborted"],
    )
    def test_an_error_at_any_step_is_made_good_or_leaves_nothing(
        self,
        ground: Ground,
        request_: AssembleRequest,
        expected: dict[str, bytes],
        error: Exception,
    ) -> None:
        for number, name in enumerate(self.steps(ground, request_)):
            uri = ground.fresh(f"stopped-{number}")
            request = replace(request_, output_uri=uri)
            with pytest.raises(BatchpointError) as caught:
                ground.assemble(request, stop_at(number, error))
            if not caught.value.retryable and name not in ("published", "done"):
                assert ground.objects(uri) == {}, name
            ground.assemble(request)
            self.complete(ground, uri, expected, name)

    @pytest.mark.parametrize("name", sorted(NAMES))
    def test_what_somebody_else_has_there_is_not_touched(
        self, ground: Ground, request_: AssembleRequest, name: str
    ) -> None:
        uri = ground.fresh("out")
        ground.put(uri, name, b"theirs")
        with pytest.raises(Conflict, match=name) as caught:
            ground.assemble(replace(request_, output_uri=uri))
        assert caught.value.code == "output_exists"
        assert ground.objects(uri) == {name: b"theirs"}

    def test_the_same_content_of_somebody_else_is_not_ours(
        self, ground: Ground, request_: AssembleRequest, expected: dict[str, bytes]
    ) -> None:
        uri = ground.fresh("out")
        for name, body in expected.items():
            ground.put(uri, name, body)
        with pytest.raises(Conflict):
            ground.assemble(replace(request_, output_uri=uri))
        assert ground.objects(uri) == expected
