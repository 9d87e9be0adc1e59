"""How a model takes an image, by its signature."""

import json
from pathlib import Path

import pytest

from batchpoint_worker import mlmodel
from batchpoint_worker.image_form import BYTES, PIXELS, ImageForm, form_of


def form(folder: Path, *inputs: dict) -> ImageForm:
    flavors = {"python_function": {"loader_module": "mlflow.sklearn"}}
    signature = {"inputs": json.dumps(inputs)} if inputs else None
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavors, "signature": signature}))
    return form_of(mlmodel.read(str(folder)))


def tensor(*shape: int, dtype: str = "float32", name: str = "") -> dict:
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}
    return {**spec, "name": name} if name else spec


def tensor_asked(what: str) -> str:
    return f"the model's signature asks for a tensor of type {what}"


def column(kind: str, name: str = "", *, required: bool = True) -> dict:
    return {"type": kind, "required": required, **({"name": name} if name else {})}


@pytest.mark.parametrize(
    ("shape", "axes", "channels"),
    [
        ((-1, 224, 224, 3), "NHWC", 3),
        ((1, -1, -1, 4), "NHWC", 4),
        ((-1, 28, 28, 1), "NHWC", 1),
        ((-1, -1, -1, -1), "NHWC", -1),
        ((-1, 3, 224, 224), "NCHW", 3),
        ((-1, 1, -1, -1), "NCHW", 1),
        ((-1, 28, 28), "NHW", 1),
        ((1, 28, 28), "NHW", 1),
        ((224, 224, 3), "HWC", 3),
        ((-1, -1, 3), "HWC", 3),
        ((3, 224, 224), "CHW", 3),
        ((-1, 784), "NF", -1),
        ((28, 28), "HW", 1),
        ((784,), "F", -1),
    ],
)
def test_axes_of_a_tensor(tmp_path, shape, axes, channels):
    found = form(tmp_path, tensor(*shape, dtype="uint8"))
    assert (found.kind, found.axes, found.channels) == (PIXELS, axes, channels)
    assert (found.shape, found.dtype) == (shape, "uint8")


def test_without_a_signature_the_image_is_taken_as_it_is(tmp_path):
    found = form(tmp_path)
    assert (found.kind, found.axes, found.dtype, found.channels) == (PIXELS, "", "uint8", -1)


def test_a_lone_binary_column_takes_the_bytes(tmp_path):
    assert form(tmp_path, column("binary", "picture")) == ImageForm(BYTES, column="picture")
    assert form(tmp_path, column("binary")) == ImageForm(BYTES, column=0)
    optional = column("string", "note", required=False)
    assert form(tmp_path, column("binary", "picture"), optional).column == "picture"


@pytest.mark.parametrize(
    ("inputs", "because"),
    [
        ([column("long", "age")], "the model's signature asks for the columns 'age'"),
        (
            [column("binary", "a"), column("binary", "b")],
            "the model's signature asks for the columns 'a', 'b'",
        ),
        (
            [column("long", f"c{n}") for n in range(7)],
            "the model's signature asks for the columns 'c0', 'c1', 'c2', 'c3', 'c4' and 2 more",
        ),
        (
            [column("double"), column("binary")],
            "the model's signature asks for columns of the types double, binary",
        ),
        (
            [tensor(-1, 3, name="a"), tensor(-1, 2, name="b")],
            "the model's signature asks for 2 tensors, and an image is one",
        ),
        (
            [tensor(-1, 10, 10, 5)],
            tensor_asked("float32 and shape (-1, 10, 10, 5), which holds no image"),
        ),
        (
            [tensor(32, 10, 10, 3)],
            tensor_asked("float32 and shape (32, 10, 10, 3), which is a batch of 32"),
        ),
        (
            [tensor(-1, dtype="object")],
            tensor_asked("object and shape (-1,), which holds no image"),
        ),
    ],
)
def test_what_takes_no_image_says_why(tmp_path, inputs, because):
    found = form(tmp_path, *inputs)
    assert (found.kind, found.refusal) == ("", because)
