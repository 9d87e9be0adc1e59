"""Tables fit their width, text is safe to print, and every form of output says the same."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.render import formatted, queried
from batchpoint.cli.text_tables import cut, one_line, safe, short_hash, table, width_of, wrapped
from batchpoint.domain.errors import Invalid

cells = st.text(st.characters(codec="utf-8"), max_size=60)


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), max_size=4)
    ),
    st.integers(40, 120),
)
def test_tables_fit(rows: list[list[str]], width: int) -> None:
    headers = [f"c{index}" for index in range(len(rows[0]) if rows else 1)]
    lines = table(headers, rows, width).split("\n")
    assert len(lines) == len(rows) + 2
    assert all(width_of(line) <= width for line in lines)


@given(cells, st.integers(0, 30))
def test_cut_text_fits(text: str, width: int) -> None:
    line = one_line(text)
    assert width_of(cut(line, width)) <= width
    assert width_of(line) > width or cut(line, width) == line


@given(st.text())
def test_safe_text_has_nothing_that_drives_a_terminal(text: str) -> None:
    kept = safe(text + "\x1b[31mred\x1b]0;title\x07\u202e")
    assert not set("\x1b\x07\r\x00\x9b\u202e\u2066") & set(kept)


def test_numbers_stand_right_and_text_left() -> None:
    assert table(["name", "n"], [["a", "1,000"], ["bb", "7"]], 80).split("\n") == [
        "name      n",
        "----  -----",
        "a     1,000",
        "bb        7",
    ]


def test_names_are_cut_last_and_last_columns_can_wrap() -> None:
    name, words = "heart-classifier-00000001", "one two three four five six seven eight nine ten"
    lines = table(["name", "said"], [[name, words]], 45, whole=["name"], wrap_last=True).split("\n")
    assert lines[2:] == [
        "heart-classifier-00000001  one two three four",
        "                           five six seven",
        "                           eight nine ten",
    ]
    assert name in table(["name", "said"], [[name, words]], 33, whole=["name"])
    assert width_of(table(["name", "said"], [[name, words]], 20, whole=["name"])) <= 3 * 21


@given(cells, st.integers(2, 30))
def test_wrapped_text_is_all_there_and_fits(text: str, width: int) -> None:
    line = one_line(text)
    lines = wrapped(line, width)
    assert all(width_of(part) <= width for part in lines)
    assert "".join(lines).replace(" ", "") == line.replace(" ", "")


def test_an_object_as_a_table_has_dotted_fields() -> None:
    job = {"name": "j", "spec": {"model": {"name": "m"}, "tags": {}}, "error": None}
    assert formatted(job, OutputForm.TABLE).split("\n")[2:] == [
        "name             j",
        "spec.model.name  m",
    ]
    az = [{"id": "/subscriptions/0/jobs/j", "name": "j", "status": "Completed"}]
    assert formatted(az, OutputForm.TABLE).split("\n")[2:] == ["j     Completed"]


def test_wide_characters_count_twice() -> None:
    assert width_of("日本") == 4
    assert cut("日本語", 5) == "日本…"


def test_hashes_are_shortened() -> None:
    assert short_hash(f"azureml:anonymous:{'ab' * 32}") == "azureml:anonymous:abababababab…"
    assert short_hash("azureml:heart:1") == "azureml:heart:1"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | cells,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(cells, below, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_every_form_can_show_anything(data: object) -> None:
    assert json.loads(formatted(data, OutputForm.JSON)) == data
    assert yaml.safe_load(formatted(data, OutputForm.YAML)) == data
    assert formatted(data, OutputForm.NONE) == ""
    assert isinstance(formatted(data, OutputForm.TABLE), str)
    assert isinstance(formatted(data, OutputForm.TSV), str)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("x", "x"),
        (None, ""),
        (True, "true"),
        (1.5, "1.5"),
        (["a", "b"], "a\nb"),
        ([["a", 1], ["b", None]], "a\t1\nb\t"),
        ([{"x": "a\tb", "y": [1]}], "a b\t[1]"),
        ({"x": "a", "y": {}}, "a\t{}"),
    ],
)
def test_tsv_for_scripts(data: object, expected: str) -> None:
    assert formatted(data, OutputForm.TSV) == expected


def test_a_wrong_query_is_the_callers() -> None:
    assert queried({"a": [{"b": 1}]}, "a[0].b") == 1
    for query in ("[?", "", "a |", "length(`1`)"):
        with pytest.raises(Invalid) as caught:
            queried({"a": 1}, query)
        assert caught.value.code == "query_invalid"
