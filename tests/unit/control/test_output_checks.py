"""Outputs are checked when a job is invoked: where they are, whether they are free and writable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batchpoint.control.output_checks import PROBE, OutputChecks, Wanted
from batchpoint.domain.datastore import Datastore, StorageAccess
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, NotFound, Unavailable
from batchpoint.storage import object_locations
from batchpoint.storage.store import Location
from tests.contracts.memory_store import MemoryStore
from tests.unit.control_plane import ControlPlane

JOB = "heart-00000001"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """One container, whatever a URI says; keys are what comes after it."""
    store = MemoryStore()

    class Locations:
        def __init__(self, access: StorageAccess, *, timeout_seconds: float) -> None:
            assert timeout_seconds <= 10  # somebody waits
            self.access = access

        def at(self, uri: str) -> Location:
            return Location(store, uri.removeprefix("azureml://datastores/lake/paths/").strip("/"))

    monkeypatch.setattr(object_locations, "ObjectLocations", Locations)
    return store


@pytest.fixture
def checks(plane: ControlPlane) -> OutputChecks:
    plane.services.datastores.put(
        Datastore(name="lake", type="s3", bucket="b"), skip_validation=True
    )
    return OutputChecks(plane.services.datastores, plane.home, None)


def lake(path: str) -> str:
    return f"azureml://datastores/lake/paths/{path}"


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("/data/out/", "file:///data/out"),
        ("file:///data/a%20b", "file:///data/a%20b"),
        ("azureml://datastores/lake/paths/a b/", "azureml://datastores/lake/paths/a b"),
        (
            "azureml://subscriptions/s/resourcegroups/r/workspaces/w/datastores/lake/paths/x",
            "azureml://datastores/lake/paths/x",
        ),
        (
            "/subscriptions/s/resourceGroups/r/providers/p/workspaces/w/datastores/lake/paths//o/x",
            "azureml://datastores/lake/paths/o/x",
        ),
        ("S3://bucket/Key/", "s3://bucket/Key"),
        ("https://a.blob.core.windows.net/c/p/", "https://a.blob.core.windows.net/c/p"),
        ("abfss://fs@a.dfs.core.windows.net/p", "abfss://fs@a.dfs.core.windows.net/p"),
    ],
)
def test_every_spelling_has_one_canonical_form(
    checks: OutputChecks, given: str, canonical: str
) -> None:
    assert checks.place(given, Wanted(JOB)) == canonical
    assert checks.place(canonical, Wanted(JOB)) == canonical


@pytest.mark.parametrize(
    "given",
    [
        "ftp://host/x",
        "hdfs://x/y",
        "relative/path",
        "azureml:data:1",
        "azureml:data@latest",
        "azureml://jobs/heart-1/outputs/score",
        "models:/m/1",
        "s3://bucket/a//b",
        "s3://bucket/../other",
        "azureml://datastores/lake/paths/../x",
        "https://a.blob.core.windows.net/c/p?sig=s3cret",
    ],
)
def test_what_cannot_be_written_is_refused(checks: OutputChecks, given: str) -> None:
    with pytest.raises(Invalid) as caught:
        checks.place(given, Wanted(JOB))
    assert caught.value.where == "output.uri"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ("s3://bucket/results", f"s3://bucket/results/{JOB}/score"),
        (lake(""), f"azureml://datastores/lake/paths/{JOB}/score"),
        ("/data", f"file:///data/{JOB}/score"),
    ],
)
def test_a_root_for_all_jobs_may_be_anywhere(
    plane: ControlPlane, outputs: str, expected: str
) -> None:
    checks = OutputChecks(plane.services.datastores, plane.home, outputs)
    assert checks.place(None, Wanted(JOB)) == expected


def test_a_free_folder_is_probed_and_left_as_it_was(
    checks: OutputChecks, store: MemoryStore
) -> None:
    store.put("out-2/x", b"a neighbour")
    checks.check(lake("out"), [], Wanted(JOB))
    assert ("put", f"out/{PROBE}{JOB}") in store.asked
    assert store.objects == {"out-2/x": b"a neighbour"}


def test_a_used_folder_is_refused(checks: OutputChecks, store: MemoryStore) -> None:
    store.put("out/a/x.csv", b"")
    with pytest.raises(Conflict, match=r"out is not empty \(it has a/x\.csv\)") as caught:
        checks.check(lake("out"), [], Wanted(JOB))
    assert (caught.value.code, caught.value.where) == ("output_exists", "output.uri")
    assert not [key for operation, key in store.asked if PROBE in key and operation == "put"]


def test_the_probe_of_another_invoke_is_not_in_the_way(
    checks: OutputChecks, store: MemoryStore
) -> None:
    store.put(f"out/{PROBE}other", b"")
    checks.check(lake("out"), [], Wanted(JOB))


@pytest.mark.parametrize(
    ("error", "family", "code", "said"),
    [
        (Invalid("403", code="storage_denied"), Invalid, "storage_denied", "listing, writing"),
        (Unavailable("503", code="storage_unavailable"), Unavailable, "storage_unavailable", "503"),
        (Invalid("no bucket", code="input_unreadable"), Invalid, "uri_invalid", "no bucket"),
    ],
)
def test_a_store_that_does_not_let_us_is_named(
    checks: OutputChecks,
    store: MemoryStore,
    error: BatchpointError,
    family: type[BatchpointError],
    code: str,
    said: str,
) -> None:
    def fail(what: str, key: str) -> None:
        if what == "put":
            raise error

    store.before = fail
    with pytest.raises(family, match=said) as caught:
        checks.check(lake("out"), [], Wanted(JOB))
    assert (caught.value.code, caught.value.where) == (code, "output.uri")
    assert lake("out") in caught.value.message
    assert "datastore lake" in caught.value.message


@pytest.mark.parametrize("source", ["", "in", "in/deep"])
def test_an_output_in_the_input_is_refused(
    checks: OutputChecks, store: MemoryStore, source: str
) -> None:
    with pytest.raises(Invalid, match="results would become input"):
        checks.check(lake("in/deep/out"), [lake(source)], Wanted(JOB))
    checks.check(lake("in-2"), [lake("in")], Wanted(JOB))


def test_a_datastore_that_is_not_there_is_named(checks: OutputChecks) -> None:
    with pytest.raises(NotFound, match="ghost"):
        checks.check("azureml://datastores/ghost/paths/x", [], Wanted(JOB))


def test_a_datastore_that_is_a_folder_is_checked_as_a_folder(
    checks: OutputChecks, plane: ControlPlane
) -> None:
    uri = "azureml://datastores/workspaceblobstore/paths/out"
    checks.check(uri, [], Wanted(JOB))
    taken = plane.home / "datastores" / "workspaceblobstore" / "out"
    taken.mkdir(parents=True)
    checks.check(uri, [], Wanted(JOB))
    (taken / "x").touch()
    with pytest.raises(Conflict, match="already exists"):
        checks.check(uri, [], Wanted(JOB))


def test_a_local_output_asks_no_store(
    checks: OutputChecks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    locations: Callable[..., None] = never
    monkeypatch.setattr(object_locations, "ObjectLocations", locations)
    checks.check((tmp_path / "out").as_uri(), [str(tmp_path / "in")], Wanted(JOB))


FILE = Wanted(JOB, "scores", file=True, where="outputs.scores.uri")


def test_a_file_is_probed_beside_itself(checks: OutputChecks, store: MemoryStore) -> None:
    store.put("out/scores.csv.old", b"a neighbour")
    checks.check(lake("out/scores.csv"), [], FILE)
    assert ("put", f"out/{PROBE}{JOB}") in store.asked
    assert store.objects == {"out/scores.csv.old": b"a neighbour"}


@pytest.mark.parametrize("key", ["out/scores.csv", "out/scores.csv/part"])
def test_a_file_that_is_there_is_refused(
    checks: OutputChecks, store: MemoryStore, key: str
) -> None:
    store.put(key, b"")
    with pytest.raises(Conflict) as caught:
        checks.check(lake("out/scores.csv"), [], FILE)
    assert (caught.value.code, caught.value.where) == ("output_exists", "outputs.scores.uri")


def test_outputs_of_steps_have_places_of_their_own(
    checks: OutputChecks, plane: ControlPlane
) -> None:
    wanted = Wanted(f"{JOB}-train", "model")
    assert checks.place(None, wanted) == (plane.home / "outputs" / wanted.job / "model").as_uri()
    assert checks.place(None, wanted, "azureml:lake") == lake(f"azureml/{wanted.job}/model")
    with pytest.raises(NotFound):
        checks.place(None, wanted, "ghost")
    with pytest.raises(Invalid, match="one file"):
        checks.place(lake("out/"), FILE)


@pytest.mark.parametrize(
    ("datastore", "url"),
    [
        ({"type": "s3", "bucket": "b"}, "s3://b"),
        (
            {"type": "azure_blob", "account_name": "acc", "container_name": "c"},
            "https://acc.blob.core.windows.net/c",
        ),
        (
            {"type": "azure_blob", "account_name": "acc", "container_name": "c"},
            "abfss://c@acc.dfs.core.windows.net",
        ),
        ({"type": "gcs", "bucket": "g"}, "gs://g"),
    ],
)
def test_a_place_is_known_in_every_spelling(
    plane: ControlPlane, datastore: dict[str, str], url: str
) -> None:
    told = Datastore.model_validate({"name": "far"} | datastore)
    plane.services.datastores.put(told, skip_validation=True)
    checks = OutputChecks(plane.services.datastores, plane.home, None)
    named = "azureml://datastores/far/paths"
    places = [f"{named}/out/a", f"{url}/out/a", f"{url}/out/b/c", f"{named}/out/b", f"{url}/z"]
    assert sorted(checks.clashes(places)) == [(0, 1), (2, 3)]


def test_places_that_meet_are_found(checks: OutputChecks, tmp_path: Path) -> None:
    places = [lake("a"), lake("a-b"), lake("a/b"), lake("c"), lake("c"), "s3://o/a", lake("a/b/c")]
    assert sorted(checks.clashes(places)) == [(0, 2), (2, 6), (3, 4)]
    (tmp_path / "link").symlink_to(tmp_path / "aim")
    paths = [(tmp_path / name).as_uri() for name in ("aim/x", "link/x/y", "other")]
    assert checks.clashes(paths) == [(0, 1)]
