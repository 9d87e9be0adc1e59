"""Files are complete or absent; a full disk is said so and loses nothing."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from batchpoint.domain.errors import Unavailable
from batchpoint.formats.durable import storage_error, write_durably

FULL = """
import os, resource, sys
sys.path[:0] = {path!r}
from pathlib import Path
from batchpoint.domain.errors import Unavailable
from batchpoint.domain.minibatch import Task
from batchpoint.formats.durable import write_durably
from batchpoint.formats.parts import PartReader, PartWriter
folder = Path({folder!r})

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def full(work, *given, **more):
    try:
        work(*given, **more)
    except Unavailable as error:
        assert error.code == "storage_full", error
        assert str(folder) in str(error), error
        return
    raise AssertionError("there was room")
"""


def run(folder: Path, code: str) -> None:
    script = FULL.format(path=sys.path, folder=str(folder)) + code
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    run(
        tmp_path,
        """
room(10)
full(write_durably, folder / "x", [b"123", b"4567890", b"x"])
assert (folder / "x").read_bytes() == b"old"
assert os.listdir(folder) == ["x"]
room(11)
write_durably(folder / "x", [b"123", b"4567890", b"x"])
""",
    )
    assert (tmp_path / "x").read_bytes() == b"1234567890x"


@pytest.mark.parametrize("size", [0, 8, 700_000, 2_400_000, 2_400_200])
def test_a_part_keeps_all_frames_while_the_disk_is_full(tmp_path, size):
    run(
        tmp_path,
        f"""
writer = PartWriter(folder / "x.part", job="j", epoch=1, node="n")
room({size})
frames = [bytes([65 + n]) * 600_000 for n in range(4)]
for number, data in enumerate(frames):
    try:
        writer.add(Task(number, 0, 1), data, b"", rows=1, failed_rows=0, columns=[],
                   encoding="csv", items=1)
    except Unavailable as error:
        assert error.code == "storage_full"
assert writer.frames == 4
full(writer.seal)
full(writer.seal)
assert not (folder / "x.part").exists()
room(10_000_000)
writer.seal()
with PartReader(folder / "x.part") as reader:
    assert [reader.read(number)[0] for number in range(4)] == frames
assert os.listdir(folder) == ["x.part"]
""",
    )


def test_what_went_wrong_is_told_apart():
    path = Path("somewhere")
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        error = storage_error(OSError(number, "full"), path, 5_000)
        assert error.code == "storage_full"
        assert "5,000 bytes" in str(error)
        assert isinstance(error, Unavailable)
    for number in (errno.EACCES, errno.EIO, errno.ENOENT, errno.EROFS):
        error = storage_error(OSError(number, "why"), path)
        assert error.code == "storage_unavailable"
        assert "somewhere" in str(error)
        assert "why" in str(error)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Unavailable, match="missing") as caught:
        write_durably(tmp_path / "missing" / "x", [b""])
    assert caught.value.code == "storage_unavailable"
