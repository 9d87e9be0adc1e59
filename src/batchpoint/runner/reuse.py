"""Taking over what an earlier step has computed: found by its key, and still there unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from batchpoint.domain.errors import BatchpointError, NotFound
from batchpoint.domain.job import Job, JobState, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepPlace
from batchpoint.ledger.ledger import Ledger

Identify = Callable[[JobInput], str]
"""Names the content of data, blocking; "" where nobody can know. Raises BatchpointError."""

_DATASTORES = "azureml://datastores/"


class Earlier(NamedTuple):
    """The job that computed the same earlier, and what it published."""

    job: str
    outputs: dict[str, PublishedOutput]


def earlier_outputs(child: Job, key: str, ledger: Ledger, identify: Identify) -> Earlier | None:
    """Return what an earlier job computed that is the same, if all of it is as it was.

    Blocking: the outputs are read once.
    """
    place = child.spec.step
    assert place is not None
    name = ledger.earlier_result(key)
    if name is None:
        return None
    try:
        earlier = ledger.get_job(name)
    except NotFound:
        return None
    made = earlier.status.outputs
    if earlier.status.state is not JobState.COMPLETED or not made.keys() >= place.outputs.keys():
        return None
    taken = {output: made[output] for output in place.outputs}
    if not are_unchanged(taken, identify):
        return None
    # What was registered then was registered of that job.
    return Earlier(
        name, {output: each.model_copy(update={"asset": None}) for output, each in taken.items()}
    )


def wanted_elsewhere(place: StepPlace, found: Earlier) -> bool:
    """Tell whether an output of the step is wanted where the earlier one is not.

    That is at a place of somebody's own, or in a default datastore that is not the earlier one's.
    """
    for name, output in place.outputs.items():
        store = _datastore_of(output.uri)
        if output.named or (store and store != _datastore_of(found.outputs[name].uri)):
            return True
    return False


def _datastore_of(uri: str) -> str:
    """Return the name of the datastore in which an output lies; "" when it lies in none."""
    rest = uri.removeprefix(_DATASTORES)
    return "" if rest == uri else rest.partition("/")[0]


def are_unchanged(outputs: Mapping[str, PublishedOutput], identify: Identify) -> bool:
    """Tell whether outputs are what they were when they were published; blocking."""
    return all(_is_unchanged(each, identify) for each in outputs.values())


def _is_unchanged(output: PublishedOutput, identify: Identify) -> bool:
    if not output.hash:
        return False
    try:
        return identify(JobInput(type=output.type, uri=output.uri)) == output.hash
    except BatchpointError:  # gone, or out of reach: it is computed again
        return False
