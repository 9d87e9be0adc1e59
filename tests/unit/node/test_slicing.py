"""Cutting big text files: slices one after the other are the rows of the whole file."""

import csv
import io
import itertools
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from batchpoint.node.slicing import Cut, cut_csv, cut_jsonl

FIELDS = st.text(alphabet='ab1 ,"\n\t;é', max_size=6)


def write(folder: Path, data: bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def frame(data: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(data), dtype=object, keep_default_na=False, index_col=False)


def assert_slices_are_the_file(path: Path, target_bytes: int) -> list[Cut]:
    data = path.read_bytes()
    whole = frame(data)
    header = data[: data.index(b"\n") + 1]
    cuts = list(cut_csv(path, target_bytes))
    row = 0
    for cut in cuts:
        part = frame(header + data[cut.start : cut.stop])
        assert cut.row == row
        assert cut.rows in (len(part), -1)
        expected = whole.iloc[row : row + len(part)].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, expected)
        row += len(part)
    assert row == len(whole)
    return cuts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slicing")


@given(
    rows=st.lists(st.tuples(FIELDS, FIELDS, FIELDS), max_size=20),
    blanks=st.sets(st.integers(0, 19)),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    last_end=st.booleans(),
    target_bytes=st.integers(1, 200),
)
@settings(max_examples=150, deadline=None)
def test_slices_of_written_csv_are_the_file(
    folder, rows, blanks, end, quoting, last_end, target_bytes
):
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerow(["a", "b", "c"])
    for index, row in enumerate(rows):
        if index in blanks:
            out.write(("", "  ", "\t")[index % 3] + end)
        writer.writerow(row)
    text = out.getvalue()
    if not last_end:
        text = text.removesuffix(end)
    assume("\n" in text)
    assert_slices_are_the_file(write(folder, text.encode()), target_bytes)


@given(
    body=st.text(alphabet='ab,"\n\r ', max_size=60),
    target_bytes=st.integers(1, 40),
)
@example(body='5" pipe,1\n"a\nb",2\n', target_bytes=3)
@example(body='5",6"\n"x\ny","multi\nline"\n', target_bytes=3)
@example(body='"p"q,1\n"a""\n""b",2\n', target_bytes=1)
@settings(max_examples=300, deadline=None)
def test_slices_of_any_text_that_parses_are_the_file(folder, body, target_bytes):
    data = ("a,b,c\n" + body).encode()
    try:
        frame(data)
    except (ValueError, pd.errors.ParserWarning):
        assume(False)  # no CSV at all: each slice is judged by the worker
    assert_slices_are_the_file(write(folder, data), target_bytes)


def test_plain_file_is_cut_near_the_target_at_line_ends(tmp_path):
    lines = [f"{number},{number * 2}\n" for number in range(10_000)]
    data = ("a,b\n" + "".join(lines)).encode()
    cuts = assert_slices_are_the_file(write(tmp_path, data), 10_000)
    assert len(cuts) == -(-len(data) // 10_000)
    assert all(8_000 < cut.stop - cut.start <= 10_000 for cut in cuts[:-1])
    assert cuts[0].start == len(b"a,b\n")
    assert cuts[-1].stop == len(data)
    assert all(before.stop == after.start for before, after in itertools.pairwise(cuts))


def test_quoted_line_ends_are_no_cut(tmp_path):
    body = b"".join(b'%d,"one\ntwo\r\nthree, ""four""\n"\n' % number for number in range(100))
    cuts = assert_slices_are_the_file(write(tmp_path, b"a,b\n" + body), 64)
    assert len(cuts) > 20
    assert sum(cut.rows for cut in cuts) == 100


def test_a_quote_that_never_ends_makes_the_rest_one_range(tmp_path):
    good = b"".join(b"%d,x\n" % number for number in range(50))
    data = b"a,b\n" + good + b'50,"never\n' + good
    cuts = list(cut_csv(write(tmp_path, data), 64))
    assert cuts[-1].rows == -1
    assert cuts[-1].stop == len(data)
    assert data[cuts[-1].start :].startswith(b'50,"never')
    assert sum(cut.rows for cut in cuts[:-1]) == 50


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\r1,2\r3,4\r",
        b'"a\nb",c\n1,2\n3,4\n',
        b"\n\na,b\n1,2\n3,4\n",
        b"a,b\n1,2\r3,4\n5,6\n",
    ],
    ids=["lone carriage returns", "header over two lines", "blank first lines", "mixed line ends"],
)
def test_what_cannot_be_cut_safely_is_one_range(tmp_path, data):
    cuts = list(cut_csv(write(tmp_path, data), 4))
    assert [cut.rows for cut in cuts] in ([-1], [])
    assert all(cut.stop == len(data) for cut in cuts)


@pytest.mark.parametrize("data", [b"", b"a,b", b"a,b\n", b"a,b\n\n \n"])
def test_no_rows_no_ranges(tmp_path, data):
    assert list(cut_csv(write(tmp_path, data), 10)) == []


def test_byte_order_mark_belongs_to_the_header(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4\r\n")
    assert list(cut_csv(path, 5)) == [Cut(8, 13, 0, 1), Cut(13, 18, 1, 1)]


@given(
    lines=st.lists(st.sampled_from(["{}", '{"a": "x, \\"y\\""}', "", "  ", "\t"]), max_size=30),
    end=st.sampled_from(["\n", "\r\n"]),
    last_end=st.booleans(),
    target_bytes=st.integers(1, 60),
)
@settings(deadline=None)
def test_json_lines_are_cut_at_lines(folder, lines, end, last_end, target_bytes):
    data = end.join(lines).encode() + (end.encode() if last_end else b"")
    cuts = list(cut_jsonl(write(folder, data, "data.jsonl"), target_bytes))
    found = [
        line
        for cut in cuts
        for line in data[cut.start : cut.stop].decode().splitlines()
        if line.strip()
    ]
    assert found == [line for line in lines if line.strip()]
    assert sum(cut.rows for cut in cuts) == len(found)
    assert [cut.row for cut in cuts] == [sum(c.rows for c in cuts[:i]) for i in range(len(cuts))]


def test_memory_stays_small(tmp_path):
    tracemalloc = pytest.importorskip("tracemalloc")
    path = write(tmp_path, b"a,b\n" + b"123456789,abcdefghij\n" * 400_000)
    tracemalloc.start()
    try:
        assert sum(cut.rows for cut in cut_csv(path, 1 << 18)) == 400_000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
