"""The first rows of a table read as a table wherever they are printed."""

from __future__ import annotations

from batchpoint.domain.results import ResultsHead


def test_heads_print_as_tables() -> None:
    head = ResultsHead(columns=["_file", "prediction"], rows=[["long.csv", "0"], ["b.csv", None]])
    assert str(head).split("\n") == ["_file     prediction", "long.csv  0", "b.csv"]
    assert str(ResultsHead(columns=None, rows=[["a", 1.5], ["b"]])) == "a  1.5\nb"
    assert str(ResultsHead(columns=None)) == ""
