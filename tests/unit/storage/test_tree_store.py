"""The store of trees: complete or absent, verified, never copied twice, hostile folders refused."""

import os
from pathlib import Path

import pytest

from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, NotFound
from batchpoint.domain.upload import TreeManifest
from batchpoint.storage.tree_scan import scan_tree
from batchpoint.storage.tree_store import TreeStore


@pytest.fixture
def store(tmp_path: Path) -> TreeStore:
    return TreeStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}\n")
    (root / "sub" / "weights é.bin").write_bytes(os.urandom(3_000_000))
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    return root


def send(store: TreeStore, folder: Path) -> TreeManifest:
    scanned = scan_tree(folder)
    tree = scanned.manifest.hash
    for path in store.begin(scanned.manifest).missing:
        store.put_file(tree, path, [scanned.files[path].read_bytes()], unique="u")
    return scanned.manifest


def contents(root: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), os.access(path, os.X_OK))
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_tree_arrives_as_it_was_sent(store: TreeStore, folder: Path, tmp_path: Path) -> None:
    manifest = send(store, folder)
    assert store.commit(manifest.hash).complete
    path, tree = store.open_tree(manifest.reference)
    assert tree == manifest.hash
    assert path.name == "model"
    assert [child.name for child in path.parent.iterdir()] == ["model"]
    assert contents(path) == contents(folder)
    assert store.open_tree(f"upload:{tree}") == (path, tree)
    assert store.status(tree).complete
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == sorted([tree, "incoming"])
    assert list((tmp_path / "store" / "incoming").iterdir()) == []


def test_a_single_file_is_a_tree_too(store: TreeStore, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"weights")
    status = store.add_local(tmp_path / "model.pkl", unique="u")
    path, _ = store.open_tree(status.reference)
    assert path.name == "model.pkl"
    assert path.read_bytes() == b"weights"


def test_nothing_is_sent_or_copied_twice(store: TreeStore, folder: Path) -> None:
    manifest = send(store, folder)
    store.commit(manifest.hash)
    inode = store.open_tree(manifest.reference)[0].stat().st_ino
    assert store.begin(manifest).missing == ()
    assert store.begin(manifest).complete
    assert store.add_local(folder, unique="v").reference == manifest.reference
    assert store.commit(manifest.hash).complete
    assert store.open_tree(manifest.reference)[0].stat().st_ino == inode


def test_an_upload_goes_on_where_it_was_left(store: TreeStore, folder: Path) -> None:
    scanned = scan_tree(folder)
    tree = scanned.manifest.hash
    assert store.begin(scanned.manifest).missing == tuple(sorted(scanned.files))
    store.put_file(tree, "model/MLmodel", [b"flavors: {}\n"], unique="u")
    assert store.begin(scanned.manifest).missing == ("model/sub/weights é.bin", "model/tool")
    with pytest.raises(Conflict, match=r"2 of 3 files are missing.*weights"):
        store.commit(tree)
    with pytest.raises(NotFound):
        store.open_tree(scanned.manifest.reference)


@pytest.mark.parametrize("body", [b"", b"flavors: {}", b"flavors: {} \n", b"flavors: {}\n\n"])
def test_bytes_that_were_not_announced_are_refused(
    store: TreeStore, folder: Path, body: bytes
) -> None:
    scanned = scan_tree(folder)
    tree = scanned.manifest.hash
    store.begin(scanned.manifest)
    with pytest.raises(Invalid) as caught:
        store.put_file(tree, "model/MLmodel", [body], unique="u")
    assert caught.value.code == "upload_corrupt"
    assert "model/MLmodel" in store.status(tree).missing


def test_only_announced_files_are_taken(store: TreeStore, folder: Path, tmp_path: Path) -> None:
    scanned = scan_tree(folder)
    store.begin(scanned.manifest)
    for path in ("model/other", "../escape", "/etc/passwd", "model/../../escape"):
        with pytest.raises(NotFound):
            store.put_file(scanned.manifest.hash, path, [b"x"], unique="u")
    assert not list(tmp_path.rglob("escape"))


@pytest.mark.parametrize(
    "name", ["0" * 64, "../" * 21 + "x", "incoming", "", "A" * 64, "0" * 63 + "/"]
)
def test_unknown_uploads_are_not_found(store: TreeStore, name: str) -> None:
    for ask in (store.status, store.commit):
        with pytest.raises(NotFound) as caught:
            ask(name)
        assert caught.value.code == "upload_not_found"


@pytest.mark.parametrize(
    "reference",
    ["", "upload:", "upload:xyz/model", "upload:../../etc", "azureml:m:1", "upload:incoming/x"],
)
def test_what_is_no_reference_is_refused(store: TreeStore, reference: str) -> None:
    with pytest.raises(BatchpointError) as caught:
        store.open_tree(reference)
    assert caught.value.code in {"reference_invalid", "upload_not_found"}


def test_a_reference_with_another_name_is_refused(store: TreeStore, folder: Path) -> None:
    tree = store.add_local(folder, unique="u").hash
    with pytest.raises(Invalid, match="holds 'model', not 'other'"):
        store.open_tree(f"upload:{tree}/other")


def test_tools_leavings_are_left_out(folder: Path) -> None:
    before = scan_tree(folder).manifest
    for name in ("__pycache__", ".git", "sub/__pycache__"):
        (folder / name).mkdir()
        (folder / name / "x").write_text("x")
    (folder / ".DS_Store").write_text("x")
    assert scan_tree(folder).manifest == before


def test_links_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("content")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    scanned = scan_tree(folder)
    assert scanned.files["model/link"].read_text() == "content"
    (folder / "sub" / "up").symlink_to(folder)
    with pytest.raises(Invalid, match="leads back"):
        scan_tree(folder)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    (folder / "broken").symlink_to(folder / "nowhere")
    with pytest.raises(Invalid, match=r"model/broken: is a broken link"):
        scan_tree(folder)
    (folder / "broken").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(Invalid, match=r"model/pipe: is neither a file nor a folder"):
        scan_tree(folder)


def test_names_that_other_machines_cannot_hold_are_refused(folder: Path) -> None:
    (folder / "new\nline").write_text("x")
    with pytest.raises(Invalid) as caught:
        scan_tree(folder)
    assert caught.value.code == "field_invalid"


def test_there_has_to_be_something(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        scan_tree(tmp_path / "nowhere")
    assert caught.value.code == "input_not_found"
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match="is an empty folder"):
        scan_tree(tmp_path / "empty")


def test_a_copy_that_changes_underway_is_noticed(
    store: TreeStore, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scanned = scan_tree(folder)
    (folder / "MLmodel").write_text("flavors: {x}\n")
    monkeypatch.setattr("batchpoint.storage.tree_store.scan_tree", lambda path: scanned)
    with pytest.raises(Invalid) as caught:
        store.add_local(folder, unique="u")
    assert caught.value.code == "upload_corrupt"
    assert list((tmp_path / "store" / "incoming").iterdir()) == []


def test_what_was_left_behind_is_swept(store: TreeStore, folder: Path, tmp_path: Path) -> None:
    store.sweep(0)
    begun = scan_tree(folder).manifest
    store.begin(begun)
    place = tmp_path / "store" / "incoming" / begun.hash
    store.sweep(place.stat().st_mtime - 1)
    assert place.exists()
    store.sweep(place.stat().st_mtime + 1)
    assert not place.exists()
