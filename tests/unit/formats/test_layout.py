"""Names of files and folders."""

from pathlib import Path

import pytest

from batchpoint.domain.minibatch import Task
from batchpoint.formats import layout


def test_the_name_of_a_part_tells_who_wrote_it():
    name = layout.part_name(3, "node-0", 12)
    assert name == "000003-node-0-000012.part"
    assert layout.parse_part_name(name) == (3, "node-0", 12)
    assert layout.parse_part_name(name + ".tmp") is None


@pytest.mark.parametrize("node", ["", "..", "a/b", "-x", "a b", "../x"])
def test_names_of_nodes_cannot_leave_the_folder(node):
    with pytest.raises(ValueError, match="file name"):
        layout.part_name(1, node, 1)
    with pytest.raises(ValueError, match="file name"):
        layout.harvest_name(1, node, Task(0, 0, 1), 1)


@pytest.mark.parametrize("name", ["../x.part", "x", "000001-n-000001.part/..", ""])
def test_only_names_of_parts_are_looked_up(tmp_path, name):
    with pytest.raises(ValueError, match="not the name of a part"):
        layout.JobFolder(tmp_path).part(name)


def test_each_attempt_keeps_its_files_apart():
    names = {
        layout.harvest_name(epoch, node, task, attempt)
        for epoch in (1, 2)
        for node in ("node-0", "node-1")
        for task in (Task(0, 0, 1), Task(1, 0, 1), Task(1, 0, 2), Task(1, 0, 1, 0, 5))
        for attempt in (1, 2)
    }
    assert len(names) == 32


def test_a_job_has_its_folders(tmp_path):
    folder = layout.job_folder(tmp_path, "job-1")
    folder.make()
    folder.make()
    below = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    root = "jobs/job-1"
    names = ("", "/files", "/logs", "/logs/user", "/manifest", "/parts", "/work")
    assert below == {"jobs", *(root + name for name in names)}
    assert folder.segment(7) == folder.manifest / "segment-000007.bpm"
    assert layout.default_output(tmp_path, "j") == Path(tmp_path, "outputs", "j", "score")
