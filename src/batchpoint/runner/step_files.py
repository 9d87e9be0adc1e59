"""Files of a parallel step: inputs beside the scored one, and where rows and side outputs go."""

from __future__ import annotations

from collections.abc import Mapping

from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.job import Job, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.formats.layout import JobFolder
from batchpoint.node.output_request import AssembledOutput


class StepFiles:
    """What a parallel step reads besides its scored input, and what it publishes."""

    def __init__(
        self,
        job: Job,
        inputs: Mapping[str, Scalar | JobInput],
        folder: JobFolder,
        access: StorageAccess,
    ) -> None:
        """Nothing is touched before `prepare`."""
        self._job, self._inputs = job, inputs
        self._folder, self._access = folder, access

    @property
    def actual(self) -> ScoreSpec:
        """The specification that is really run: with the input where it lies, and arguments."""
        raise NotImplementedError  # the body follows within the hour

    def prepare(self) -> list[str]:
        """Bring inputs here and make folders for outputs; return notes for the job's log."""
        raise NotImplementedError  # the body follows within the hour

    def publish(self, rows: AssembledOutput) -> Mapping[str, PublishedOutput]:
        """Put the step's outputs where they belong and say where."""
        raise NotImplementedError  # the body follows within the hour
