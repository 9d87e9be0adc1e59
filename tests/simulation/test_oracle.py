"""The oracle by example: each case is a ruling written down by hand."""

import ast
from pathlib import Path

import pytest

from batchpoint.domain.job import JobState
from sim import oracle
from sim.oracle import Expected, Failed, Item, Row, Settings, expect

GOOD = Item("a", ("1",))
SHORT = Item("b", ())
LONG = Item("c", ("1", "2"))
BAD = Item("d", ("1",), "raises")


def test_it_knows_nothing_of_dispatching() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module for module in modules if module and "batchpoint" in module} == {
        "batchpoint.domain.job"
    }


def test_one_row_per_item_keeps_its_file_and_any_other_count_does_not() -> None:
    assert expect([GOOD, GOOD], Settings(2)).rows == [Row("a", None, "1")] * 2
    assert expect([GOOD, LONG], Settings(2)).rows[0] == Row(None, None, "1")


def test_good_neighbours_of_a_poison_item_are_scored() -> None:
    expected = expect([GOOD, BAD, GOOD], Settings(3))
    assert [row.value for row in expected.rows] == ["1", "1"]
    assert expected.failed == [Failed("d", None)]
    assert (expected.state, expected.exit_code) == (JobState.COMPLETED, 3)


def test_rows_of_a_table_fail_one_by_one_and_their_file_counts_once() -> None:
    table = Item("t", ("0", "1", "2", "3"), bad_rows=frozenset({1, 2}))
    expected = expect([table], Settings(1, tabular=True))
    assert expected.rows == [Row("t", 0, "0"), Row("t", 3, "3")]
    assert expected.failed == [Failed("t", 1), Failed("t", 2)]
    assert expected.failures == 1


def test_a_shortfall_has_a_name_only_when_the_item_is_alone() -> None:
    together = expect([GOOD, SHORT], Settings(2))
    assert (together.unnamed, together.failed, together.failures) == (1, [], 1)
    alone = expect([GOOD, SHORT], Settings(1))
    assert (alone.unnamed, alone.failed, alone.failures) == (0, [Failed("b", None)], 1)


@pytest.mark.parametrize(
    ("items", "settings", "code", "exit_code"),
    [
        ([], Settings(1), "no_input_items", 1),
        ([GOOD], Settings(1), "", 0),
        ([GOOD, BAD], Settings(1, 0), "error_threshold_exceeded", 1),
        ([GOOD, BAD], Settings(1, 1), "", 3),
        ([GOOD, BAD, BAD], Settings(1, -1), "", 3),
        ([BAD], Settings(1, -1), "nothing_scored", 1),
        ([Item("empty", ())], Settings(1, tabular=True), "", 0),
    ],
)
def test_how_a_job_ends(items: list[Item], settings: Settings, code: str, exit_code: int) -> None:
    expected: Expected = expect(items, settings)
    assert (expected.code, expected.exit_code) == (code, exit_code)
    assert (expected.state is JobState.FAILED) == bool(code)
