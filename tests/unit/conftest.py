"""A control plane of its own for every test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.control_plane import ControlPlane, control_plane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    made = control_plane(tmp_path / "home")
    yield made
    made.ledger.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane whose callers are elsewhere: it takes no paths of theirs."""
    made = control_plane(tmp_path / "server", embedded=False)
    yield made
    made.ledger.close()
