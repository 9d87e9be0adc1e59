"""Globs: each sign of the grammar, the same answers as a plain definition, no slow patterns."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchpoint.core.path_pattern import compile_pattern, split_pattern
from batchpoint.domain.errors import Invalid


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.csv", ["a.csv", ".csv", "a b.csv"], ["x/a.csv", "a.CSV", "a.csv.gz"]),
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], ["a.txt", "x.csv/a"]),
        ("**", ["a", "a/b", ".x/y"], []),
        ("x/**", ["x/a", "x/a/b"], ["x", "y/a", "xx/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb", "xa/b"]),
        ("f?.txt", ["f1.txt", "fé.txt"], ["f.txt", "f12.txt", "f/.txt"]),
        ("[a-c]x[!0-9]", ["axz", "cx-"], ["dxz", "ax1", "ax", "ax/"]),
        ("[]]", ["]"], ["["]),
        ("[!]]", ["a"], ["]", "/"]),
        ("[[]x", ["[x"], ["x"]),
        ("a[b-]", ["ab", "a-"], ["ac"]),
        ("part-*-of-*.csv", ["part-1-of-9.csv", "part--of-.csv"], ["part-1.csv"]),
        ("*a*b*", ["ab", "xaxbx", "aab"], ["ba", "a/b"]),
        ("2024/*/sales.parquet", ["2024/01/sales.parquet"], ["2024/01/x/sales.parquet"]),
    ],
)
def test_each_sign(pattern: str, matching: list[str], others: list[str]) -> None:
    matches = compile_pattern(pattern)
    assert [path for path in matching if not matches(path)] == []
    assert [path for path in others if matches(path)] == []


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "1 to"),
        ("a" * 2_000, "1 to"),
        ("/a", "empty name"),
        ("a//b", "empty name"),
        ("a/", "empty name"),
        ("a**", "stand alone"),
        ("[a", "has no"),
        ("[z-a]", "is empty"),
        ("/".join(["**"] * 5), "more than"),
    ],
)
def test_what_is_no_pattern_is_said(pattern: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        compile_pattern(pattern, "input.pattern")
    assert (caught.value.code, caught.value.where) == ("field_invalid", "input.pattern")


def plainly(pattern: str, path: str) -> bool:
    """Match by the definition, letter by letter."""

    def names(wanted: list[str], found: list[str]) -> bool:
        if not wanted:
            return not found
        if wanted[0] == "**":
            if len(wanted) == 1:
                return bool(found)
            return any(names(wanted[1:], found[skip:]) for skip in range(len(found) + 1))
        return bool(found) and name(wanted[0], found[0]) and names(wanted[1:], found[1:])

    def name(wanted: str, found: str) -> bool:
        if not wanted:
            return not found
        if wanted[0] == "*":
            return any(name(wanted[1:], found[skip:]) for skip in range(len(found) + 1))
        return bool(found) and wanted[0] in ("?", found[0]) and name(wanted[1:], found[1:])

    return names(pattern.split("/"), path.split("/"))


NAMES = st.text("ab.", min_size=1, max_size=4)
PARTS = st.text("ab.*?", min_size=1, max_size=5).filter(lambda part: "**" not in part)


@given(
    st.lists(PARTS | st.just("**"), min_size=1, max_size=4),
    st.lists(NAMES, min_size=1, max_size=4),
)
@example(["**", "a*"], ["a"])
@example(["*a", "**"], ["ba", "b"])
def test_the_answer_is_that_of_the_definition(pattern: list[str], path: list[str]) -> None:
    found = compile_pattern("/".join(pattern))("/".join(path))
    assert found == plainly("/".join(pattern), "/".join(path))


def test_a_hostile_pattern_costs_no_time() -> None:
    begun = time.process_time()
    assert not compile_pattern("*a" * 400 + "b")("a" * 1_000)
    assert not compile_pattern("**/" * 4 + "*a*b")("a/" * 100 + "c")
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("/data/in/*.csv", ("/data/in/", "*.csv")),
        ("/data/2*/x/?.csv", ("/data/", "2*/x/?.csv")),
        ("/data/in", None),
        ("bucket/**", ("bucket/", "**")),
    ],
)
def test_wildcards_in_a_path(path: str, split: tuple[str, str] | None) -> None:
    assert split_pattern(path) == split


def test_a_question_mark_in_a_url_is_no_wildcard() -> None:
    assert split_pattern("host/a?b", question_mark=False) is None
    assert split_pattern("host/a/*.csv?b", question_mark=False) == ("host/a/", "*.csv?b")
