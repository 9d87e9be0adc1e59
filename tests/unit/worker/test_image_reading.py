"""Image files become the arrays that a signature asks for, or say why they cannot."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from batchpoint_worker import image_reading
from batchpoint_worker.image_form import PIXELS, ImageForm
from batchpoint_worker.image_reading import NoImage, is_image

Image = pytest.importorskip("PIL.Image")

SOURCE = Path(__file__).parents[3] / "src"
AXES = {4: "NHWC", 3: "NHW", 2: "NF", 1: "F"}


def colours(height: int = 4, width: int = 6, channels: int = 3) -> np.ndarray:
    count = height * width * channels
    return (np.arange(count) * 7 % 256).astype(np.uint8).reshape(height, width, channels)


def wanted(*shape: int, dtype: str = "uint8", axes: str = "") -> ImageForm:
    return ImageForm(PIXELS, dtype=dtype, axes=axes or AXES[len(shape)], shape=shape)


def as_it_is() -> ImageForm:
    return ImageForm(PIXELS)


@pytest.fixture
def read(tmp_path):
    def reading(image, form: ImageForm, name: str = "a.png", **options) -> np.ndarray:
        path = tmp_path / name
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, **options)
        return image_reading.read({"path": str(path), "name": name}, form)

    return reading


def test_endings_are_those_of_the_contract():
    for name in ("a.png", "b/c.JPG", "d.jpeg", "e.tiff", "f.tif", "g.bmp", "h.GIF"):
        assert is_image(name)
    for name in ("a.csv", "png", "a.png.gz", "b.webp", "a.svg"):
        assert not is_image(name)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.tif"])
def test_without_a_signature_pixels_come_behind_a_leading_axis(read, name):
    pixels = colours()
    array = read(Image.fromarray(pixels), as_it_is(), name)
    assert (array.dtype, array.shape) == (np.uint8, (1, 4, 6, 3))
    assert (array[0] == pixels).all()


def test_jpeg_is_what_pillow_decodes(read, tmp_path):
    array = read(Image.fromarray(colours(16, 24)), as_it_is(), "a.jpg", quality=80)
    with Image.open(tmp_path / "a.jpg") as image:
        assert (array[0] == np.asarray(image)).all()


def test_grey_images_keep_their_two_axes_without_a_signature(read):
    grey = colours()[:, :, 0]
    assert (read(Image.fromarray(grey), as_it_is())[0] == grey).all()


def test_the_type_of_the_signature_is_taken_and_values_stay(read):
    pixels = colours()
    for dtype in ("float32", "float64", "int16", "int64", "uint16"):
        array = read(Image.fromarray(pixels), wanted(-1, 4, 6, 3, dtype=dtype))
        assert array.dtype == dtype
        assert (array[0] == pixels).all()


def test_channels_first_is_transposed_and_not_reshaped(read):
    pixels = colours()
    array = read(Image.fromarray(pixels), wanted(-1, 3, -1, -1, axes="NCHW"))
    assert array.shape == (1, 3, 4, 6)
    assert (array[0].transpose(1, 2, 0) == pixels).all()
    assert array.flags.c_contiguous
    planes = read(Image.fromarray(pixels), wanted(3, 4, 6, axes="CHW"))
    assert (planes == array[0]).all()


def test_colour_for_a_model_of_grey_images_and_the_other_way_round(read):
    grey = colours()[:, :, 0]
    triple = read(Image.fromarray(grey), wanted(-1, 4, 6, 3))
    assert (triple[0] == np.stack([grey] * 3, axis=-1)).all()
    same = np.stack([grey] * 3, axis=-1)
    assert (read(Image.fromarray(same), wanted(-1, 4, 6, 1))[0, :, :, 0] == grey).all()
    assert (read(Image.fromarray(same), wanted(-1, 4, 6))[0] == grey).all()
    assert (read(Image.fromarray(same), wanted(4, 6, axes="HW")) == grey).all()


def test_transparency_is_dropped_or_made_as_the_signature_asks(read):
    clear = colours(channels=4)
    image = Image.fromarray(clear)
    assert (read(image, as_it_is())[0] == clear).all()
    assert (read(image, wanted(-1, 4, 6, 3))[0] == clear[:, :, :3]).all()
    opaque = read(Image.fromarray(colours()), wanted(-1, 4, 6, 4))
    assert (opaque[0, :, :, 3] == 255).all()


def test_palettes_are_looked_up(read):
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0], pixels[1, 1] = (255, 0, 0), (0, 0, 255)
    image = Image.fromarray(pixels).quantize(4)
    assert image.mode == "P"
    assert (read(image, as_it_is())[0] == pixels).all()
    array = read(image, as_it_is(), "clear.png", transparency=image.getpixel((0, 0)))
    assert array.shape == (1, 2, 2, 4)
    assert array[0, 0, 0].tolist() == [255, 0, 0, 0]
    assert (read(image, wanted(-1, 2, 2, 3), "a.gif")[0] == pixels).all()


def test_black_and_white_is_grey(read):
    image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert read(image, as_it_is())[0].tolist() == [[0, 255], [255, 0]]


def test_print_colours_become_screen_colours(read):
    image = Image.new("CMYK", (3, 2), (0, 255, 255, 0))
    assert read(image, as_it_is(), "a.tif")[0, 0, 0].tolist() == [255, 0, 0]


def test_of_an_animation_the_first_frame_counts(read):
    frames = [Image.fromarray(np.full((2, 2), value, np.uint8)) for value in (10, 200)]
    array = read(
        frames[0], wanted(-1, 2, 2), "a.gif", save_all=True, append_images=frames[1:], duration=9
    )
    assert (array == 10).all()


def test_a_photo_is_not_turned_as_its_camera_was_held(read):
    exif = Image.Exif()
    exif[0x0112] = 6
    array = read(Image.fromarray(colours(16, 24)), as_it_is(), "a.jpg", exif=exif)
    assert array.shape == (1, 16, 24, 3)


def test_deep_grey_is_kept_where_the_signature_can_hold_it(read):
    deep = np.array([[0, 255, 256], [4_096, 40_000, 65_535]], np.uint16)
    image = Image.fromarray(deep)
    for dtype in ("uint16", "int32", "float32"):
        array = read(image, wanted(-1, 2, 3, dtype=dtype))
        assert (array.dtype, (array[0] == deep).all()) == (dtype, True)
    assert (read(image, wanted(-1, 2, 3))[0] == deep >> 8).all()
    assert (read(image, as_it_is())[0] == deep >> 8).all()
    triple = read(image, wanted(-1, 2, 3, 3, dtype="float32"))
    assert (triple[0, :, :, 1] == deep >> 8).all()
    with pytest.raises(NoImage, match=r"a.png has pixels from 0 to 65535, and the model takes in"):
        read(image, wanted(-1, 2, 3, dtype="int16"))


def test_fractions_are_for_models_of_fractions(read):
    image = Image.fromarray(np.array([[0.5, 1.5]], np.float32))
    assert read(image, wanted(-1, 1, 2, dtype="float64"), "a.tif")[0].tolist() == [[0.5, 1.5]]
    with pytest.raises(NoImage, match=r"a.tif has pixels that are fractions \(float32\)"):
        read(image, as_it_is(), "a.tif")


def test_flat_models_get_as_many_channels_as_make_the_number(read):
    pixels = colours()
    image = Image.fromarray(pixels)
    assert (read(image, wanted(-1, 72))[0] == pixels.ravel()).all()
    assert (read(image, wanted(-1, 24))[0] == np.asarray(image.convert("L")).ravel()).all()
    assert (read(image, wanted(-1, -1))[0] == pixels.ravel()).all()
    assert read(image, wanted(96)).shape == (96,)
    with pytest.raises(NoImage) as raised:
        read(image, wanted(-1, 784))
    assert str(raised.value) == (
        "a.png has 72 values (4 x 6 x 3), and the model's signature asks for 784; resize the "
        "images, or deploy with a scoring script that does"
    )


def test_another_size_is_never_squeezed_into_the_shape(read):
    """448 x 448 x 3 could be reshaped to four of 224 x 224 x 3: four scrambled images."""
    with pytest.raises(NoImage) as raised:
        read(Image.fromarray(colours(8, 12)), wanted(-1, 4, 6, 3))
    assert str(raised.value) == (
        "a.png is 12 x 8 pixels (width x height), and the model's signature asks for 6 x 4; resize "
        "the images, or deploy with a scoring script that does"
    )
    with pytest.raises(NoImage, match="asks for any x 4"):
        read(Image.fromarray(colours(8, 12)), wanted(-1, 4, -1, 3))


def png(width: int, height: int) -> bytes:
    """A PNG file that says it is so large, and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def test_a_bomb_is_told_from_its_header(read):
    with pytest.raises(NoImage, match=r"^a.png is too large: .*decompression bomb"):
        read(png(60_000, 60_000), as_it_is())


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(colours(64, 64)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_half_a_file_is_no_image(read, kind):
    whole = encoded(kind)
    with pytest.raises(NoImage, match=r"^a\.png cannot be read as an image: ."):
        read(whole[: len(whole) // 2], as_it_is())


@pytest.mark.parametrize("content", [b"", b"age,dose\n1,2\n", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe"])
def test_what_is_no_image_says_so(read, content):
    with pytest.raises(NoImage, match=r"^a.png (is no image|cannot be read as an image: .)"):
        read(content, as_it_is())


def test_the_content_counts_and_not_the_ending(read):
    assert (read(encoded("PNG"), as_it_is(), "really-a-png.jpg")[0] == colours(64, 64)).all()


def test_a_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(NoImage, match=r"a.png cannot be read as an image: No such file"):
        image_reading.read({"path": str(tmp_path / "a.png"), "name": "a.png"}, as_it_is())


def test_an_environment_without_pillow_says_so_in_one_sentence(tmp_path):
    program = """
import sys
sys.modules["PIL"] = None
from batchpoint_worker import image_reading
from batchpoint_worker.scorer import TaskFailed
try:
    image_reading.pillow()
except TaskFailed as failed:
    print(failed.error["origin"], failed.error["type"], failed.error["message"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("environment pillow_missing Pillow cannot be imported in this ")
    assert done.stdout.rstrip().endswith("add pillow to the model's requirements")
