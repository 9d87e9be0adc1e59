"""Everything that is wrong, collected: fields in full, families kept."""

import pytest

from batchpoint.control.collected_findings import CollectedFindings
from batchpoint.domain.errors import BatchpointError, Invalid, NotFound, Unavailable
from batchpoint.domain.findings import all_of


def raising(error: BatchpointError) -> CollectedFindings:
    collected = CollectedFindings()

    def fail() -> None:
        raise error

    assert collected.tried("a.code", fail) is None
    assert collected.tried("a.code", lambda: 7) == 7
    return collected


@pytest.mark.parametrize(
    ("own", "inside", "where"),
    [
        (None, True, "a.code"),
        ("path", True, "a.code.path"),
        ("code", True, "a.code"),
        ("path", False, "a.code"),
        ("a.code.path", False, "a.code.path"),
        ("a.code.path", True, "a.code.path"),
        ("a.codec", False, "a.code"),
    ],
)
def test_the_field_of_an_error(own: str | None, inside: bool, where: str) -> None:
    collected = CollectedFindings()
    collected.take(Invalid("is wrong", where=own), "a.code", inside=inside)
    assert [each.where for each in collected.all] == [where]


def test_a_lone_finding_keeps_its_family() -> None:
    with pytest.raises(NotFound) as caught:
        raising(NotFound("there is none", code="code_not_found")).raise_any()
    assert (caught.value.where, caught.value.code) == ("a.code", "code_not_found")
    assert len(caught.value.findings) == 1


def test_what_is_told_twice_is_told_once() -> None:
    collected = raising(Invalid("is wrong"))
    collected.add("a.code", "is wrong", "invalid")
    collected.add("b", "is missing", "input_missing")
    assert [each.where for each in collected.all] == ["a.code", "b"]
    with pytest.raises(Invalid) as caught:
        collected.raise_any()
    outer = CollectedFindings()
    outer.take(caught.value, "jobs.x")
    assert [each.where for each in outer.all] == ["jobs.x.a.code", "jobs.x.b"]
    assert all_of(outer.all).code == "invalid"


def test_nothing_wrong_is_nothing_raised() -> None:
    CollectedFindings().raise_any()


def test_what_is_nobodys_mistake_ends_the_search() -> None:
    with pytest.raises(Unavailable):
        raising(Unavailable("the store does not answer"))
