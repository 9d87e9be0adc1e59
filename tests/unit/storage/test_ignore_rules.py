"""Ignore files: git decides what .gitignore means, pathspec what .amlignore means."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchpoint.domain.errors import Invalid
from batchpoint.storage.ignore_rules import IgnoreRules
from batchpoint.storage.tree_scan import scan_tree
from batchpoint.storage.tree_store import TreeStore

FILES = ("x", "a/x", "a/c.csv", "a/b/x", "a/b/c.csv", "b/x", "b/a/x", "ab/c.csv", "ab/b/a.txt")


def folder_of(root: Path, files: tuple[str, ...], **ignore_files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    for name, text in ignore_files.items():
        (root / f".{name}").write_text(text)
    return root


def kept(root: Path) -> set[str]:
    names = {entry.path.partition("/")[2] for entry in scan_tree(root).manifest.entries}
    return names - {".gitignore", ".amlignore"}


TEXTS = st.builds(
    lambda negated, anchored, names, folder: f"{negated}{anchored}{'/'.join(names)}{folder}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "*.csv", "?", "[ab]"]), min_size=1,
             max_size=3),
    st.sampled_from(["", "", "/"]),
)  # fmt: skip


def kept_by(name: str, lines: list[str]) -> set[str]:
    rules = IgnoreRules(name, lines)
    found: set[str] = set()
    for file in FILES:
        parts = file.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        if any(rules.leaves_out(folder, is_folder=True) for folder in above):
            continue
        if not rules.leaves_out(file, is_folder=False):
            found.add(file)
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = folder_of(tmp_path_factory.mktemp("git") / "repository", FILES)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root


@given(lines=st.lists(TEXTS, min_size=1, max_size=4))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_gitignore_means_what_git_makes_of_it(repository: Path, lines: list[str]) -> None:
    (repository / ".gitignore").write_text("\n".join(lines) + "\n")
    told = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "-z", "--others",
         "--exclude-standard"],
        cwd=repository, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert kept_by(".gitignore", lines) == set(told.stdout.split("\0")) - {"", ".gitignore"}


@given(lines=st.lists(TEXTS, min_size=1, max_size=4))
def test_amlignore_means_what_pathspec_makes_of_it(lines: list[str]) -> None:
    from pathspec import PathSpec
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    spec = PathSpec.from_lines(GitIgnoreSpecPattern, lines)
    assert kept_by(".amlignore", lines) == {file for file in FILES if not spec.match_file(file)}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", set(FILES)),
        ("# only a comment\n\n", set(FILES)),
        ("*\n!a/\n", {file for file in FILES if "a/" in f"/{file}" and "/a/" in f"/{file}"}),
        ("a/\n!a/b/x\n", {"x", "b/x", "ab/c.csv", "ab/b/a.txt", "a/b/x"}),
        ("*.csv\r\n/x\r\n", {"a/x", "a/b/x", "b/x", "b/a/x", "ab/b/a.txt"}),
        ("\ufeffx\n", {"a/c.csv", "a/b/c.csv", "ab/c.csv", "ab/b/a.txt"}),
        ("!\n[a-\nb\n", {"x", "a/x", "a/c.csv", "ab/c.csv"}),
    ],
)
def test_an_amlignore_by_example(tmp_path: Path, text: str, left: set[str]) -> None:
    assert kept(folder_of(tmp_path / "f", FILES, amlignore=text)) == left


def test_amlignore_hides_gitignore_and_both_are_part_of_the_upload(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "f", FILES, amlignore="a\n", gitignore="b\n")
    assert "b/x" in kept(root)
    assert "a/x" not in kept(root)
    names = {entry.path for entry in scan_tree(root).manifest.entries}
    assert {"f/.amlignore", "f/.gitignore"} <= names
    (root / ".amlignore").write_text(".amlignore\n")
    names = {entry.path for entry in scan_tree(root).manifest.entries}
    assert "f/.amlignore" not in names


def test_below_a_left_out_folder_git_keeps_nothing(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "f", FILES, gitignore="a/\n!a/b/x\n")
    assert "a/b/x" not in kept(root)


def test_only_the_file_at_the_root_counts(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "f", FILES)
    (root / "a" / ".gitignore").write_text("*\n")
    assert "a/x" in kept(root)


def test_what_is_left_out_is_not_even_looked_at(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "f", ("x",), amlignore="venv/\nbroken\n")
    (root / "venv").mkdir()
    (root / "venv" / "loop").symlink_to(root)
    (root / "broken").symlink_to(root / "nowhere")
    assert kept(root) == {"x"}


def test_a_folder_of_which_nothing_is_left_is_told(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "f", FILES, amlignore="*\n")
    with pytest.raises(Invalid, match=r"no files but those that \.amlignore leaves out"):
        scan_tree(root)


def test_an_ignore_file_that_is_none_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "f", ("x",), amlignore="x" * 1_000_001)
    with pytest.raises(Invalid, match="is larger than 1,000,000 bytes"):
        scan_tree(root)


def test_local_folders_are_kept_without_what_is_ignored(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "f", FILES, amlignore="*.csv\n")
    trees = TreeStore(tmp_path / "store")
    first = trees.add_local(root, unique="u")
    stored, _ = trees.open_tree(first.reference)
    assert not list(stored.rglob("*.csv"))
    assert (stored / "a" / "x").is_file()
    (root / "a" / "c.csv").write_text("changed, and not part of it")
    assert trees.add_local(root, unique="v").hash == first.hash
