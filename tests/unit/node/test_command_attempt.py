"""Attempts at commands exclude each other, and runners that were replaced are shut out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batchpoint.domain.errors import Unavailable
from batchpoint.node.command_attempt import Attempt, withdraw_attempt
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.command_outputs import CommandOutputs
from batchpoint.node.command_takeover import copy_outputs
from tests.integration.command_orders import order, output


def publish(given: CommandOrder) -> None:
    """Run an attempt as a node does."""
    attempt = Attempt.begin(given.job_dir, given.epoch)
    outputs = CommandOutputs(given, attempt.scratch)
    outputs.prepare()
    (Path(outputs.texts()["out"]) / "made").write_text("made")
    outputs.publish()
    attempt.end()


def test_one_attempt_at_a_time(tmp_path: Path) -> None:
    first = Attempt.begin(tmp_path / "job")
    with pytest.raises(Unavailable, match="do not end"):
        Attempt.begin(tmp_path / "job", patience_seconds=0.05)
    first.end()
    first.end()
    second = Attempt.begin(tmp_path / "job", patience_seconds=0.05)
    assert list(second.scratch.iterdir()) == []
    second.end()


def test_a_runner_that_was_replaced_takes_nothing_back(tmp_path: Path) -> None:
    old = replace(order(tmp_path, "true", outputs={"out": output(tmp_path / "out")}), epoch=9)
    new = replace(old, epoch=10)
    publish(new)
    for late in (withdraw_attempt, publish, lambda given: copy_outputs(given, {})):
        with pytest.raises(Unavailable) as caught:
            late(old)
        assert caught.value.code == "lease_lost"
    assert (tmp_path / "out" / "made").read_text() == "made"
    withdraw_attempt(new)
    assert not (tmp_path / "out").exists()


def test_the_epoch_outlives_attempts_that_were_killed(tmp_path: Path) -> None:
    given = order(tmp_path, "true")
    Attempt.begin(given.job_dir, 3).end()
    Attempt.begin(given.job_dir, 3).end()
    Attempt.begin(given.job_dir, 12).end()
    with pytest.raises(Unavailable, match="epoch 12 after 3"):
        Attempt.begin(given.job_dir, 3)


def test_orders_carry_the_epoch(tmp_path: Path) -> None:
    given = replace(order(tmp_path, "true"), epoch=7)
    assert CommandOrder.from_json(given.to_json()) == given
