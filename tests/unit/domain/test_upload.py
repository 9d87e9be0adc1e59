"""Trees: hostile paths are refused, the same content has the same name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batchpoint.domain.errors import Invalid
from batchpoint.domain.upload import TreeEntry, TreeManifest, tree_path

HASH = "0" * 64
HOSTILE = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "m/../../x",
    "m/./x",
    ".",
    "m//x",
    "m/",
    "m\\..\\x",
    "C:\\x",
    "m/x\0y",
    "m/x\ny",
    "m/\x7f",
    "m/\ud800",
    "m/" + "a" * 256,
    "m/" + "ä" * 128,
    "/".join(["a" * 100] * 40),
]


def manifest(*paths: str) -> TreeManifest:
    entries = [TreeEntry(path=path, size=1, sha256=HASH) for path in paths]
    return TreeManifest(entries=tuple(entries))


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(Invalid):
        tree_path(path)
    with pytest.raises(ValidationError):
        TreeEntry(path=path, size=1, sha256=HASH)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5).map("/".join))
def test_what_is_let_through_stays_inside(path: str) -> None:
    try:
        checked = tree_path(path)
    except Invalid:
        return
    assert checked == path
    names = path.split("/")
    assert not set(names) & {"", ".", ".."}
    assert "\0" not in path


@pytest.mark.parametrize(
    "paths",
    [
        ("m/A", "m/a"),
        ("m/A/x", "m/a/y"),
        ("m/x", "m/x"),
        ("m/x", "m/x/y"),
        ("m/e\u0301", "m/\u00e9"),
        ("m/STRASSE", "m/straße"),
        ("a/x", "b/x"),
        ("m/b", "m/a"),
    ],
)
def test_files_that_would_meet_on_some_disk_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        manifest(*paths)


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = TreeEntry(path="m/x", size=1, sha256=HASH)
    with pytest.raises(ValidationError, match="at most 100000 items"):
        TreeManifest(entries=(entry,) * 100_001)


def test_the_hash_tells_every_difference() -> None:
    def entry(**change: object) -> TreeEntry:
        return TreeEntry.model_validate({"path": "m/x", "size": 1, "sha256": HASH} | change)

    trees = [
        TreeManifest(entries=(entry(),)),
        TreeManifest(entries=(entry(path="m/y"),)),
        TreeManifest(entries=(entry(path="n/x"),)),
        TreeManifest(entries=(entry(size=2),)),
        TreeManifest(entries=(entry(sha256="1" * 64),)),
        TreeManifest(entries=(entry(executable=True),)),
        TreeManifest(entries=(entry(), entry(path="m/y"))),
    ]
    assert len({tree.hash for tree in trees}) == len(trees)
    assert trees[0].hash == TreeManifest(entries=(entry(),)).hash
    assert trees[0].reference == f"upload:{trees[0].hash}/m"
