"""Keys of computations: what differs in anything that counts has another one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.reuse_key import reuse_key
from batchpoint.domain.component import Scalar
from batchpoint.domain.job_spec import StepOutput, StepPlace

PLACE = StepPlace(parent="p", name="a", component="a:1", identity="i")
SCALARS = st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False))
TEXTS = st.text(min_size=1)


def told(literals: dict[str, Scalar]) -> dict[str, tuple[str, str]]:
    return {name: (type(value).__name__, str(value)) for name, value in literals.items()}


@given(
    first=st.dictionaries(TEXTS, SCALARS, max_size=3),
    second=st.dictionaries(TEXTS, SCALARS, max_size=3),
    data=st.dictionaries(TEXTS, TEXTS, max_size=3),
    more=st.dictionaries(TEXTS, TEXTS, max_size=3),
)
def test_equal_inputs_equal_keys(
    first: dict[str, Scalar], second: dict[str, Scalar], data: dict[str, str], more: dict[str, str]
) -> None:
    same = told(first) == told(second) and data == more
    assert (reuse_key(PLACE, first, data) == reuse_key(PLACE, second, more)) == same


def test_what_the_step_is_counts_and_where_it_stands_does_not() -> None:
    key = reuse_key(PLACE, {}, {})
    elsewhere = {"parent": "q", "name": "b", "display_name": "x", "needs": ("z",)}
    assert reuse_key(PLACE.model_copy(update=elsewhere), {}, {}) == key
    assert reuse_key(PLACE.model_copy(update={"identity": "other"}), {}, {}) != key
    output = {"o": StepOutput(type="uri_file", uri="file:///x")}
    with_output = PLACE.model_copy(update={"outputs": output})
    assert reuse_key(with_output, {}, {}) != key
    moved = {"o": StepOutput(type="uri_file", uri="file:///y")}
    assert reuse_key(PLACE.model_copy(update={"outputs": moved}), {}, {}) == reuse_key(
        with_output, {}, {}
    )


def test_nothing_may_be_taken_over_when_a_content_is_unknown() -> None:
    assert reuse_key(PLACE, {}, {"d": ""}) is None
    assert reuse_key(PLACE.model_copy(update={"is_deterministic": False}), {}, {}) is None
