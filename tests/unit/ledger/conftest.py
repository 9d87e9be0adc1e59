"""A ledger of its own for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchpoint.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()
