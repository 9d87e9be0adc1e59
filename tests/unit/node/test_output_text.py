"""Rows rendered anew: the same as if they had been rendered with the output's columns at once."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.assembly import union, widened
from batchpoint.node.output_text import Malformed, csv_anew, csv_header, fits, jsonl_anew

VALUES = {
    "int": st.none() | st.integers(-(2**80), 2**80),
    "float": st.none() | st.floats(allow_nan=False),
    "bool": st.none() | st.booleans(),
    "string": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    "json": st.none() | st.lists(st.integers(), max_size=2),
    "null": st.none(),
}


@st.composite
def tables(draw):
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1, max_size=4))
    columns = [(name, draw(st.sampled_from(sorted(VALUES)))) for name in names]
    count = draw(st.integers(0, 4))
    rows = [[draw(VALUES[kind]) for _, kind in columns] for _ in range(count)]
    return tuple(columns), rows


def plain(value: object, kind: str, wanted: str) -> str:
    """The text of a cell in a column of type `wanted`, straight from the rulings."""
    if value is None:
        return ""
    if wanted == "float" and kind == "int":
        try:
            return repr(float(value))  # type: ignore[arg-type]
        except OverflowError:
            return "inf" if value > 0 else "-inf"  # type: ignore[operator]
    if kind == "bool":
        return "true" if value else "false"
    if kind == "json":
        return json.dumps(value, separators=(",", ":"))
    return value if isinstance(value, str) else repr(value)


def rendered(columns, rows, wanted) -> bytes:
    out = io.StringIO()
    kinds = dict(columns)
    position = {name: index for index, (name, _) in enumerate(columns)}
    for row in rows:
        cells = [
            plain(row[position[name]], kinds[name], kind) if name in position else ""
            for name, kind in wanted
        ]
        quoted = [
            '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell
            for cell in cells
        ]
        out.write((",".join(quoted) or '""') + "\n")
    return out.getvalue().encode()


@given(tables(), tables())
def test_csv_is_as_if_rendered_so_at_once(one, other):
    wanted = union([one[0], other[0]])
    for columns, rows in (one, other):
        own = rendered(columns, rows, columns)
        anew = csv_anew(own.decode(), columns, wanted)
        assert anew == rendered(columns, rows, wanted)
        if fits("csv", columns, wanted):
            assert anew == own


@given(tables(), tables())
def test_jsonl_is_as_if_rendered_so_at_once(one, other):
    wanted = union([one[0], other[0]])
    for columns, rows in (one, other):
        finite = [
            [None if value in (float("inf"), float("-inf")) else value for value in row]
            for row in rows
        ]
        own = "".join(
            json.dumps(dict(zip(dict(columns), row, strict=True)), separators=(",", ":")) + "\n"
            for row in finite
        )
        anew = jsonl_anew(own, columns, wanted).decode()
        kinds = dict(columns)
        expected = [
            {name: json_value(row.get(name), kinds.get(name), kind) for name, kind in wanted}
            for row in (dict(zip(dict(columns), row, strict=True)) for row in finite)
        ]
        read = [json.loads(line) for line in anew.split("\n")[:-1]]
        assert read == expected
        assert [list(row) for row in read] == [[name for name, _ in wanted]] * len(rows)
        if fits("jsonl", columns, wanted):
            assert read == [json.loads(line) for line in own.split("\n")[:-1]]


def json_value(value: object, kind: str | None, wanted: str) -> object:
    if value is None or kind is None:
        return None
    if kind == "int" and wanted == "float":
        number = plain(value, kind, wanted)
        return None if "inf" in number else float(number)
    if kind != wanted and wanted == "string":
        return plain(value, kind, wanted)
    return value


def test_what_fits_is_left_as_it_is():
    a_int, a_float, a_null = (("a", "int"),), (("a", "float"),), (("a", "null"),)
    a_text, a_bool = (("a", "string"),), (("a", "bool"),)
    for render in ("csv", "jsonl"):
        assert fits(render, a_int, a_int)
        assert fits(render, a_null, a_text)
        assert not fits(render, a_int, a_float)
        assert not fits(render, a_int, (*a_int, ("b", "int")))
        assert not fits(render, (("b", "int"), *a_int), (*a_int, ("b", "int")))
    assert fits("csv", a_bool, a_text)
    assert not fits("jsonl", a_bool, a_text)
    assert fits("azure", (), a_int)


def test_the_header_names_the_columns():
    assert csv_header((("a", "int"), ("b,c", "int"))) == b'a,"b,c"\n'
    assert csv_header((("", "int"),)) == b'""\n'
    assert widened("int", "int") == "int"


def test_a_single_empty_cell_is_still_a_row():
    anew = csv_anew('""\n', (("a", "null"),), (("a", "string"),))
    assert anew == b'""\n'
    assert list(csv.reader(io.StringIO(anew.decode()))) == [[""]]


def test_cells_of_any_length_are_read():
    text = "x" * 1_000_000
    assert csv_anew(text + "\n", (("a", "string"),), (("b", "int"), ("a", "string"))) == (
        f",{text}\n".encode()
    )


@pytest.mark.parametrize("text", ["1,2\n", '"1\n', "1\n2,3\n"])
def test_csv_that_is_not_what_the_part_says_is_refused(text):
    with pytest.raises((Malformed, csv.Error)):
        csv_anew(text, (("a", "string"),), (("a", "string"), ("b", "string")))


@pytest.mark.parametrize("text", ["[1]\n", "{\n", "1\n"])
def test_json_that_is_not_what_the_part_says_is_refused(text):
    with pytest.raises(Malformed):
        jsonl_anew(text, (("a", "int"),), (("a", "float"),))
