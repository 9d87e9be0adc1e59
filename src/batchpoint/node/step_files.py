"""Files of a parallel step: inputs beside the scored one, and where rows and side outputs go.

Workers write side outputs into folders of the step's job, for all of them the same. When everything
is scored these are linked to where the publication of commands begins, which may be done again
after any kill: what was written lies where it was, until the job's scratch is deleted.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Mapping
from itertools import count
from pathlib import Path, PurePosixPath

from batchpoint.core.binding import Kind, placeholders
from batchpoint.core.driver_arguments import IGNORED, script_arguments
from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, JobFailed
from batchpoint.domain.job import Job, PublishedOutput
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import CommandSpec, ScoreSpec, StepOutput
from batchpoint.formats.durable import storage_error
from batchpoint.formats.layout import FAILED_ITEMS, JobFolder
from batchpoint.formats.step_arguments import write_arguments
from batchpoint.node.command_attempt import Attempt
from batchpoint.node.command_inputs import CommandInputs, Stopped
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.command_outputs import CommandOutputs
from batchpoint.node.output_publish_local import NO_LINKS
from batchpoint.node.output_request import AssembledOutput
from batchpoint.node.output_writing import Step
from batchpoint.node.tree_copy import copy_file

_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)


class StepFiles:
    """What a parallel step reads besides its scored input, and what it publishes. Blocking."""

    def __init__(
        self,
        job: Job,
        inputs: Mapping[str, Scalar | JobInput],
        folder: JobFolder,
        access: StorageAccess,
        step: Step = lambda _: None,
        *,
        epoch: int = 0,
    ) -> None:
        """Nothing is touched before `prepare`.

        Args:
            job: the step's own, which scores.
            inputs: the values that hold now.
            folder: the job's own.
            access: opens all that the step reads and writes.
            step: is told where the publication is, before each thing that it does.
            epoch: of the pipeline's lease; whoever has a later one shuts this one out.
        """
        spec = job.scoring
        assert spec.step is not None
        self._spec = spec
        self._declared = spec.step.outputs
        self._inputs = inputs
        self._folder = folder
        self._step = step
        self._template = spec.arguments or ""
        named = placeholders(self._template)
        self._read = {each.name for each in named if each.kind == "inputs"} & inputs.keys()
        read = {name: inputs[name] for name in self._read}
        self._order = command_order(job, read, folder, access, epoch)
        self._stopped = threading.Event()
        self._staging: CommandInputs | None = None

    @property
    def actual(self) -> ScoreSpec:
        """The specification that is really run: what is scored is where it lies now."""
        scored = self._inputs.get(self._spec.input_data or "")
        if not isinstance(scored, JobInput):
            return self._spec
        return self._spec.model_copy(update={"input": scored})

    @property
    def _written(self) -> Path:
        return self._folder.work / "outputs"

    # --- before scoring -------------------------------------------------------------------------

    def prepare(self) -> list[str]:
        """Bring inputs here, make folders for outputs, and note the arguments for all workers.

        What an earlier runner of the job has prepared is kept. Waits for stores and for room on the
        disk as long as it takes, unless `stop` is called.

        Returns:
            Sentences for the job's log.

        Raises:
            Invalid: an input is not there or cannot be read, or a literal cannot be passed on.
            Conflict: something is in the place of an output (`output_exists`).
        """
        notes: list[str] = []
        for attempt in count():
            try:
                self._refuse_existing()
                return notes + self.arrange()
            except BatchpointError as error:
                if not error.retryable or self._stopped.is_set():
                    raise
                if not attempt:
                    notes.append(f"had to wait for the step's inputs: {error.message}")
            except Stopped:
                return notes  # nobody listens any more
            self._stopped.wait(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
        raise AssertionError  # never reached: the loop has no end of its own

    def stop(self) -> None:
        """Have `prepare` end soon; what it was doing is of no use any more."""
        self._stopped.set()
        if self._staging is not None:
            self._staging.stop()

    def arrange(self) -> list[str]:
        """Do what `prepare` does, once, and without a look at where outputs will be published.

        Raises: as `prepare`, and Unavailable; Stopped when `stop` was called.
        """
        self._make_folders()
        return self._prepare_arguments()

    def _refuse_existing(self) -> None:
        """Say before hours of scoring, not after them, that an output cannot be published."""
        attempt = Attempt.begin(self._folder.root, self._order.epoch)
        try:
            outputs = self._outputs()
            if outputs.earlier() is None:
                outputs.prepare()
                outputs.withdraw()
        finally:
            attempt.end()

    def _outputs(self) -> CommandOutputs:
        return CommandOutputs(self._order, self._folder.work / "publishing", self._step)

    def _make_folders(self) -> None:
        """Make what workers write to, unless an earlier runner has: then there may be files."""
        try:
            for name, output in self._declared.items():
                if output.mode == "direct":
                    continue
                place = self._place(name, output)
                (place.parent if output.type == "uri_file" else place).mkdir(
                    parents=True, exist_ok=True
                )
        except OSError as error:
            raise storage_error(error, self._written) from error

    def _prepare_arguments(self) -> list[str]:
        if not self._template:
            return []
        path = self._folder.arguments
        if path.exists():
            return []
        scratch = self._folder.work / "inputs"
        shutil.rmtree(scratch, ignore_errors=True)  # of a runner that got not so far
        self._staging = CommandInputs(self._order, scratch)
        if self._stopped.is_set():
            raise Stopped
        values: dict[tuple[Kind, str], str] = {
            ("inputs", name): text for name, text in self._staging.texts().items()
        }
        for name, output in self._declared.items():
            direct = output.mode == "direct"
            text = output.uri if direct else str(self._place(name, output))
            values["outputs", name] = text
        words, driver = script_arguments(self._template, values, self._read)
        write_arguments(path, words, self._order.inputs)
        return [
            f"--{name} {text} in program_arguments is about machinery of Azure's that is not here "
            "and has no effect".replace("  ", " ")
            for name, text in driver.items()
            if name in IGNORED
        ]

    def _own_outputs(self) -> dict[str, StepOutput]:
        """The outputs that scripts write to this machine's disk."""
        return {
            name: output
            for name, output in self._declared.items()
            if output.mode != "direct"
            and not (name == self._spec.append_row_to and output.type == "uri_file")
        }

    def _place(self, name: str, output: StepOutput) -> Path:
        """Return what scripts are told to write to: a folder, or a file in one of its own."""
        folder = self._written / name
        if output.type != "uri_file":
            return folder
        return folder / (PurePosixPath(output.uri.rstrip("/")).name or name)

    # --- after it -------------------------------------------------------------------------------

    def publish(self, rows: AssembledOutput) -> Mapping[str, PublishedOutput]:
        """Put the step's outputs where they belong, all of them or none; may be called again.

        Args:
            rows: what lies in the results folder of the job.

        Raises:
            JobFailed: an output is not there (`output_missing`), or a script has written a file of
                the name that the rows have (`output_files_clash`).
            Conflict: something is in the place of an output (`output_exists`).
            Unavailable, Invalid: a place cannot be written to.
            Unavailable (`lease_lost`): another runner has taken the pipeline.
        """
        attempt = Attempt.begin(self._folder.root, self._order.epoch)
        try:
            return self._published(rows)
        finally:
            attempt.end()

    def _published(self, rows: AssembledOutput) -> Mapping[str, PublishedOutput]:
        outputs = self._outputs()
        earlier = outputs.earlier()
        if earlier is not None:
            return earlier
        outputs.prepare()
        try:
            places = outputs.texts()
            for name, output in self._own_outputs().items():
                self._step(f"link:{name}")
                source = self._place(name, output)
                if os.path.lexists(source):
                    _link(source, Path(places[name]), source)
            self._link_rows(rows, places)
        except OSError as error:
            outputs.withdraw()
            raise storage_error(error, self._written) from error
        except BatchpointError:
            outputs.withdraw()
            raise
        return outputs.publish()

    def _link_rows(self, rows: AssembledOutput, places: Mapping[str, str]) -> None:
        name = self._spec.append_row_to
        if name is None:
            return
        if self._declared[name].type == "uri_file":
            if os.path.lexists(self._place(name, self._declared[name])):
                raise _clash(name, "a file of its own there")
            _link_file(self._folder.results / rows.predictions, Path(places[name]))
            return
        for file in rows.files:
            if file.path == FAILED_ITEMS:
                continue
            target = Path(places[name]) / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _link_file(self._folder.results / file.path, target)
            except FileExistsError as error:
                raise _clash(name, f"a file {file.path!r} into it") from error


def command_order(
    job: Job,
    inputs: Mapping[str, Scalar | JobInput],
    folder: JobFolder,
    access: StorageAccess,
    epoch: int,
) -> CommandOrder:
    """Tell what a step reads and writes in the words of commands, which do the same with it."""
    spec = job.scoring
    place = spec.step
    assert place is not None
    outputs = dict(place.outputs)
    rows = spec.append_row_to
    if rows is not None:  # whatever its mode is: it is not the script that writes them
        outputs[rows] = outputs[rows].model_copy(update={"mode": "rw_mount"})
    command = CommandSpec(
        step=place.model_copy(update={"outputs": outputs}),
        environment=spec.environment,
        compute=spec.compute,
        idle_seconds=spec.idle_seconds,
        command="",
        code=None,
    )
    return CommandOrder(
        job=job.name,
        job_dir=folder.root,
        attempt=1,
        spec=command,
        inputs=inputs,
        access=access,
        epoch=epoch,
    )


def _clash(output: str, written: str) -> JobFailed:
    return JobFailed(
        f"output {output} gets the rows (append_row_to), and the script has written {written}; "
        "let it write somewhere else",
        code="output_files_clash",
    )


def _link(source: Path, target: Path, root: Path) -> None:
    """Have a file, or all that is below a folder, at `target` too; links keep what they mean."""
    if source.is_symlink():
        said = source.readlink()
        leads_to = Path(os.path.normpath(source.parent / said))
        stays = not said.is_absolute() and root in leads_to.parents
        target.symlink_to(said if stays else os.path.realpath(source))
    elif source.is_dir():
        target.mkdir(exist_ok=True)
        for each in source.iterdir():
            _link(each, target / each.name, root)
    elif source.is_file():
        _link_file(source, target)
    else:
        raise JobFailed(
            f"{source} is neither a file nor a folder and cannot be published",
            code="output_missing",
        )


def _link_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno == errno.EEXIST or error.errno not in NO_LINKS:
            raise
        copy_file(source, target)
