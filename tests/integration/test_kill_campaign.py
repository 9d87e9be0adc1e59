"""Nothing is lost, doubled or left behind, whoever is killed and whenever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.kill_campaign import Wanted, run_campaign


def test_three_hundred_kills_change_nothing(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    wanted = Wanted(worker=250, runner=40, supervisor=10)
    campaign = run_campaign(tmp_path, wanted, seed)
    assert campaign.jobs_done >= 2
    assert campaign.killed == {"worker": 250, "runner": 40, "supervisor": 10}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_thousand_kills_change_nothing(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    wanted = Wanted(worker=2_500, runner=400, supervisor=100)
    campaign = run_campaign(tmp_path, wanted, seed)
    assert sum(campaign.killed.values()) == 3_000
