"""Parameters are a script's arguments, and argparse reads back every one of them."""

import argparse
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchpoint_worker.scorer import Request
from batchpoint_worker.surroundings import set_arguments


def arguments_of(parameters: dict) -> list:
    before = sys.argv
    try:
        header = {"scoring_script": "score.py", "code_dir": "/code", "parameters": parameters}
        set_arguments(Request.from_header(header))
        assert sys.argv[0] == "/code/score.py"
        return sys.argv[1:]
    finally:
        sys.argv = before


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({}, []),
        ({"b": 2, "a": 0.5}, ["--a", "0.5", "--b", "2"]),
        ({"on": True, "off": False}, ["--off", "false", "--on", "true"]),
        ({"low": -1, "text": "--x"}, ["--low=-1", "--text=--x"]),
        ({"text": ""}, ["--text", ""]),
    ],
)
def test_arguments(parameters, arguments) -> None:
    assert arguments_of(parameters) == arguments


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True),
        st.one_of(st.text(), st.integers(), st.floats(allow_nan=False)),
        max_size=5,
    )
)
def test_argparse_reads_them_back(parameters) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for name, value in parameters.items():
        parser.add_argument("--" + name, type=type(value), dest=name)
    known, rest = parser.parse_known_args(arguments_of(parameters))
    assert rest == []
    assert vars(known) == parameters


def test_arguments_come_as_they_are_before_parameters() -> None:
    before = sys.argv
    hostile = ["--x", "a b", "", "--", "$(rm -rf /)", "-1", "\udcff", "`", "${{inputs.x}}"]
    try:
        header = {"scoring_script": "s.py", "parameters": {"p": 1}, "arguments": hostile}
        set_arguments(Request.from_header(header))
        assert sys.argv[1:] == [*hostile, "--p", "1"]
    finally:
        sys.argv = before
