"""Makes what a workload needs, once: data and models below `.bench`, the venv of W2."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import places

SMALL_FILES, SMALL_FILE_BYTES = 20_000, 100
# The one wheel that is in no lock: the CPU build is on few indexes, and others are gigabytes.
TORCH = "torch==2.13.0"


def prepare(names: Iterable[str], images: int) -> dict[str, str]:
    """Make what these workloads need; return why some of them cannot run here."""
    cannot: dict[str, str] = {}
    for name in names:
        if name == "W2":
            if not _images_venv():
                cannot[name] = (
                    f"torch cannot be imported by {places.IMAGES_PYTHON}; install {TORCH} there"
                )
                continue
            _images(images)
        elif name == "W3":
            _made("W3", places.DATA / "W3", _small_files)
            places.MODELS.mkdir(parents=True, exist_ok=True)
            places.OVERHEAD_MODEL.write_text("nothing is loaded from here\n")
        else:
            _made("model", places.TABULAR_MODEL, functools.partial(_tabular, "model"))
            _made(name, places.DATA / name, functools.partial(_tabular, name))
    return cannot


def _tabular(name: str, folder: Path) -> None:
    program = str(places.HERE / "tabular" / "make_tabular.py")
    subprocess.run([places.PYTHON, program, name, str(folder)], check=True)


def _made(name: str, folder: Path, make: Callable[[Path], None]) -> None:
    """Have a folder made under another name first, so that half a folder is never used."""
    if folder.exists():
        return
    print(f"making {name} ...", flush=True)
    begun = places.emptied(folder.with_name(f"{folder.name}.begun"))
    make(begun)
    begun.rename(folder)


def _small_files(folder: Path) -> None:
    for number in range(SMALL_FILES):
        text = f"x{number:05d} " * SMALL_FILE_BYTES
        (folder / f"t{number:05d}.txt").write_text(text[:SMALL_FILE_BYTES])


def _images(count: int) -> None:
    program = str(places.HERE / "images" / "make_images.py")
    python = str(places.IMAGES_PYTHON)

    def make(folder: Path) -> None:
        workers = str(places.cores())
        subprocess.run([python, program, "images", str(folder), str(count), workers], check=True)

    data = places.DATA / "W2"
    if data.exists() and len(list(data.iterdir())) != count:
        shutil.rmtree(data)
    _made("W2", data, make)
    if not places.IMAGES_MODEL.exists():
        places.MODELS.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, program, "weights", str(places.IMAGES_MODEL)], check=True)


def _images_venv() -> bool:
    """Make W2's venv from the lock; torch comes from pip's own wheel folders, if it is there."""
    python = places.IMAGES_PYTHON
    lock = places.HERE.parent / "requirements" / "bench.lock"
    installed = python.parent.parent / "installed.lock"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        print("making the venv of W2 ...", flush=True)
        subprocess.run([places.PYTHON, "-m", "venv", str(python.parent.parent)], check=True)
        subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
        shutil.copyfile(lock, installed)
    if not _imports_torch():
        subprocess.run([*pip, "--no-index", "--no-deps", TORCH], check=False)
    return _imports_torch()


def _imports_torch() -> bool:
    command = [str(places.IMAGES_PYTHON), "-c", "import torch, PIL"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
