from pathlib import Path

import pytest

from batchpoint_worker import harvest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "output"
    made.mkdir()
    return made


def test_an_empty_folder_costs_nothing_and_makes_nothing(folder: Path, tmp_path: Path):
    assert harvest.take(str(folder), str(tmp_path / "1")) == ([], [])
    assert not (tmp_path / "1").exists()


def test_files_and_folders_are_moved_and_listed(folder: Path, tmp_path: Path):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "b.txt").write_text("bb")
    (folder / "a.txt").write_text("a")
    (folder / "empty").mkdir()
    files, warnings = harvest.take(str(folder), str(tmp_path / "1"))
    assert files == [("a.txt", 1), ("deep/er/b.txt", 2)]
    assert warnings == []
    assert harvest.is_empty(str(folder))
    assert (tmp_path / "1" / "deep" / "er" / "b.txt").read_text() == "bb"


def test_what_an_earlier_attempt_left_there_is_replaced(folder: Path, tmp_path: Path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "old").write_text("old")
    (folder / "new").write_text("new")
    assert harvest.take(str(folder), str(tmp_path / "1"))[0] == [("new", 3)]
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["new"]


def test_a_folder_that_user_code_removed_is_made_again(folder: Path, tmp_path: Path):
    folder.rmdir()
    assert harvest.is_empty(str(folder))
    files, warnings = harvest.take(str(folder), str(tmp_path / "1"))
    assert files == []
    assert "made again" in warnings[0]
    assert folder.is_dir()


def test_discard_empties_the_folder_and_follows_no_link(folder: Path, tmp_path: Path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "precious").write_text("p")
    (folder / "link").symlink_to(tmp_path / "kept")
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("f")
    harvest.discard(str(folder))
    assert list(folder.iterdir()) == []
    assert (tmp_path / "kept" / "precious").exists()
    harvest.discard(str(folder / "missing"))


def test_a_link_in_the_place_of_the_folder_is_never_followed(folder: Path, tmp_path: Path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "precious").write_text("p")
    for work in (harvest.discard, lambda path: harvest.take(path, str(tmp_path / "1"))):
        folder.rmdir()
        folder.symlink_to(kept)
        assert not harvest.is_empty(str(folder))
        work(str(folder))
        assert (kept / "precious").read_text() == "p"
        assert folder.is_dir()
        assert not folder.is_symlink()
    assert not (tmp_path / "1").exists()


def test_a_file_in_the_place_of_the_folder_is_replaced(folder: Path, tmp_path: Path):
    folder.rmdir()
    folder.write_text("not a folder")
    assert not harvest.is_empty(str(folder))
    files, warnings = harvest.take(str(folder), str(tmp_path / "1"))
    assert files == []
    assert "made again" in warnings[0]
    assert folder.is_dir()


def test_links_to_folders_are_left_out(folder: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("f")
    (folder / "deep").mkdir()
    (folder / "deep" / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "a.txt").write_text("a")
    files, warnings = harvest.take(str(folder), str(tmp_path / "1"))
    assert files == [("a.txt", 1)]
    assert warnings == ["deep/link is no regular file and was left out"]
    assert not (tmp_path / "1" / "deep" / "link").is_symlink()


def test_a_folder_that_user_code_locked_is_emptied(folder: Path):
    (folder / "file").write_text("f")
    folder.chmod(0)
    harvest.discard(str(folder))
    assert harvest.is_empty(str(folder))


def test_another_file_system_is_no_obstacle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_names: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    (folder / "a.txt").write_text("a")
    monkeypatch.setattr(harvest.os, "rename", refuse)
    assert harvest.take(str(folder), str(tmp_path / "1"))[0] == [("a.txt", 1)]
