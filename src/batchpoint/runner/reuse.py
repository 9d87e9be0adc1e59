"""Taking over what an earlier step has computed: found by its key, and still there unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from batchpoint.domain.errors import BatchpointError, NotFound
from batchpoint.domain.job import Job, JobState, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepPlace
from batchpoint.ledger.ledger import Ledger

Identify = Callable[[JobInput], str]
"""Names the content of data, blocking; "" where nobody can know. Raises BatchpointError."""


def earlier_outputs(
    child: Job, key: str, ledger: Ledger, identify: Identify
) -> tuple[str, Mapping[str, PublishedOutput]] | None:
    """Return the job that computed the same earlier and its outputs, if all are as they were.

    Blocking: the outputs are read once.
    """
    place = child.spec.step
    assert place is not None
    name = ledger.earlier_result(key)
    if name is None or any(_has_own_place(child, place, output) for output in place.outputs):
        return None
    try:
        earlier = ledger.get_job(name)
    except NotFound:
        return None
    made = earlier.status.outputs
    if earlier.status.state is not JobState.COMPLETED or not made.keys() >= place.outputs.keys():
        return None
    taken = {output: made[output] for output in place.outputs}
    if not all(_is_unchanged(each, identify) for each in taken.values()):
        return None
    # What was registered then was registered of that job.
    return name, {output: each.model_copy(update={"asset": None}) for output, each in taken.items()}


def _has_own_place(child: Job, place: StepPlace, output: str) -> bool:
    """Tell whether somebody wants an output at a place that was not chosen by us."""
    segments = urlsplit(place.outputs[output].uri).path.split("/")
    return child.name not in segments and place.parent not in segments


def _is_unchanged(output: PublishedOutput, identify: Identify) -> bool:
    if not output.hash:
        return False
    try:
        return identify(JobInput(type=output.type, uri=output.uri)) == output.hash
    except BatchpointError:  # gone, or out of reach: it is computed again
        return False
