"""Hides optional parts of libraries while those are imported: nothing here uses them.

All of them are parts whose absence the library itself allows for, and together they take longer to
import than all of our own modules.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast


def hide(*modules: str) -> None:
    """Make importing these modules fail with ImportError in this process, unless already there."""
    loaded = cast("dict[str, object]", sys.modules)
    for name in modules:
        loaded.setdefault(name, None)


@contextmanager
def without(*modules: str) -> Generator[None]:
    """Hide modules for a while."""
    loaded = cast("dict[str, object]", sys.modules)
    hidden = [name for name in modules if name not in loaded]
    hide(*hidden)
    try:
        yield
    finally:
        for name in hidden:
            del loaded[name]
