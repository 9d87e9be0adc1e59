"""Job states: nothing leaves a final one, all others can end, docs/states.md tells the same."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from batchpoint.core.lifecycle import JOB_TRANSITIONS, TASK_TRANSITIONS, TaskState, advance
from batchpoint.domain.errors import Conflict
from batchpoint.domain.job import TERMINAL_STATES, JobState

STATES_PAGE = Path(__file__).resolve().parents[3] / "docs" / "states.md"


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("to", JobState)
def test_only_what_the_table_says_is_allowed(state: JobState, to: JobState) -> None:
    if to in JOB_TRANSITIONS[state]:
        assert advance(state, to) is to
    else:
        with pytest.raises(Conflict, match=f"{state} cannot become {to}"):
            advance(state, to)


def test_final_states_have_no_way_out_and_all_others_can_fail_and_cancel() -> None:
    assert JOB_TRANSITIONS.keys() == set(JobState)
    for state, ways in JOB_TRANSITIONS.items():
        assert (not ways) == (state in TERMINAL_STATES)
        if ways:
            assert JobState.FAILED in ways
            assert JobState.CANCELED in ways | JOB_TRANSITIONS[JobState.CANCEL_REQUESTED]


def drawn(section: str) -> dict[str, set[str]]:
    """Read the arrows of a section's state diagram."""
    page = STATES_PAGE.read_text(encoding="utf-8")
    text = page.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    arrows = re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE)
    ways: dict[str, set[str]] = {}
    for start, to in arrows:
        ways.setdefault(start, set()).add(to)
    return ways


@pytest.mark.parametrize(
    ("section", "table"), [("Jobs", JOB_TRANSITIONS), ("Tasks", TASK_TRANSITIONS)]
)
def test_the_page_draws_the_table(section: str, table: dict[StrEnum, frozenset[StrEnum]]) -> None:
    told = {str(state): {str(to) for to in ways} for state, ways in table.items() if ways}
    assert drawn(section) == told


@pytest.mark.parametrize("state", [*JobState, *TaskState])
def test_the_page_explains_every_state(state: StrEnum) -> None:
    assert f"\n| `{state}` |" in STATES_PAGE.read_text(encoding="utf-8")
