"""What a command reads, brought to this machine below a folder that is not there yet."""

from pathlib import Path

from batchpoint.domain.job_spec import StepInput
from batchpoint.node.command_inputs import CommandInputs
from tests.integration.command_orders import data, order


def texts(root: Path, source: Path, kind: str) -> str:
    declared = StepInput.model_validate({"type": kind, "mode": "download"})
    given = order(
        root,
        "true",
        inputs={"it": data(source, "uri_file" if kind == "uri_file" else "uri_folder")},
        modes={"it": declared},
    )
    return CommandInputs(given, root / "not" / "there" / "yet").texts()["it"]


def test_a_folder_is_copied_to_where_nothing_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "below" / "a b.txt").write_text("first")
    copy = Path(texts(tmp_path, source, "uri_folder"))
    (copy / "below" / "a b.txt").write_text("changed")
    assert (source / "below" / "a b.txt").read_text() == "first"


def test_a_file_is_copied_to_where_nothing_was(tmp_path: Path) -> None:
    source = tmp_path / "a b.txt"
    source.write_text("first")
    copy = Path(texts(tmp_path, source, "uri_file"))
    assert copy.name == "a b.txt"
    copy.write_text("changed")
    assert source.read_text() == "first"
