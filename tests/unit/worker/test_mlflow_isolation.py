"""Rows that break a model fail alone, at a bounded number of calls."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint_worker import row_isolation
from batchpoint_worker.row_isolation import ALIKE_ITEMS_MAX, CALLS_MAX, PROBES, Isolation
from batchpoint_worker.scorer import TaskFailed
from batchpoint_worker.sources import Batch


def batch_of(*files) -> Batch:
    """A batch of files, each a list of values; the row is the position in its file."""
    values = [value for file in files for value in file]
    place = [n for n, file in enumerate(files) for _ in file]
    row = [n for file in files for n in range(len(file))]
    return Batch(pd.DataFrame({"x": values}), np.array(place, dtype=np.int32), np.array(row))


class Doubling:
    """A model that doubles, and raises on negative numbers."""

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, frame: pd.DataFrame):
        self.calls += 1
        bad = frame.x[frame.x < 0]
        if len(bad):
            raise ValueError(f"cannot double {bad.iloc[0]}")
        return frame.x.to_numpy() * 2


def run(batch: Batch, predict) -> Isolation:
    isolation = Isolation(predict)
    isolation.score(batch)
    return isolation


def scored(isolation: Isolation) -> list[tuple[int, int, object]]:
    return [
        (int(place), int(row), cell)
        for batch, table in isolation.parts
        for place, row, cell in zip(batch.place, batch.row, table.columns[0].cells, strict=True)
    ]


@given(
    st.lists(
        st.lists(st.integers(0, 100) | st.integers(-5, 5), min_size=1, max_size=40),
        min_size=1,
        max_size=6,
    )
)
def test_good_rows_are_scored_and_bad_ones_named(files):
    model = Doubling()
    isolation = run(batch_of(*files), model.predict)
    whole = {bad.place for bad in isolation.bad if bad.row is None}
    wanted = [
        (place, row, value * 2)
        for place, file in enumerate(files)
        for row, value in enumerate(file)
        if value >= 0 and place not in whole
    ]
    assert scored(isolation) == wanted
    failed = {(bad.place, bad.row) for bad in isolation.bad if bad.row is not None}
    assert failed == {
        (place, row)
        for place, file in enumerate(files)
        for row, value in enumerate(file)
        if value < 0 and place not in whole
    }
    for place in whole:
        spread = {i * (len(files[place]) - 1) // (PROBES - 1) for i in range(PROBES)}
        assert len({files[place][row] for row in spread}) == 1


def test_one_bad_row_among_many_costs_few_calls():
    model = Doubling()
    values = list(range(10_000))
    values[6_543] = -1
    isolation = run(batch_of(values), model.predict)
    (bad,) = isolation.bad
    assert (bad.place, bad.row) == (0, 6_543)
    assert bad.error["message"] == "cannot double -1"
    assert bad.error["type"] == "ValueError"
    assert len(scored(isolation)) == 9_999
    assert model.calls < 40


def test_a_file_whose_rows_all_fail_alike_fails_at_once():
    model = Doubling()
    isolation = run(batch_of([1] * 50, [-7] * 50_000, [2] * 50), model.predict)
    (bad,) = isolation.bad
    assert (bad.place, bad.row) == (1, None)
    assert len(scored(isolation)) == 100
    assert model.calls < 20


def test_calls_for_one_file_are_bounded_and_every_row_is_accounted_for():
    model = Doubling()
    values = [value if value % 2 else -value - 1 for value in range(4_000)]
    isolation = run(batch_of(values), model.predict)
    assert model.calls <= CALLS_MAX + PROBES + 1
    failed = [bad.row for bad in isolation.bad if bad.row is not None]
    kept = [row for _, row, _ in scored(isolation)]
    assert sorted(failed + kept) == list(range(4_000))
    assert "ended after 500 calls" in isolation.bad[-1].error["message"]
    again = run(batch_of(values), Doubling().predict)
    assert [bad.row for bad in again.bad] == failed


def test_files_that_all_fail_alike_fail_the_task_early():
    model = Doubling()
    files = [[-1, -1, -1] for _ in range(400)]
    with pytest.raises(ValueError, match="cannot double -1"):
        run(batch_of(*files), model.predict)
    assert model.calls < 10 + ALIKE_ITEMS_MAX * (PROBES + 2)


def test_few_files_that_all_fail_alike_fail_the_task_at_the_end():
    isolation = run(batch_of([-1, -1], [-1, -1]), Doubling().predict)
    with pytest.raises(ValueError, match="cannot double -1"):
        isolation.finish()


@pytest.mark.parametrize("files", [([-1, -1], [-2, -2]), ([-1, -1], [3]), ([-1, 4], [-1])])
def test_other_failures_do_not_fail_the_task(files):
    isolation = run(batch_of(*files), Doubling().predict)
    isolation.finish()
    assert isolation.bad


def test_too_few_predictions_fail_the_file_and_say_so():
    def predict(frame):
        return frame.dropna().x

    isolation = run(batch_of([1, 2], [3, None], [4]), predict)
    (bad,) = isolation.bad
    assert (bad.place, bad.row) == (1, None)
    assert bad.error["type"] == "prediction_count_wrong"
    assert "the model returned 1 predictions for 2 rows" in bad.error["message"]
    assert [line[:2] for line in scored(isolation)] == [(0, 0), (0, 1), (2, 0)]


@pytest.mark.parametrize("output", [3, "text", np.float64(2), np.array(3.0)])
def test_one_value_for_all_rows_is_refused(output):
    isolation = run(batch_of([1, 2]), lambda frame: output)
    assert "must return one for each row" in isolation.bad[0].error["message"]


@pytest.mark.parametrize(
    ("output", "names"),
    [
        (np.ones(2), ["prediction"]),
        (pd.Series([1, 2], name="other"), ["prediction"]),
        (["a", "b"], ["prediction"]),
        (np.ones((2, 1)), ["prediction"]),
        (np.ones((2, 3)), ["prediction_0", "prediction_1", "prediction_2"]),
        (pd.DataFrame({"p": [1, 2], "q": [3, 4]}), ["p", "q"]),
        (
            {"p": np.ones(2), "q": np.ones((2, 2)), "r": np.ones((2, 2, 2))},
            ["p", "q_0", "q_1", "r"],
        ),
    ],
)
def test_names_of_the_prediction_columns(output, names):
    table = row_isolation.predicted(output, 2)
    assert [column.name for column in table.columns] == names
    assert all(len(column.cells) == 2 for column in table.columns)


def test_sparse_predictions_are_unpacked():
    sparse = pytest.importorskip("scipy.sparse")
    table = row_isolation.predicted(sparse.csr_matrix(np.eye(2)), 2)
    assert [column.cells for column in table.columns] == [[1.0, 0.0], [0.0, 1.0]]


def test_a_column_with_our_name_fails_the_task():
    with pytest.raises(TaskFailed) as raised:
        run(batch_of([1]), lambda frame: pd.DataFrame({"_row": [1]}))
    assert raised.value.error["type"] == "output_columns_reserved"


def test_what_mlflow_says_of_a_schema_is_told_without_the_data():
    message = "Failed to enforce schema of data '   x\n0  1' with schema '['x']'. Error: too bad"

    def predict(frame):
        raise RuntimeError(message)

    isolation = run(batch_of([1]), predict)
    error = isolation.bad[0].error
    assert error["message"] == "the input does not fit the signature: too bad"
    assert error["origin"] == "input"
