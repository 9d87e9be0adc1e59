"""Documents: a JSON object with columns of integers."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.formats import documents

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
tables = st.integers(0, 5).flatmap(
    lambda rows: st.lists(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows), max_size=4
    )
)


@given(st.dictionaries(st.text(), json_values, max_size=4), tables)
def test_a_document_is_read_back(document, columns):
    read, found = documents.decode(documents.encode(document, columns))
    assert read == document
    assert [list(column) for column in found] == columns


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([], "B"),
        ([0, 255], "B"),
        ([-1, 127], "b"),
        ([256], "H"),
        ([-129], "h"),
        ([2**16], "I"),
        ([-(2**31), 5], "i"),
        ([2**32 - 1], "I"),
        ([2**32], "q"),
        ([-1, 2**31], "q"),
        ([2**63 - 1, -(2**63)], "q"),
    ],
)
def test_the_narrowest_type_is_taken(numbers, code):
    column = documents.narrow(numbers)
    assert column.typecode == code
    assert list(column) == numbers


def test_numbers_beyond_64_bits_are_refused():
    with pytest.raises(ValueError, match="64 bits"):
        documents.encode({}, [[2**63]])


def test_columns_must_be_equally_long():
    with pytest.raises(ValueError, match="equally long"):
        documents.encode({}, [[1], [1, 2]])


@pytest.mark.parametrize("data", [b"", b"x", documents.zlib.compress(b"\1\0\0\0"), b"\0" * 20])
def test_other_bytes_are_not_a_document(data):
    with pytest.raises(documents.Corrupt):
        documents.decode(data)


def test_numbers_are_little_endian_everywhere(monkeypatch):
    numbers = [[1, 2**40], [3, -4]]
    here = documents.encode({"a": 1}, numbers)
    other = "big" if sys.byteorder == "little" else "little"
    monkeypatch.setattr(documents.sys, "byteorder", other)
    there = documents.encode({"a": 1}, numbers)
    assert here != there  # this machine would write its own order reversed
    assert documents.decode(there)[1] == [documents.narrow(column) for column in numbers]
