"""Reading tabular items: rows or a failure that names file, column and row; never a wrong row."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from batchpoint_worker import parquet_index, tabular
from batchpoint_worker.csv_reading import without_quoted
from batchpoint_worker.mlmodel import NUMPY_NAMES, InputColumn, Inputs, ModelFile

TYPES = {"age": "long", "dose": "double", "kind": "string", "smoker": "boolean"}


def model(types: dict[str, str] | None = TYPES, optional: tuple[str, ...] = ()) -> ModelFile:
    columns = None
    if types is not None:
        columns = [InputColumn(name, type_, name not in optional) for name, type_ in types.items()]
    return ModelFile("", "", "predict", "", "", {}, Inputs(columns), "")


def item(path: Path, number: int = 0, **more) -> dict:
    return {"path": str(path), "name": path.name, "item": number, **more}


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def read(*paths: Path, of: ModelFile | None = None):
    return tabular.read([item(path, n) for n, path in enumerate(paths)], of or model())


def messages(reading) -> list[str]:
    return [bad.error["message"] for bad in reading.bad]


GOOD = "age,dose,kind,smoker\n1,0.5,a,true\n2,,b,false\n3,2e3,,True\n"


def test_types_are_those_of_the_signature(tmp_path):
    (batch,) = read(write(tmp_path, "a.csv", GOOD)).batches
    assert {name: str(kind) for name, kind in batch.frame.dtypes.items()} == {
        "age": "int64",
        "dose": "float64",
        "kind": "object",
        "smoker": "bool",
    }
    assert batch.frame.age.tolist() == [1, 2, 3]
    assert batch.row.tolist() == [0, 1, 2]


def test_small_files_become_one_batch_in_their_order(tmp_path):
    header = GOOD.split("\n", maxsplit=1)[0]
    paths = [
        write(tmp_path, "a.csv", GOOD),
        write(tmp_path, "b.csv", header),
        write(tmp_path, "c.csv", header.replace(",", '","').join('""') + "\r\n9,1,x,1\r\n\r\n"),
        write(tmp_path, "d.csv", header + '\n7,1,"two\nlines",0\n\n8,1,"say ""hi""",0'),
        write(tmp_path, "e.csv", "kind,smoker,age,dose\nz,false,5,0\n"),
        write(tmp_path, "f.csv", GOOD),
    ]
    reading = read(*paths)
    assert reading.bad == []
    (batch,) = reading.batches
    assert batch.frame.age.tolist() == [1, 2, 3, 9, 7, 8, 5, 1, 2, 3]
    assert batch.place.tolist() == [0, 0, 0, 2, 3, 3, 4, 5, 5, 5]
    assert batch.row.tolist() == [0, 1, 2, 0, 0, 1, 0, 0, 1, 2]
    assert reading.counts == {0: 3, 1: 0, 2: 1, 3: 2, 4: 1, 5: 3}


TOKENS = st.sampled_from(
    [
        *("1", "-7", "+3", " 4 ", "1.0", "2.5", "1e2", "", "NA", "x", "0x1", "1_0", "9" * 25),
        *("--1", "inf", "nan", ".", "1.", "no", "é", "a,b", 'q"q', "a\nb", " ", "10000000000"),
    ]
)


def alone(header: list[str], row: list[str], types: dict[str, str]) -> pd.DataFrame | None:
    """What pandas makes of a file with this row only; None when it refuses it."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, row])
    dtype: Any = {name: NUMPY_NAMES[type_] for name, type_ in types.items()}
    try:
        return pd.read_csv(io.BytesIO(out.getvalue().encode()), dtype=dtype, index_col=False)
    except (ValueError, OverflowError):
        return None


@given(
    rows=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=12),
    kind=st.sampled_from(["long", "integer", "double", "float", "string"]),
)
@example(rows=[("", "x"), ("1", "y")], kind="long")
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # pandas casts infinity, and then refuses it
def test_a_row_fails_when_it_would_fail_alone(tmp_path_factory, rows, kind):
    types = {"a": kind, "b": "string"}
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([["a", "b"], *rows])
    path = write(tmp_path_factory.mktemp("rows"), "a.csv", out.getvalue())
    reading = read(path, of=model(types))
    wanted = [alone(["a", "b"], list(row), types) for row in rows]
    assert reading.counts == {0: len(rows)}
    assert [bad.row for bad in reading.bad] == [
        n for n, frame in enumerate(wanted) if frame is None
    ]
    good = [frame for frame in wanted if frame is not None]
    if good:
        (batch,) = reading.batches
        pd.testing.assert_frame_equal(batch.frame, pd.concat(good, ignore_index=True))
        assert batch.row.tolist() == [n for n, frame in enumerate(wanted) if frame is not None]


FIELD = st.text(alphabet='a1,"\n\r ', max_size=4)


@given(
    files=st.lists(
        st.tuples(
            st.lists(st.tuples(FIELD, FIELD), max_size=5),
            st.sampled_from(["\n", "\r\n"]),
            st.sampled_from(["", "\n", "\n\n", "  \n"]),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=150, deadline=None)
def test_joined_files_give_what_each_gives_alone(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("joined")
    paths = []
    for number, (rows, end, tail) in enumerate(files):
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator=end).writerows([["a", "b"], *rows])
        paths.append(write(folder, f"{number}.csv", out.getvalue() + tail))
    reading = read(*paths, of=model({"a": "string", "b": "string"}))
    assert reading.bad == []
    (batch,) = reading.batches
    wanted = [pd.read_csv(path, dtype=object) for path in paths]
    assert batch.row.tolist() == [n for frame in wanted for n in range(len(frame))]
    assert batch.place.tolist() == [n for n, frame in enumerate(wanted) for _ in range(len(frame))]
    pd.testing.assert_frame_equal(batch.frame, pd.concat(wanted, ignore_index=True).astype(object))


@given(bodies=st.lists(st.text(alphabet='1a,"\n\r ', max_size=25), min_size=2, max_size=4))
@example(bodies=['x"y,1\n', '2",3\n4,5\n'])
@example(bodies=['"1,2\n', '3,4"\n'])
@example(bodies=["1,2\r3,4", "\n\n5,6\n"])
@settings(max_examples=300, deadline=None)
def test_odd_text_in_one_file_never_moves_rows_of_another(tmp_path_factory, bodies):
    folder = tmp_path_factory.mktemp("odd")
    paths = [write(folder, f"{n}.csv", "a,b\n" + body) for n, body in enumerate(bodies)]
    reading = read(*paths, of=model({"a": "string", "b": "string"}))
    failed = {bad.place for bad in reading.bad}
    for place, path in enumerate(paths):
        got = [b.frame[b.place == place] for b in reading.batches if (b.place == place).any()]
        rows = [tuple(row) for frame in got for row in frame.fillna("").itertuples(index=False)]
        if place in failed:
            continue
        whole = pd.read_csv(path, dtype=object, index_col=False).fillna("")
        assert rows == [tuple(row) for row in whole.itertuples(index=False)]


def test_bad_values_are_named_with_file_row_line_and_column(tmp_path):
    text = 'age,dose,kind,smoker\n1,1,"two\nlines",1\nx,1,b,1\n3,oops,c,maybe\n,1,d,0\n5,1,e,0\n'
    reading = read(write(tmp_path, "a.csv", GOOD), write(tmp_path, "bad.csv", text))
    assert [(bad.place, bad.row) for bad in reading.bad] == [(1, 1), (1, 2), (1, 3)]
    assert messages(reading) == [
        "bad.csv, row 1 (line 4): column 'age' must be a whole number and has 'x'",
        (
            "bad.csv, row 2 (line 5): column 'dose' must be a number and has 'oops'; "
            "column 'smoker' must be true or false and has 'maybe'"
        ),
        "bad.csv, row 3 (line 6): column 'age' must be a whole number and has no value",
    ]
    (batch,) = reading.batches
    assert batch.frame.age.tolist() == [1, 2, 3, 1, 5]
    assert batch.row.tolist() == [0, 1, 2, 0, 4]
    assert reading.counts == {0: 3, 1: 5}


def test_values_that_only_pass_alone_fail_in_company(tmp_path):
    text = "age,dose,kind,smoker\n1,1,a,true\ntrue,1,a,1\n3,1,a,0\n"
    reading = read(write(tmp_path, "a.csv", text))
    assert [bad.row for bad in reading.bad] == [1, 2]
    assert reading.batches[0].frame.age.tolist() == [1]


def test_many_bad_values_are_found_without_trying_each(tmp_path):
    lines = [f"{'' if n % 2 else 'x'}{n},1,a,1" for n in range(4000)]
    reading = read(write(tmp_path, "a.csv", "age,dose,kind,smoker\n" + "\n".join(lines)))
    assert [bad.row for bad in reading.bad] == list(range(0, 4000, 2))
    assert reading.batches[0].row.tolist() == list(range(1, 4000, 2))


def test_a_row_with_too_many_fields_fails_alone(tmp_path):
    reading = read(write(tmp_path, "a.csv", GOOD + "4,1,a,b,true\n5,1,a,true\n"))
    assert messages(reading) == ["a.csv, row 3 (line 5): has 5 fields where the header has 4"]
    assert reading.batches[0].row.tolist() == [0, 1, 2, 4]


def test_a_comma_at_the_end_of_every_line_adds_no_column(tmp_path):
    text = "age,dose,kind,smoker\n1,1,a,true,\n2,1,a,true,\n"
    reading = read(write(tmp_path, "a.csv", text), write(tmp_path, "b.csv", text + "x,1,a,1,\n"))
    assert [(bad.place, bad.row) for bad in reading.bad] == [(1, 2)]
    assert reading.batches[0].frame.age.tolist() == [1, 2, 1, 2]


def test_rows_all_longer_than_the_header_are_not_taken_for_an_index(tmp_path):
    reading = read(write(tmp_path, "a.csv", "age,dose,kind,smoker\n1,2,3,x,true\n1,2,3,y,true\n"))
    (message,) = messages(reading)
    assert message == ("a.csv row 0 has 5 fields where the header has 4, as have all others")
    assert reading.batches == []


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"", "a.csv is empty: not even a header"),
        ("a.csv", b"\n \n", "a.csv is empty: not even a header"),
        ("a.csv", GOOD.encode("utf-16"), "a.csv is UTF-16 text; save it as UTF-8"),
        (
            "a.csv",
            GOOD.encode() + "9,1,é,true\n".encode("latin-1"),
            "a.csv is not UTF-8 text: byte 0xe9 near row 3; save it as UTF-8",
        ),
        ("a.csv", gzip.compress(GOOD.encode()), "a.csv is gzip-compressed; a name that ends"),
        ("a.csv.gz", gzip.compress(GOOD.encode())[:-12], "a.csv.gz is a gzip file that ends too"),
        ("a.csv.gz", GOOD.encode(), "a.csv.gz cannot be unpacked as gzip: "),
        ("a.csv", GOOD.encode() + b'9,1,"never,true\n', "a.csv has a quoted field that never"),
        ("a.csv", GOOD.replace(",", ";").encode(), "is it separated by something else"),
        ("a.csv", b"dose,kind\n1,a\n", "a.csv lacks the columns 'age', 'smoker', which the model"),
        ("a.csv", b"dose,kind\n", "a.csv lacks the columns 'age', 'smoker', which the model"),
        ("a.parquet", b"PAR1", "a.parquet cannot be read as Parquet: "),
        ("a.parquet", b"", "a.parquet cannot be read as Parquet: "),
        ("a.jsonl", b"\xff\n", "a.jsonl is not UTF-8 text near row 0"),
        ("a.txt", b"hello", "a.txt is in no format that can be scored without code; expected"),
        ("a.parquet.gz", b"", "a.parquet.gz is in no format that can be scored"),
    ],
)
def test_what_cannot_be_read_fails_alone_and_says_why(tmp_path, name, data, said):
    good = write(tmp_path, "good.csv", GOOD)
    reading = read(good, write(tmp_path, name, data), good)
    (bad,) = reading.bad
    assert (bad.place, bad.row) == (1, None)
    assert said in bad.error["message"]
    assert bad.error["origin"] == "input"
    (batch,) = reading.batches
    assert batch.place.tolist() == [0, 0, 0, 2, 2, 2]


def test_a_file_that_is_gone_says_so(tmp_path):
    (message,) = messages(read(tmp_path / "gone.csv"))
    assert message == "gone.csv cannot be read: No such file or directory"


def test_a_header_without_rows_is_a_valid_file(tmp_path):
    reading = read(write(tmp_path, "a.csv", "age,dose,kind,smoker"))
    assert reading.bad == []
    assert reading.counts == {0: 0}


def test_an_optional_column_may_be_missing(tmp_path):
    of = model({**TYPES, "note": "string"}, optional=("note",))
    reading = read(write(tmp_path, "a.csv", GOOD), of=of)
    assert reading.bad == []
    assert list(reading.batches[0].frame) == list(TYPES)


def test_without_a_signature_types_are_those_of_each_file(tmp_path):
    whole = write(tmp_path, "a.csv", "x,y\n1,a\n2,b\n")
    broken = write(tmp_path, "b.csv", "x,y\n1.5,a\n,b\n")
    reading = read(whole, broken, whole, of=model(None))
    kinds = [[str(kind) for kind in batch.frame.dtypes] for batch in reading.batches]
    assert [kind[0] for kind in kinds] == ["int64", "float64"]
    assert [batch.place.tolist() for batch in reading.batches] == [[0, 0, 2, 2], [1, 1]]


@given(start=st.integers(0, 9), length=st.integers(0, 9))
def test_byte_ranges_of_a_csv_have_its_header_and_their_rows(tmp_path_factory, start, length):
    lines = [f"{n},1,k,true\n" for n in range(10)]
    header = "\ufeffage,dose,kind,smoker\r\n"
    path = write(tmp_path_factory.mktemp("slice"), "a.csv", header + "".join(lines))
    begin = len(header.encode()) + len("".join(lines[:start]))
    stop = begin + len("".join(lines[start : start + length]))
    of = item(path, unit="bytes", start=begin, stop=stop, row=start)
    reading = tabular.read([of], model())
    assert reading.bad == []
    assert [n for b in reading.batches for n in b.frame.age] == list(range(10))[start:][:length]
    assert [n for b in reading.batches for n in b.row] == list(range(10))[start:][:length]


def test_row_numbers_of_failures_in_a_slice_are_those_of_the_file(tmp_path):
    path = write(tmp_path, "a.csv", "age,dose,kind,smoker\n1,1,a,1\nx,1,a,1\n3,1,a,1\n")
    of = item(path, unit="bytes", start=29, stop=path.stat().st_size, row=1)
    reading = tabular.read([of], model())
    assert [bad.row for bad in reading.bad] == [1]
    assert reading.batches[0].row.tolist() == [2]


def test_row_groups_of_a_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"age": range(10), "dose": 1.0, "kind": "a", "smoker": True, "extra": 0})
    frame.to_parquet(path, row_group_size=4, index=False)
    groups = parquet_index.index({"path": str(path)})["row_groups"]
    assert [group[0] for group in groups] == [4, 4, 2]
    places = [(start, stop) for *_, start, stop in groups]
    assert places == sorted(places)
    assert all(0 < start < stop <= path.stat().st_size for start, stop in places)
    of = item(path, unit="row_groups", start=1, stop=3, row=4)
    reading = tabular.read([of], model())
    assert reading.batches[0].frame.age.tolist() == [4, 5, 6, 7, 8, 9]
    assert reading.batches[0].row.tolist() == [4, 5, 6, 7, 8, 9]
    assert list(reading.batches[0].frame) == list(TYPES)


def test_parquet_rows_without_a_whole_number_fail_alone(tmp_path):
    path = tmp_path / "a.parquet"
    ages = pd.array([1, None, 3, None], dtype="Int64")
    pd.DataFrame({"age": ages, "dose": 1.0, "kind": "a", "smoker": True}).to_parquet(path)
    reading = read(path)
    assert [bad.row for bad in reading.bad] == [1, 3]
    assert messages(reading)[0] == (
        "a.parquet, row 1: column 'age' must be a whole number and has no value"
    )
    assert reading.batches[0].row.tolist() == [0, 2]


def test_json_lines_name_the_bad_row_and_column(tmp_path):
    lines = [
        '{"age": 1, "dose": 1, "kind": "a", "smoker": true, "more": [1]}',
        "",
        '{"age": 1.5, "dose": "x", "kind": "a", "smoker": 1}',
        "{",
        "[1]",
        '{"age": 3.0, "dose": null, "kind": null, "smoker": false}',
        '{"dose": 2.5, "kind": 7, "smoker": false}',
    ]
    reading = read(write(tmp_path, "a.jsonl", "\r\n".join(lines)))
    (batch,) = reading.batches
    assert batch.row.tolist() == [0, 4]
    assert batch.frame.age.tolist() == [1, 3]
    np.testing.assert_array_equal(batch.frame.dose, [1.0, np.nan])
    said = {bad.row: bad.error["message"] for bad in reading.bad}
    assert said[1] == (
        "a.jsonl, row 1: column 'age' must be a whole number and has 1.5; "
        "column 'dose' must be a number and has \"x\"; "
        "column 'smoker' must be true or false and has 1"
    )
    assert said[2].startswith("a.jsonl, row 2 is not JSON: ")
    assert said[3].startswith("a.jsonl, row 3 is no JSON object")
    assert said[5] == "a.jsonl, row 5: column 'age' must be a whole number and has no value"
    assert reading.counts == {0: 6}


@given(st.text(alphabet='a,"\n', max_size=30))
def test_what_is_told_of_quotes_is_what_the_csv_module_finds(body):
    bare = without_quoted(body.encode())
    assume(bare is not None)
    assert bare is not None
    records = [r for r in csv.reader(io.StringIO(body, newline="")) if r]
    assert sum(1 for line in bare.split(b"\n") if line) == len(records)
