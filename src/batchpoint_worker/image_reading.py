"""Image files as the arrays that a model asks for, decoded by the Pillow of its environment.

Nothing is resized, scaled or turned: pixels are the values in the file. What is converted is the
kind of pixel (palette, grey, colour, with or without transparency) where the signature asks for so
many channels, and the order of the axes.
"""

from __future__ import annotations

import importlib
import os
import posixpath
import warnings
from typing import Any, Dict

from batchpoint_worker.failures import plain_error
from batchpoint_worker.image_form import CHANNELS, FLAT, HEIGHT, IMAGES, MODES, WIDTH, ImageForm
from batchpoint_worker.scorer import TaskFailed

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
READABLE = ", ".join(ENDINGS)

# What the content may be, whatever the name says. Other decoders of Pillow run foreign programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_DEEP = ("I", "F")  # 32 bits a pixel; those of 16 bits begin with "I;16"
_KNOWN = ("L", "LA", "RGB", "RGBA")


class NoImage(Exception):
    """A file cannot be read as an image, or is not the image that the model asks for."""


def is_image(name: str) -> bool:
    """Tell whether a file name has the ending of an image."""
    return posixpath.splitext(name.lower())[1] in ENDINGS


def pillow() -> Any:
    """Return Pillow's module `Image`.

    Raises:
        TaskFailed: the environment has no Pillow.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as problem:
        raise TaskFailed(
            plain_error(
                "pillow_missing",
                "Pillow cannot be imported in this environment (%s), and reading images needs it; "
                "add pillow to the model's requirements" % problem,
                "environment",
            )
        ) from problem


def read(item: Dict[str, Any], form: ImageForm) -> Any:
    """Return the array that a model of this form gets of an image file.

    Args:
        item: as in protocol.py.
        form: whose kind is PIXELS.

    Raises:
        NoImage: the file is broken, too large, or has another size or depth than the form.
        TaskFailed: the environment has no Pillow.
        MemoryError: the image does not fit into memory.
    """
    name = item["name"]
    array = _pixels(_decoded(item["path"], name), name, form)
    if form.axes in ("", "NF", "F"):
        return _cast(_flattened(array, name, form), name, form)
    if array.ndim == 2 and CHANNELS in form.axes:
        array = array[:, :, None]
    lengths = dict(zip(HEIGHT + WIDTH + CHANNELS, array.shape))
    for axis, length in zip(form.axes, form.shape):
        if axis != IMAGES and length not in (-1, lengths[axis]):
            raise NoImage(_other_size(name, form, lengths[HEIGHT], lengths[WIDTH]))
    if CHANNELS in form.axes and form.axes.index(CHANNELS) < form.axes.index(HEIGHT):
        array = array.transpose(2, 0, 1)
    if IMAGES in form.axes:
        array = array[None]
    np: Any = importlib.import_module("numpy")
    return np.ascontiguousarray(_cast(array, name, form))


def _other_size(name: str, form: ImageForm, height: int, width: int) -> str:
    wanted = dict(zip(form.axes, form.shape))
    return (
        "%s is %d x %d pixels (width x height), and the model's signature asks for %s x %s; resize "
        "the images, or deploy with a scoring script that does"
        % (name, width, height, _any(wanted[WIDTH]), _any(wanted[HEIGHT]))
    )


def _any(length: int) -> str:
    return "any" if length == -1 else str(length)


def _decoded(path: str, name: str) -> Any:
    """Return the first frame of an image file, decoded."""
    image_module = pillow()
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are allowed, and of odd metadata
            image = image_module.open(file, formats=_FORMATS)
            image.load()
    except MemoryError:
        raise
    except image_module.UnidentifiedImageError:
        kinds = ", ".join(_FORMATS)
        raise NoImage(
            "%s is no image that Pillow can read: its content is none of %s, or broken from the "
            "beginning" % (name, kinds)
        ) from None
    except image_module.DecompressionBombError as problem:
        raise NoImage(
            "%s is too large: %s; if it is to be trusted, deploy with a scoring script that sets "
            "PIL.Image.MAX_IMAGE_PIXELS" % (name, problem)
        ) from None
    except Exception as problem:  # noqa: BLE001 - bulkhead: decoders raise anything on broken files
        said = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        raise NoImage("%s cannot be read as an image: %s" % (name, said)) from None
    return image


def _pixels(image: Any, name: str, form: ImageForm) -> Any:
    """Return the pixels of height x width, or height x width x channels.

    Deep grey values are kept where the form is of one channel and wide enough; elsewhere 16 bits
    are brought to 8 by their upper byte, as Pillow does with deep colours.
    """
    np: Any = importlib.import_module("numpy")
    channels = form.channels
    if form.axes in ("NF", "F"):
        channels = _channels_of(form.shape[-1], image.width * image.height)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.uint16)
        target = np.dtype(form.dtype)
        if channels in (1, -1) and target.itemsize > (2 if target.kind == "f" else 1):
            return values
        image = pillow().fromarray((values >> 8).astype(np.uint8))
    elif image.mode in _DEEP:
        values = np.asarray(image)
        if channels in (1, -1):
            return values
        shallow = ImageForm(form.kind, dtype="uint8")
        image = pillow().fromarray(_cast(values, name, shallow))
    elif image.mode not in _KNOWN:
        image = image.convert(_plain_mode(image))
    wanted = MODES.get(channels, image.mode)
    return np.asarray(image if image.mode == wanted else image.convert(wanted))


def _plain_mode(image: Any) -> str:
    """Return the mode with plain channels that loses nothing of an image."""
    if image.mode == "1":
        return "L"
    transparent = image.mode in ("PA", "RGBa", "La") or "transparency" in image.info
    return "RGBA" if transparent else "RGB"


def _channels_of(length: int, pixels: int) -> int:
    """Return how many channels make `length` values of so many pixels; -1 when none do."""
    for channels in MODES:
        if pixels * channels == length:
            return channels
    return -1


def _flattened(array: Any, name: str, form: ImageForm) -> Any:
    if not form.axes:
        return array[None]
    length = form.shape[form.axes.index(FLAT)]
    if length not in (-1, array.size):
        raise NoImage(
            "%s has %d values (%s), and the model's signature asks for %d; resize the images, or "
            "deploy with a scoring script that does"
            % (name, array.size, " x ".join(map(str, array.shape)), length)
        )
    return array.reshape((1, -1) if IMAGES in form.axes else (-1,))


def _cast(array: Any, name: str, form: ImageForm) -> Any:
    """Return the array in the form's type; a value that it cannot hold is an error."""
    np: Any = importlib.import_module("numpy")
    target = np.dtype(form.dtype)
    if target.kind in "iu" and not np.can_cast(array.dtype, target):
        if array.dtype.kind == "f":
            raise NoImage(
                "%s has pixels that are fractions (%s), and the model takes %s"
                % (name, array.dtype, target)
            )
        bounds = np.iinfo(target)
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        if low < bounds.min or high > bounds.max:
            raise NoImage(
                "%s has pixels from %d to %d, and the model takes %s (%d to %d)"
                % (name, low, high, target, bounds.min, bounds.max)
            )
    return array.astype(target, copy=False)


def bytes_frame(item: Dict[str, Any], form: ImageForm) -> Any:
    """Return the data frame with an image file's bytes that a model of this form gets.

    Raises:
        NoImage: the file cannot be read.
    """
    pd: Any = importlib.import_module("pandas")
    try:
        with open(item["path"], "rb") as file:
            data = file.read()
    except OSError as problem:
        said = os.strerror(problem.errno) if problem.errno else problem
        raise NoImage("%s cannot be read: %s" % (item["name"], said)) from None
    return pd.DataFrame({form.column: pd.Series([data], dtype=object)})
