"""How a model takes an image, by its signature: pixels in some shape, the file's bytes, or not."""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence, Tuple, Union

from batchpoint_worker.mlmodel import ModelFile, Tensor

BYTES, PIXELS = "bytes", "pixels"

# The letters of `axes`: number of images, height, width, channels, and all values in one row.
IMAGES, HEIGHT, WIDTH, CHANNELS, FLAT = "NHWCF"

# What Pillow calls images of so many channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

_NUMBER_TYPES = ("bool", "int", "uint", "float")


class ImageForm(NamedTuple):
    """What a model is given of an image.

    `kind` is BYTES (a data frame of one row whose column `column` holds the file's bytes), PIXELS
    (an array), or "" with the reason in `refusal`: the end of a sentence about the model.
    `axes` names the array's axes in order ("NHWC"), "" when they are those of the image behind a
    leading one of length 1; `shape` has a length for each of them, -1 for any.
    """

    kind: str
    refusal: str = ""
    column: Union[str, int] = 0
    dtype: str = "uint8"
    axes: str = ""
    shape: Tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """How many channels it has; -1: as many as the image, or to be told by the image's size."""
        if CHANNELS in self.axes:
            return self.shape[self.axes.index(CHANNELS)]
        return 1 if HEIGHT in self.axes else -1


def form_of(model: ModelFile) -> ImageForm:
    """Return how a model takes an image."""
    inputs = model.inputs
    if inputs.tensors:
        return _of_tensors(inputs.tensors)
    if inputs.columns is not None:
        needed = [column for column in inputs.columns if column.required]
        if len(needed) == 1 and needed[0].type == "binary":
            return ImageForm(BYTES, column=needed[0].name)
        return _refused("asks for the columns %s" % _listed([c.name for c in inputs.columns]))
    if inputs.unnamed and inputs.unnamed != ("binary",):
        return _refused("asks for columns of the types %s" % ", ".join(inputs.unnamed))
    return ImageForm(BYTES if inputs.unnamed else PIXELS)


def _refused(because: str) -> ImageForm:
    return ImageForm("", "the model's signature " + because)


def _of_tensors(tensors: Sequence[Tensor]) -> ImageForm:
    if len(tensors) > 1:
        return _refused("asks for %d tensors, and an image is one" % len(tensors))
    (tensor,) = tensors
    told = "asks for a tensor of type %s and shape %s" % (tensor.dtype, tensor.shape)
    axes = _axes(tensor.shape)
    if axes is None or not tensor.dtype.startswith(_NUMBER_TYPES):
        return _refused(told + ", which holds no image")
    if IMAGES in axes and tensor.shape[0] not in (-1, 1):
        return _refused(told + ", which is a batch of %d" % tensor.shape[0])
    return ImageForm(PIXELS, dtype=tensor.dtype, axes=axes, shape=tensor.shape)


def _axes(shape: Sequence[int]) -> Optional[str]:
    """Return what the axes of a tensor of this shape mean; None when it holds no image.

    The last axis is that of the channels if it has 1, 3 or 4 of them; if not, the first one behind
    that of the images is.
    """
    channels_last = bool(shape) and shape[-1] in MODES
    single = bool(shape) and shape[0] in (-1, 1)
    axes = {1: "F", 2: "NF" if single else "HW"}.get(len(shape))
    if len(shape) == 3:
        planes = "CHW" if shape[0] in MODES else None
        axes = "HWC" if channels_last else "NHW" if single else planes
    elif len(shape) == 4:
        if not channels_last and shape[1] in MODES:
            axes = "NCHW"
        elif channels_last or shape[-1] == -1:
            axes = "NHWC"
    return axes


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join([repr(name) for name in names[:5]])
    return shown + (" and %d more" % (len(names) - 5) if len(names) > 5 else "")
