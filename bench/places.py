"""Where the bench keeps what it makes: everything below `.bench`, which git ignores."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".bench"
DATA = WORK / "data"
MODELS = WORK / "models"
OUTPUTS = WORK / "outputs"
LATEST = HERE / "latest.json"

PYTHON = sys.executable
# W2 needs torch, which is in no lock of ours: a venv of its own.
IMAGES_PYTHON = WORK / "venv" / "bin" / "python"

TABULAR_MODEL = MODELS / "heart"
IMAGES_MODEL = MODELS / "images.pt"
OVERHEAD_MODEL = MODELS / "nothing.txt"


def cores() -> int:
    """Count the cores this process may use: the number of workers of every contender."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def emptied(folder: Path) -> Path:
    """Return the folder, there and with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
