import csv
import io
import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchpoint_worker import arrow_text, cells, returned, rows
from batchpoint_worker.rows import Column, Table

INTS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('",\n\r; \t\0'))
DOUBLES = st.floats() | st.integers(-(10**18), 10**18).map(float)
SINGLES = st.floats(width=32)


def nullable(strategy):
    return st.lists(st.none() | strategy, min_size=1, max_size=30)


ARRAYS = st.one_of(
    nullable(INTS).map(lambda v: pa.array(v, pa.int64())),
    nullable(st.integers(0, 2**64 - 1)).map(lambda v: pa.array(v, pa.uint64())),
    nullable(DOUBLES).map(lambda v: pa.array(v, pa.float64())),
    nullable(SINGLES).map(lambda v: pa.array(v, pa.float32())),
    nullable(st.booleans()).map(lambda v: pa.array(v, pa.bool_())),
    nullable(TEXTS).map(lambda v: pa.array(v, pa.string())),
    nullable(TEXTS).map(lambda v: pa.array(v, pa.large_string())),
    nullable(TEXTS).map(lambda v: pa.array(v, pa.string()).dictionary_encode()),
    nullable(st.dates()).map(lambda v: pa.array(v, pa.date32())),
    nullable(st.datetimes()).map(lambda v: pa.array(v, pa.timestamp("us"))),
    nullable(st.lists(st.integers(0, 9), max_size=3)).map(pa.array),
)


def both_ways(columns: list[Column], monkeypatch_min: int) -> bytes:
    arrow_text.CELLS_MIN, kept = monkeypatch_min, arrow_text.CELLS_MIN
    try:
        return rows.render(Table(columns, len(columns[0].cells)), "csv").data
    finally:
        arrow_text.CELLS_MIN = kept


def column_of(array: pa.Array, name: str = "x") -> Column:
    return Column(name, load=lambda: arrow_text.cells_of(array), arrow=array)


@given(ARRAYS, TEXTS)
@example(pa.array([1.0, -0.0, 1e-5, 1e16, 123456789012.5, float("inf"), float("nan")]), "f")
@example(pa.array([0.1, 1e10, 16777216.0, 1e-5, 3.4e38, 1e-45], pa.float32()), "f")
@example(pa.array([2.0**k for k in range(-40, 64)], pa.float32()), "f")
@example(pa.array([float("nan")] * 2), "f")
def test_arrow_and_pure_python_give_the_same_bytes(array: pa.Array, file: str):
    def made() -> list[Column]:
        return [*rows.source_columns([file] * len(array), range(len(array))), column_of(array)]

    fast, pure = both_ways(made(), 0), both_ways(made(), 10**9)
    assert fast == pure
    column = column_of(array)
    kind = column.type
    assert cells.type_of(column.cells) == kind


@given(st.lists(nullable(TEXTS | INTS | DOUBLES | st.booleans()), min_size=2, max_size=4))
def test_csv_reads_back_as_what_it_was(lists: list[list[object]]):
    count = min(map(len, lists))
    columns = [Column(str(i), [cells.cell_of(v) for v in vs[:count]]) for i, vs in enumerate(lists)]
    text = rows.render(Table(columns, count), "csv").data.decode()

    read = list(csv.reader(io.StringIO(text, newline="")))
    if any("\0" in cell for column in columns for cell in column.texts()):
        return  # our text is right, older csv modules stop at NUL
    assert read == [list(row) for row in zip(*(c.texts() for c in columns), strict=True)]


@given(st.lists(st.none() | TEXTS | INTS | DOUBLES | st.booleans(), min_size=1))
def test_jsonl_holds_one_object_a_row(values: list[object]):
    column = Column("ä", [cells.cell_of(value) for value in values])
    data = rows.render(Table([column], len(values)), "jsonl").data
    read = [json.loads(line)["ä"] for line in data.decode().split("\n")[:-1]]
    assert len(read) == len(values)
    for cell, back in zip(column.cells, read, strict=True):
        assert back == (None if isinstance(cell, float) and math.isinf(cell) else cell)


@given(SINGLES.filter(math.isfinite))
def test_a_single_has_the_shortest_text_that_reads_back(value: float):
    text = cells.single_text(value)
    assert np.float32(float(text)) == np.float32(value)
    shortest = repr(float(str(np.float32(value))))
    assert len(text) <= len(shortest)
    assert cells.single_text(float(text)) == text


def test_texts_of_numbers():
    given_texts = [
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.099975586"),  # as the float32 it is widened to
        (np.float64(0.1), "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e22, "1e+22"),
        (-0.0, "-0.0"),
        (math.inf, "inf"),
        (10**30, "1" + "0" * 30),
        (True, "true"),
        (np.bool_(False), "false"),
        (np.int8(-3), "-3"),
        (math.nan, ""),
        (None, ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        (pd.Timestamp("2026-01-02 03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (b"caf\xc3\xa9", "café"),
        (np.array([1.5, np.nan], dtype="f4"), "[1.5,null]"),
        ({"k": {1, 2}, 3: (None, "é")}, '{"k":[1,2],"3":[null,"é"]}'),
    ]
    for value, text in given_texts:
        assert cells.plain_text(cells.cell_of(value)) == text, value


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ([1, 2.5], "float", "1.0\n2.5\n"),
        ([1, "a"], "string", "1\na\n"),
        ([True, 1], "string", "true\n1\n"),
        ([[1], None, {"a": 2}], "json", '[1]\n""\n"{""a"":2}"\n'),
        ([[1], "a"], "string", "[1]\na\n"),
        ([None, math.nan], "null", '""\n""\n'),
        ([10**400, 0.5], "float", "inf\n0.5\n"),
    ],
)
def test_a_column_has_one_type(values: list[object], kind: str, text: str):
    rendered = rows.render(returned.table_of(values), "csv")
    assert rendered.columns == [("prediction", kind)]
    assert rendered.data.decode() == text


def test_odd_file_names_stay_valid_text():
    name = b"caf\xe9.csv".decode("utf-8", "surrogateescape")
    for count in (1, arrow_text.CELLS_MIN):
        columns = [*rows.source_columns([name] * count), column_of(pa.array(range(count)))]
        first = rows.render(Table(columns, count), "csv").data.split(b"\n")[0]
        assert first == b"caf\\udce9.csv,0"
    assert pa.ipc.open_stream(rows.render(Table(columns, count), "arrow").data).read_all()


def frames() -> dict[str, object]:
    frame = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": np.array([0.1, np.nan, 1e-7], dtype="f4"),
            "d": [1.0, 2.5, -1e300],
            "b": [True, False, True],
            "s": ["x", 'q"', "a,\nb"],
            "t": pd.to_datetime(["2026-01-01"] * 3),
        }
    )
    return {
        "pandas": frame,
        "pandas, pyarrow types": frame.convert_dtypes(dtype_backend="pyarrow"),
        "pandas, nullable types": frame.convert_dtypes(),
        # A float32 among objects is Python's own float by then, with all its digits.
        "pandas, objects": frame.assign(f=[0.1, None, 1e-7]).astype(object),
        "polars": pl.from_pandas(frame),
        "pyarrow": pa.Table.from_pandas(frame, preserve_index=False),
        "record batch": pa.RecordBatch.from_pandas(frame, preserve_index=False),
        "chunked": pa.concat_tables(
            [pa.Table.from_pandas(frame[:1]), pa.Table.from_pandas(frame[1:])]
        ).select(["i", "f", "d", "b", "s", "t"]),
    }


@pytest.mark.parametrize("kind", frames())
@pytest.mark.parametrize("cells_min", [0, 10**9])
def test_every_kind_of_frame_has_the_same_text(kind: str, cells_min: int):
    table = returned.table_of(returned.settled(frames()[kind]))
    text = both_ways(table.columns, cells_min).decode()
    assert text == (
        "1,0.1,1.0,true,x,2026-01-01T00:00:00\n"
        '2,,2.5,false,"q""",2026-01-01T00:00:00\n'
        '3,1e-07,-1e+300,true,"a,\nb",2026-01-01T00:00:00\n'
    )
    types = [column.type for column in table.columns]
    assert types == ["int", "float", "float", "bool", "string", "string"]


@pytest.mark.parametrize("kind", frames())
def test_arrow_keeps_exact_types(kind: str):
    table = returned.table_of(frames()[kind])
    rendered = rows.render(Table(rows.source_columns(["a"] * 3) + table.columns, 3), "arrow")
    read = pa.ipc.open_stream(rendered.data).read_all()
    assert rendered.encoding == "arrow"
    assert read.column_names == ["_file", "i", "f", "d", "b", "s", "t"]
    assert read.schema.field("i").type == pa.int64()
    assert read.schema.field("f").type == (pa.float64() if "objects" in kind else pa.float32())
    assert read["s"].to_pylist() == ["x", 'q"', "a,\nb"]


def test_names_of_columns():
    frame = pd.DataFrame([[1, 2, 3, 4]], columns=pd.Index(["x", "x", 7, "x.1"], dtype=object))
    names = [column.name for column in returned.table_of(frame).columns]
    assert names == ["x", "x.1", "7", "x.1.1"]
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", 1)]))
    assert [column.name for column in returned.table_of(levels).columns] == ["a_b", "a_1"]


def test_arrays_of_every_shape():
    def shown(array):
        table = returned.table_of(array)
        return [c.name for c in table.columns], rows.render(table, "csv").data.decode()

    assert shown(np.array([[1], [2]])) == (["prediction"], "1\n2\n")
    assert shown(np.zeros((1, 2, 1))) == (["prediction"], '"[[0.0],[0.0]]"\n')
    assert shown(np.array(["a", "b"])) == (["prediction"], "a\nb\n")
    assert shown(np.array([b"a", None], dtype=object)) == (["prediction"], 'a\n""\n')
    assert shown(np.array([(1, 0.5)], dtype=[("n", "i4"), ("p", "f4")])) == (["n", "p"], "1,0.5\n")
    assert shown(np.array([], dtype="f8")) == (["prediction"], "")
    with pytest.raises(returned.TaskFailed, match="without dimensions"):
        returned.settled(np.array(3))


def test_a_self_containing_list_is_the_users_error():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested more than"):
        returned.table_of([endless])


@pytest.mark.parametrize("style", ["csv", "arrow"])
def test_our_columns_keep_their_types_without_any_value(style: str):
    for count in (0, 2):
        columns = rows.source_columns([""] * count, range(count))
        rendered = rows.render(Table(columns, count), style)
        assert rendered.columns == [("_file", "string"), ("_row", "int")]
        if style == "arrow":
            schema = pa.ipc.open_stream(rendered.data).read_all().schema
            assert schema.types == [pa.string(), pa.int64()]
