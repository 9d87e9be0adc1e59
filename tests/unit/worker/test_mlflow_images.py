"""Images scored without code give what mlflow gives for the same arrays, file by file."""

import csv
import io
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchpoint_worker.mlflow_script import MlflowScorer
from batchpoint_worker.protocol import STATUS_BYTES, StatusPage
from batchpoint_worker.scorer import Request, TaskFailed

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of mlflow's about itself
    mlflow = pytest.importorskip("mlflow.pyfunc")

    class Calling(mlflow.PythonModel):
        """A model that is a function of its input."""

        def __init__(self, function) -> None:
            self.function = function

        def predict(self, context, model_input, params=None):
            return self.function(model_input)


Image = pytest.importorskip("PIL.Image")


def signature(*inputs):
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

    return ModelSignature(inputs=Schema(list(inputs)))


def tensor(dtype: str, *shape: int, name: str | None = None):
    from mlflow.types import TensorSpec

    return TensorSpec(np.dtype(dtype), shape, name)


def seen(model_input):
    """Says what it was given: kind, type, shape, and a sum that depends on the order of values."""
    array = model_input
    if isinstance(array, dict):
        ((name, array),) = array.items()
        assert name == "pixels"
    weights = np.arange(array.size, dtype=np.float64).reshape(array.shape)
    return pd.DataFrame(
        {"seen": [f"{array.dtype} {array.shape}"], "sum": [(array * weights).sum()]}
    )


def sizes(model_input):
    """Takes files as bytes in a data frame."""
    assert isinstance(model_input, pd.DataFrame)
    return [f"{type(b).__name__} {len(b)} {sum(b)}" for b in model_input.iloc[:, 0]]


def boxes(model_input):
    """Finds any number of bright pixels in an image, breaks on one and is silent on another."""
    if model_input[0, 0, 0, 0] == 13:
        raise ValueError("13 brings bad luck")
    rows, columns = np.nonzero(model_input[0, :, :, 0] > 200)
    return {"box": np.stack([rows, columns], axis=1), "score": np.full(len(rows), 0.5)}


def totals(model_input):
    """Takes rows of numbers and images alike."""
    return [float(np.asarray(row).sum()) for row in np.asarray(model_input)]


def save(function, path: Path, inputs=None) -> str:
    options = {"signature": inputs, "pip_requirements": []}
    mlflow.save_model(str(path), python_model=Calling(function), **options)
    return str(path)


def save_digits(path: Path) -> str:
    """A real classifier of scikit-learn's own digits, 8 x 8 pixels of grey, as flat vectors."""
    from mlflow.sklearn import save_model as save_sklearn
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    pixels, digits = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=200).fit(pixels[:600] * 16, digits[:600])
    save_sklearn(
        model,
        str(path),
        signature=signature(tensor("float64", -1, 64)),
        serialization_format="cloudpickle",
        pyfunc_predict_fn="predict_proba",
        pip_requirements=[],
    )
    return str(path)


@pytest.fixture
def status(tmp_path):
    path = tmp_path / "status"
    path.write_bytes(bytes(STATUS_BYTES))
    fd = os.open(path, os.O_RDWR)
    page = StatusPage(fd)
    yield page
    page.close()
    os.close(fd)


def items(*paths: Path) -> list[dict]:
    return [{"path": str(p), "name": p.name, "item": 100 + n} for n, p in enumerate(paths)]


def scored(model: str, paths: list[Path], status: StatusPage, **more):
    request = Request.from_header({"mode": "mlflow", "model_path": model, **more})
    scorer = MlflowScorer()
    scorer.load(request)
    return scorer.score({"id": 1, "items": items(*paths)}, request, status)


def lines(result) -> list[list[str]]:
    return list(csv.reader(io.StringIO(result.data.decode(), newline="")))


def pictures(folder: Path, count: int = 3, height: int = 4, width: int = 6) -> list[Path]:
    chance = np.random.default_rng(5)
    paths = []
    for number in range(count):
        pixels = chance.integers(0, 256, (height, width, 3)).astype(np.uint8)
        path = folder / f"{number}.{('png', 'bmp', 'jpg')[number % 3]}"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("inputs", "array"),
    [
        (None, lambda pixels: pixels[None]),
        (("uint8", (-1, 4, 6, 3)), lambda pixels: pixels[None]),
        (("float32", (-1, -1, -1, 3)), lambda pixels: pixels[None].astype("float32")),
        (("float32", (-1, 3, 4, 6)), lambda pixels: pixels.transpose(2, 0, 1)[None].astype("f4")),
        (("int64", (4, 6, 3)), lambda pixels: pixels.astype("int64")),
        (("float64", (-1, 72)), lambda pixels: pixels.reshape(1, 72).astype("float64")),
        (("float64", (1, 72), "pixels"), lambda pixels: pixels.reshape(1, 72).astype("float64")),
    ],
)
def test_each_image_is_what_mlflow_predicts_for_its_array(inputs, array, tmp_path, status):
    asked = None
    if inputs is not None:
        asked = signature(tensor(inputs[0], *inputs[1], name=(*inputs, None)[2]))
    model = save(seen, tmp_path / "model", asked)
    paths = pictures(tmp_path)
    result = scored(model, paths, status)
    loaded = mlflow.load_model(model)
    wanted = []
    for path in paths:
        given = array(pixels_of(path))
        output = loaded.predict({"pixels": given} if inputs and len(inputs) == 3 else given)
        wanted.append([path.name, "0", output["seen"][0], str(output["sum"][0])])
    assert lines(result) == wanted
    assert result.failures == []
    names = [("_file", "string"), ("_row", "int"), ("seen", "string"), ("sum", "float")]
    assert (result.columns, result.rows) == (names, 3)


def test_digits_are_told_as_mlflow_tells_them(tmp_path, status):
    from sklearn.datasets import load_digits

    model = save_digits(tmp_path / "model")
    paths = []
    digits, answers = load_digits(return_X_y=True)
    for number, values in enumerate(digits[600:620] * 15.9375):
        path = tmp_path / f"{number:02}.png"
        Image.fromarray(values.astype(np.uint8).reshape(8, 8)).save(path)
        paths.append(path)
    loaded = mlflow.load_model(model)
    result = scored(model, paths, status)
    wanted = [loaded.predict(pixels_of(p).reshape(1, 64).astype("float64"))[0] for p in paths]
    found = lines(result)
    assert [line[:2] for line in found] == [[path.name, "0"] for path in paths]
    assert [[float(cell) for cell in line[2:]] for line in found] == [list(row) for row in wanted]
    told = np.argmax(wanted, axis=1) == answers[600:620]
    assert told.mean() > 0.8


@pytest.mark.parametrize("name", ["picture", None])
def test_a_binary_column_gets_the_bytes_of_each_file(name, tmp_path, status):
    from mlflow.types import ColSpec

    model = save(sizes, tmp_path / "model", signature(ColSpec("binary", name)))
    paths = pictures(tmp_path)
    loaded = mlflow.load_model(model)
    wanted = []
    for path in paths:
        frame = pd.DataFrame({name or 0: [path.read_bytes()]})
        wanted.append([path.name, "0", loaded.predict(frame)[0]])
    result = scored(model, paths, status)
    assert lines(result) == wanted
    assert wanted[0][2].startswith("bytes ")


def test_an_image_may_give_any_number_of_rows(tmp_path, status):
    model = save(boxes, tmp_path / "model", signature(tensor("uint8", -1, -1, -1, 3)))
    paths = []
    for number, bright in enumerate([[(1, 2), (3, 0)], [], [(0, 1)]]):
        pixels = np.zeros((4, 4, 3), np.uint8)
        for place in bright:
            pixels[place] = 255
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    result = scored(model, paths, status)
    assert [name for name, _ in result.columns] == ["_file", "_row", "box_0", "box_1", "score"]
    assert lines(result) == [
        ["0.png", "0", "1", "2", "0.5"],
        ["0.png", "1", "3", "0", "0.5"],
        ["2.png", "0", "0", "1", "0.5"],
    ]
    assert result.failures == []
    azure = scored(model, paths, status, render="azure")
    assert azure.data == b"0,1,2,0.5,0.png\n1,3,0,0.5,0.png\n0,0,1,0.5,2.png\n"


def test_a_bad_image_fails_alone_with_its_cause(tmp_path, status):
    model = save(boxes, tmp_path / "model", signature(tensor("uint8", -1, 4, 4, 3)))
    good = np.full((4, 4, 3), 250, np.uint8)
    unlucky = np.full((4, 4, 3), 13, np.uint8)
    contents = {"a": good, "b": unlucky, "c": good[:3], "d": good}
    paths = []
    for name, pixels in contents.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        paths.append(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:45])
    (tmp_path / "note.txt").write_text("no image")
    paths[2:2] = [tmp_path / "broken.jpg", tmp_path / "note.txt"]
    result = scored(model, paths, status)
    assert {line[0] for line in lines(result)} == {"a.png", "d.png"}
    told = [(f.name, f.row, f.error["origin"], f.error["message"]) for f in result.failures]
    assert told[0] == ("b.png", None, "user", "13 brings bad luck")
    assert told[1][:3] == ("broken.jpg", None, "input")
    assert told[1][3].startswith("broken.jpg cannot be read as an image: ")
    assert told[2][3] == (
        "note.txt is in no format that can be scored without code; expected .csv, .jsonl, .ndjson "
        "(each also with .gz), .parquet, .parq or .pqt, or an image (.png, .jpg, .jpeg, .tif, "
        ".tiff, .bmp, .gif), or deploy a scoring script"
    )
    assert told[3][3].startswith("c.png is 4 x 3 pixels")


def test_what_fails_every_image_fails_the_task(tmp_path, status):
    model = save(boxes, tmp_path / "model", signature(tensor("uint8", -1, 4, 4, 3)))
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for path in paths:
        Image.fromarray(np.full((4, 4, 3), 13, np.uint8)).save(path)
    with pytest.raises(ValueError, match="13 brings bad luck"):
        scored(model, paths, status)


def test_a_silent_image_counts_as_scored(tmp_path, status):
    """An image without rows is no failure, so its neighbour's failure is its own."""
    model = save(boxes, tmp_path / "model", signature(tensor("uint8", -1, 4, 4, 3)))
    for name, value in (("a", 0), ("b", 13)):
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    result = scored(model, [tmp_path / "a.png", tmp_path / "b.png"], status)
    assert (result.rows, result.data) == (0, b"")
    assert [(f.name, f.row) for f in result.failures] == [("b.png", None)]


def test_a_model_of_tables_says_what_it_wants_instead_of_an_image(tmp_path, status):
    from mlflow.types import ColSpec

    model = save(totals, tmp_path / "model", signature(ColSpec("double", "note")))
    (tmp_path / "a.csv").write_text("note\n1.5\n")
    result = scored(model, [tmp_path / "a.csv", *pictures(tmp_path, 1)], status)
    assert lines(result) == [["a.csv", "0", "1.5"]]
    (failure,) = result.failures
    assert failure.error["message"] == (
        "0.png is an image, and the model's signature asks for the columns 'note'; use tables, or "
        "deploy with a scoring script"
    )


def test_tables_and_images_in_one_task_stay_in_order(tmp_path, status):
    model = save(totals, tmp_path / "model")
    image = tmp_path / "b.png"
    Image.fromarray(np.full((2, 2, 3), 2, np.uint8)).save(image)
    for name in ("a", "c"):
        (tmp_path / f"{name}.csv").write_text("x,y\n1,2\n3,4\n")
    paths = [tmp_path / "a.csv", image, tmp_path / "c.csv"]
    found = lines(scored(model, paths, status))
    assert found == [
        ["a.csv", "0", "3.0"],
        ["a.csv", "1", "7.0"],
        ["b.png", "0", "24.0"],
        ["c.csv", "0", "3.0"],
        ["c.csv", "1", "7.0"],
    ]


def answers(model_input):
    """Answers with whatever the environment says."""
    return eval(os.environ["ANSWER"], {"np": np, "pd": pd})


@pytest.mark.parametrize(
    ("answer", "columns", "cells"),
    [
        ("'cat'", ["prediction"], [["cat"]]),
        ("0.5", ["prediction"], [["0.5"]]),
        ("np.float32(0.1)", ["prediction"], [["0.1"]]),
        ("np.array(7)", ["prediction"], [["7"]]),
        ("np.array([[1, 2]])", ["prediction_0", "prediction_1"], [["1", "2"]]),
        ("{'label': 'cat', 'score': 0.5}", ["label", "score"], [["cat", "0.5"]]),
        ("[{'label': 'cat'}]", ["prediction"], [['{"label":"cat"}']]),
        ("{'p': np.ones((1, 2)), 'q': np.ones(1)}", ["p_0", "p_1", "q"], [["1.0", "1.0", "1.0"]]),
        ("pd.DataFrame({'p': [1, 2]})", ["p"], [["1"], ["2"]]),
    ],
)
def test_what_a_model_may_return_for_an_image(
    answer, columns, cells, tmp_path, status, monkeypatch
):
    monkeypatch.setenv("ANSWER", answer)
    model = save(answers, tmp_path / "model")
    result = scored(model, pictures(tmp_path, 1), status)
    assert [name for name, _ in result.columns] == ["_file", "_row", *columns]
    assert [line[2:] for line in lines(result)] == cells
    assert [line[:2] for line in lines(result)] == [["0.png", str(n)] for n in range(len(cells))]


def test_nothing_is_no_prediction(tmp_path, status, monkeypatch):
    monkeypatch.setenv("ANSWER", "None")
    model = save(answers, tmp_path / "model")
    with pytest.raises(Exception, match="the model returned None"):
        scored(model, pictures(tmp_path, 1), status)


def test_without_pillow_the_job_fails_at_its_first_image_and_says_so_before(
    tmp_path, status, monkeypatch
):
    model = save(seen, tmp_path / "model", signature(tensor("uint8", -1, 4, 6, 3)))
    paths = pictures(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    request = Request.from_header({"mode": "mlflow", "model_path": model})
    scorer = MlflowScorer()
    (warning,) = scorer.load(request).warnings
    assert "add pillow to the model's requirements" in warning
    with pytest.raises(TaskFailed) as raised:
        scorer.score({"id": 1, "items": items(*paths)}, request, status)
    assert raised.value.error["type"] == "pillow_missing"
    assert raised.value.error["origin"] == "environment"
