"""The scoring script of W3: what is left of a job is overhead."""

# Written as people write such programs:
# ruff: noqa: PTH119

from __future__ import annotations

import os


def init() -> None:
    """There is nothing to load."""


def run(mini_batch: list[str]) -> list[str]:
    """Return the name of each file."""
    return [os.path.basename(path) for path in mini_batch]
