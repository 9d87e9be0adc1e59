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
