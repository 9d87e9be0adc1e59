"""Outputs that an earlier job has computed, put into the places where a step's are wanted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.formats.durable import storage_error
from batchpoint.node.command_attempt import Attempt
from batchpoint.node.command_inputs import CommandInputs
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.command_outputs import CommandOutputs


def copy_outputs(
    order: CommandOrder,
    earlier: Mapping[str, PublishedOutput],
    is_unchanged: Callable[[], bool] = lambda: True,
) -> dict[str, PublishedOutput]:
    """Publish copies of earlier outputs as those of a command that is not run; blocking.

    Args:
        order: what would run the command; its `access` opens the earlier outputs, too.
        earlier: for each output of the step, what an earlier job has published.
        is_unchanged: whether all of that is as it was then; asked when it was copied.

    Raises:
        Conflict: something is in the place of an output (`output_exists`).
        Unavailable, Invalid: an earlier output cannot be read, or a place not be written to.
        Invalid (`input_changed`): an earlier output was changed while it was copied.
    """
    attempt = Attempt.begin(order.job_dir, order.epoch)
    try:
        outputs = CommandOutputs(order, attempt.scratch)
        done = outputs.earlier()
        if done is not None:
            return done
        outputs.prepare()
        try:
            for name, place in outputs.texts().items():
                _fetch(order, name, earlier[name], attempt.scratch / "earlier", Path(place))
            _refuse_unless(is_unchanged())
        except OSError as error:
            outputs.withdraw()
            raise storage_error(error, attempt.scratch) from error
        except BaseException:
            outputs.withdraw()
            raise
        return outputs.publish()
    finally:
        attempt.end()


def _refuse_unless(unchanged: bool) -> None:  # noqa: FBT001
    if not unchanged:
        raise Invalid("they were changed while they were copied", code="input_changed")


def _fetch(
    order: CommandOrder, name: str, source: PublishedOutput, scratch: Path, place: Path
) -> None:
    spec = order.spec
    assert spec.step is not None
    # Its own inputs are not wanted, and may have the same names.
    if spec.step.outputs[name].mode == "direct":
        raise Invalid(f"output {name} is written by the command itself", code="output_missing")
    nothing = spec.model_copy(update={"step": spec.step.model_copy(update={"inputs": {}})})
    data = JobInput(type=source.type, uri=source.uri, mode="download")
    scratch.mkdir(exist_ok=True)
    reading = CommandInputs(replace(order, spec=nothing, inputs={name: data}), scratch)
    text = reading.texts()[name]
    if place.is_dir():
        place.rmdir()
    shutil.move(text, place)
