"""Files of parallel steps: published whole after any kill, inputs where arguments say they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchpoint.domain.component import Scalar
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError
from batchpoint.domain.job import Job
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.job_spec import StepOutput, StepPlace
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.receipt import ReceiptFile
from batchpoint.formats.step_arguments import read_arguments
from batchpoint.node.output_request import AssembledOutput
from batchpoint.node.step_files import StepFiles
from batchpoint.storage.locate import uri_of
from tests.unit.resolved_jobs import new_job


class Killed(BaseException):
    """The process is gone."""


class World:
    """A step with rows, a folder and a file to publish, and the files that it would have made."""

    def __init__(self, root: Path, rows: str = "uri_file", **update: Any) -> None:
        self.root = root
        self.out = root / "out"
        self.folder = JobFolder(root / "job")
        self.folder.make()
        outputs = {
            "rows": self.output(rows, "rows.csv"),
            "files": self.output("uri_folder", "files"),
            "one": self.output("uri_file", "one.txt"),
        }
        place = StepPlace(
            parent="p",
            name="s",
            component="c",
            identity="i",
            outputs=update.pop("outputs", outputs),
        )
        spec = new_job().scoring.model_copy(
            update={"step": place, "append_row_to": "rows", "input_data": "data", **update}
        )
        self.job: Job = new_job().model_copy(update={"spec": spec})

    def output(self, kind: Any, name: str) -> StepOutput:
        return StepOutput(type=kind, uri=uri_of(self.out / name))

    def files(
        self, step: Callable[[str], None] = lambda _: None, **inputs: Scalar | JobInput
    ) -> StepFiles:
        return StepFiles(self.job, inputs, self.folder, StorageAccess(), step)

    def score(self) -> AssembledOutput:
        """Leave what a job of this step leaves."""
        self.files().prepare()
        written = self.folder.work / "outputs"
        (written / "files" / "deep").mkdir()
        (written / "files" / "deep" / "a").write_text("a")
        (written / "files" / "link").symlink_to("deep/a")
        (written / "one" / "one.txt").write_text("one")
        self.folder.results.mkdir()
        names = ("predictions.csv", "_failed_items.jsonl")
        for name in (*names, "_receipt.json"):
            (self.folder.results / name).write_text(name)
        files = tuple(ReceiptFile(path=name, size=1, sha256="a" * 64) for name in names)
        uri = uri_of(self.folder.results)
        return AssembledOutput(uri, "predictions.csv", 1, 1, 0, 1, 0, 0, files)

    def arguments(self) -> list[str]:
        found = read_arguments(self.folder.arguments)
        assert found is not None
        return found.arguments

    def published(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.out)): path.read_text()
            for path in sorted(self.out.rglob("*"))
            if path.is_file()
        }


WHOLE = {
    "files/deep/a": "a",
    "files/link": "a",
    "one.txt": "one",
    "rows.csv": "predictions.csv",
}


def test_everything_is_published_and_nothing_of_ours(tmp_path: Path) -> None:
    world = World(tmp_path)
    found = world.files().publish(world.score())
    assert world.published() == WHOLE
    assert set(found) == {"rows", "files", "one"}
    assert all(output.hash for output in found.values())
    assert (world.out / "files" / "link").is_symlink()


def test_a_publication_that_is_killed_anywhere_is_done_again(tmp_path: Path) -> None:
    steps: list[str] = []
    world = World(tmp_path / "whole")
    world.files(steps.append).publish(world.score())
    assert len(steps) > 8
    for number in range(len(steps)):
        world = World(tmp_path / str(number))
        rows = world.score()
        seen: list[str] = []

        def kill(step: str, last: int = number, seen: list[str] = seen) -> None:
            seen.append(step)
            if len(seen) > last:
                raise Killed

        with pytest.raises(Killed):
            world.files(kill).publish(rows)
        again = world.files()
        again.prepare()
        first = again.publish(rows)
        assert world.published() == WHOLE, steps[number]
        assert world.files().publish(rows) == first


def test_a_runner_that_was_replaced_publishes_and_takes_back_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = world.score()
    old = world.files()
    StepFiles(world.job, {}, world.folder, StorageAccess(), epoch=2).publish(rows)
    (world.out / "one.txt").unlink()  # so that it is not what was published any more
    with pytest.raises(BatchpointError) as refused:
        old.publish(rows)
    assert refused.value.code == "lease_lost"
    assert world.published() == {name: text for name, text in WHOLE.items() if name != "one.txt"}


def test_what_cannot_be_published_takes_everything_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = world.score()
    (world.folder.work / "outputs" / "one" / "one.txt").unlink()
    with pytest.raises(BatchpointError) as refused:
        world.files().publish(rows)
    assert refused.value.code == "output_missing"
    assert world.published() == {}


def test_rows_in_a_folder_with_other_files(tmp_path: Path) -> None:
    world = World(tmp_path, "uri_folder")
    rows = world.score()
    (world.folder.work / "outputs" / "rows" / "more.txt").write_text("more")
    world.files().publish(rows)
    names = sorted(path.name for path in (world.out / "rows.csv").iterdir())
    assert names == ["more.txt", "predictions.csv"]


def test_a_script_that_writes_where_the_rows_go_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, "uri_folder")
    rows = world.score()
    (world.folder.work / "outputs" / "rows" / "predictions.csv").write_text("mine")
    with pytest.raises(BatchpointError) as refused:
        world.files().publish(rows)
    assert refused.value.code == "output_files_clash"
    assert world.published() == {}


def test_a_script_that_writes_the_file_of_the_rows_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, arguments="${{outputs.rows}}")
    rows = world.score()
    Path(world.arguments()[0]).write_text("mine")
    with pytest.raises(BatchpointError) as refused:
        world.files().publish(rows)
    assert refused.value.code == "output_files_clash"
    assert world.published() == {}


def test_links_that_lead_elsewhere_become_what_they_lead_to(tmp_path: Path) -> None:
    world = World(tmp_path)
    rows = world.score()
    (tmp_path / "elsewhere").write_text("far")
    place = world.folder.work / "outputs" / "files"
    (place / "absolute").symlink_to(tmp_path / "elsewhere")
    (place / "sibling").symlink_to("../one/one.txt")
    (place / "own").symlink_to(place / "deep" / "a")
    world.files().publish(rows)
    found = world.published()
    assert found["files/absolute"] == "far"
    assert found["files/sibling"] == "one"
    assert found["files/own"] == "a"


def test_only_inputs_that_arguments_name_are_brought(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.write_text("x")
    world = World(tmp_path, arguments="--a ${{inputs.a}} $[[--b ${{inputs.b}}]] ${{outputs.files}}")
    files = world.files(
        a=JobInput(type="uri_file", uri=uri_of(here)),
        missing=JobInput(type="uri_file", uri="file:///nowhere/at/all"),
    )
    assert files.prepare() == []
    place = world.folder.work / "outputs" / "files"
    assert world.arguments() == ["--a", str(here), str(place)]


def test_arguments_stay_what_they_were(tmp_path: Path) -> None:
    world = World(tmp_path, arguments="${{inputs.a}}")
    world.files(a="first").prepare()
    world.files(a="second").prepare()
    assert world.arguments() == ["first"]


def test_an_input_that_is_not_there(tmp_path: Path) -> None:
    world = World(tmp_path, arguments="${{inputs.a}}")
    with pytest.raises(BatchpointError) as refused:
        world.files(a=JobInput(type="uri_file", uri="file:///nowhere/at/all")).prepare()
    assert refused.value.code == "input_not_found"
    assert "input a" in refused.value.message


def test_what_is_scored_lies_where_it_lies_now(tmp_path: Path) -> None:
    world = World(tmp_path)
    data = JobInput(type="uri_folder", uri="file:///reused/earlier")
    assert world.files(data=data).actual.input == data
