"""Tables for models whose signature asks for one tensor: each row is flattened values of it."""

from __future__ import annotations

import importlib
from typing import Any, Optional

from batchpoint_worker.mlmodel import ModelFile, Tensor

_NUMBER_TYPES = ("bool", "int", "uint", "float")


def tensor_of_numbers(model: ModelFile) -> Optional[Tensor]:
    """Return the lone tensor of numbers that a model asks for, if it does."""
    tensor = model.tensor
    return tensor if tensor is not None and tensor.dtype.startswith(_NUMBER_TYPES) else None


def given(frame: Any, tensor: Tensor) -> Any:
    """Return what a model of this tensor gets for the rows of a frame.

    That is the array with the rows as its first axis, reshaped and cast as the signature says. What
    does not come to its shape stays a frame, and mlflow knows what to do with it, or says so: a
    column of lists, another number of columns.
    """
    np: Any = importlib.import_module("numpy")
    trail = tensor.shape[1:]
    if not tensor.shape or tensor.shape[0] != -1 or trail.count(-1) > 1:
        return frame
    values = frame.to_numpy()
    target = np.dtype(tensor.dtype)
    if values.dtype.kind not in "biuf" or not np.can_cast(values.dtype, target, "same_kind"):
        return frame
    width, wanted = values.shape[1], 1
    for length in trail:
        wanted *= length
    if width != wanted and not (-1 in trail and wanted and width % wanted == 0):
        return frame
    array = values.astype(target, copy=False).reshape((len(values), *trail))
    return {tensor.name: array} if tensor.name else array


def is_data(line: bytes) -> bool:
    """Tell whether the first line of a CSV is a row of numbers already and no header.

    The numbers 0, 1, 2, … are a header: pandas names columns so when they have no names.
    """
    fields = [field.strip() for field in line.strip().split(b",")]
    if fields == [b"%d" % number for number in range(len(fields))]:
        return False
    try:
        for field in fields:
            float(field)
    except ValueError:
        return False
    return True


def header_for(line: bytes) -> bytes:
    """Return a header for a CSV whose first line is data: the columns' numbers."""
    return b",".join([b"%d" % number for number in range(line.count(b",") + 1)]) + b"\n"
