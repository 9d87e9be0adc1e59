"""Every spelling of a reference is read by one parser, and written back in its canonical form."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Invalid
from batchpoint.domain.references import (
    AssetKind,
    AssetReference,
    DatastorePath,
    JobOutputPath,
    Location,
    MlflowModel,
    MlflowRun,
    NamedKind,
    Reference,
    RegistryReference,
    UploadReference,
    asset_reference,
    data_reference,
    is_reference,
    kind_by_name,
    model_source,
    named_reference,
)

WORKSPACE = (
    "/subscriptions/s-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/w"
)
SHORT_WORKSPACE = "subscriptions/s-1/resourcegroups/rg/workspaces/w"
HASH = "a" * 64


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("azureml:heart:3", "heart", "3"),
        ("heart:3", "heart", "3"),
        ("azureml:heart@latest", "heart", None),
        ("heart@latest", "heart", None),
        ("azureml:he.art_1-b:2024.1-rc", "he.art_1-b", "2024.1-rc"),
        (f"{WORKSPACE}/models/heart/versions/3", "heart", "3"),
        (f"azureml:{WORKSPACE}/models/heart/versions/3", "heart", "3"),
        (f"azureml:{WORKSPACE}/models/heart/labels/latest", "heart", None),
        (f"azureml://{SHORT_WORKSPACE}/models/heart/versions/3/", "heart", "3"),
        (f"{WORKSPACE.lower()}/Models/heart/Versions/3", "heart", "3"),
    ],
)
def test_assets(text: str, name: str, version: str | None) -> None:
    assert asset_reference(text, "model") == AssetReference("model", name, version)


@pytest.mark.parametrize(
    "text",
    [
        "azureml:heart",
        "heart@prod",
        "heart@default",
        "",
        ":1",
        "a:b:c",
        "a b:1",
        "é:1",
        "azureml:",
        "azureml://",
        "/subscriptions/s/models/heart/versions/1",
        f"{WORKSPACE}/environments/heart",
        f"{WORKSPACE}/environments/heart/labels/prod",
        f"{WORKSPACE}/models/heart/versions/1",
        f"{WORKSPACE}/computes/heart",
        f"{WORKSPACE}/environments/he art/versions/1",
        "azureml://registries/r/models/heart/versions/1",
        "azureml://registries/r/environments/heart",
        "azureml://datastores/d/paths/p",
    ],
)
def test_what_is_no_asset_reference(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        asset_reference(text, "environment")
    assert caught.value.code == "reference_invalid"
    assert caught.value.where == "environment"
    assert repr(text) in caught.value.message


def test_components_have_a_second_label() -> None:
    assert asset_reference("azureml:prep@default", "component").version is None


@pytest.mark.parametrize("which", ["versions/12", "labels/latest"])
def test_registries(which: str) -> None:
    found = asset_reference(
        f"azureml://registries/azureml/environments/sklearn/{which}", "environment"
    )
    version = "12" if which.startswith("versions") else None
    assert found == RegistryReference("azureml", "environment", "sklearn", version)
    assert str(found) == f"azureml://registries/azureml/environments/sklearn/{which}"


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("azureml:batch-cluster", "compute", "batch-cluster"),
        ("local", "compute", "local"),
        (f"{WORKSPACE}/computes/c1", "compute", "c1"),
        (f"azureml:{WORKSPACE}/datastores/d", "datastore", "d"),
        ("azureml:heart-3f9a", "job", "heart-3f9a"),
    ],
)
def test_things_without_versions(text: str, kind: NamedKind, name: str) -> None:
    assert named_reference(text, kind) == name


@pytest.mark.parametrize(
    "text",
    [
        "azureml:c:1",
        "c@latest",
        "",
        "/x",
        f"{WORKSPACE}/datastores/d",
        f"{WORKSPACE}/computes/c/versions/1",
    ],
)
def test_what_names_no_compute(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        named_reference(text, "compute")
    assert caught.value.code == "reference_invalid"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("azureml://datastores/d/paths/a/b.csv", DatastorePath("d", "a/b.csv")),
        ("azureml://datastores/d/paths/a b%20/", DatastorePath("d", "a b%20/")),
        ("azureml://datastores/d/paths//a", DatastorePath("d", "a")),
        ("azureml://datastores/d/paths/", DatastorePath("d", "")),
        ("azureml://datastores/d/paths", DatastorePath("d", "")),
        ("azureml://datastores/d", DatastorePath("d", "")),
        (f"azureml://{SHORT_WORKSPACE}/datastores/d/paths/a", DatastorePath("d", "a")),
        (f"{WORKSPACE}/datastores/d/paths/a", DatastorePath("d", "a")),
        (f"azureml:{WORKSPACE}/datastores/d/paths/a", DatastorePath("d", "a")),
        ("azureml://jobs/j-1/outputs/score/paths/x/", JobOutputPath("j-1", "score", "x")),
        ("azureml://jobs/j-1/outputs/score", JobOutputPath("j-1", "score", "")),
        (
            "azureml://jobs/j/outputs/artifacts/paths/model",
            JobOutputPath("j", "artifacts", "model"),
        ),
        (f"{WORKSPACE}/jobs/j/outputs/score/paths/x", JobOutputPath("j", "score", "x")),
        ("azureml:heart:1", AssetReference("data", "heart", "1")),
        ("azureml:heart@latest", AssetReference("data", "heart", None)),
        (f"{WORKSPACE}/data/heart/versions/2", AssetReference("data", "heart", "2")),
        ("azureml://registries/r/data/d/versions/1", RegistryReference("r", "data", "d", "1")),
        (f"upload:{HASH}/data", UploadReference(HASH, "data")),
        (f"upload:{HASH}", UploadReference(HASH, "")),
        ("s3://bucket/key with spaces", Location("s3://bucket/key with spaces")),
        ("https://host/x?sig=1#frag", Location("https://host/x?sig=1#frag")),
        ("/a/path", Location("/a/path")),
        ("relative:odd", Location("relative:odd")),
        (r"C:\data", Location(r"C:\data")),
    ],
)
def test_data(text: str, found: Reference) -> None:
    assert data_reference(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "azureml:heart",
        "azureml://nonsense/x",
        "azureml:",
        "azureml://datastores/d/paths/../secret",
        "azureml://datastores/d/paths/a/./b",
        "azureml://jobs/j/outputs/score/paths/../../x",
        f"{WORKSPACE}/models/m/versions/1",
        "/subscriptions/s/nothing",
        "upload:short/x",
        f"upload:{HASH}/a/b",
    ],
)
def test_what_points_at_no_data(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        data_reference(text)
    assert caught.value.code == "reference_invalid"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("models:/heart/3", MlflowModel("heart", "3", None)),
        ("models:/heart@champion", MlflowModel("heart", None, "champion")),
        ("models:/heart/Production", MlflowModel("heart", "Production", None)),
        ("runs:/0a1b/model", MlflowRun("0a1b", "model")),
        ("runs:/0a1b/deep/model/", MlflowRun("0a1b", "deep/model")),
        ("runs:/0a1b", MlflowRun("0a1b", "")),
        ("azureml://datastores/d/paths/m", DatastorePath("d", "m")),
        ("s3://b/m", Location("s3://b/m")),
        ("./model", Location("./model")),
    ],
)
def test_where_the_files_of_a_model_lie(text: str, found: Reference) -> None:
    assert model_source(text) == found


@pytest.mark.parametrize("text", ["models:/heart", "models:heart/1", "runs:", "runs:/r/../x"])
def test_what_is_no_mlflow_uri(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        model_source(text)
    assert caught.value.code == "reference_invalid"


def test_telling_references_from_paths() -> None:
    told = ["azureml:x:1", f"upload:{HASH}/x", f"{WORKSPACE}/data/x/versions/1", "azureml://jobs/j"]
    assert all(is_reference(text) for text in told)
    assert not any(is_reference(text) for text in ["/data", "./x", "s3://b/k", "models:/x/1", ""])


# --- round trips ---------------------------------------------------------------------------------

letters = string.ascii_letters + string.digits
names = st.builds(
    lambda first, rest: first + rest,
    st.sampled_from(letters),
    st.text(letters + "_.-", max_size=12),
)
steps = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=8
).filter(lambda step: step not in (".", ".."))
paths = st.lists(steps, max_size=4).map("/".join)
words = st.text(letters + "_", min_size=1, max_size=8)
kinds: st.SearchStrategy[AssetKind] = st.sampled_from(
    ["model", "data", "environment", "code", "component"]
)


@given(kinds, names, st.none() | names)
def test_assets_round_trip(kind: AssetKind, name: str, version: str | None) -> None:
    reference = AssetReference(kind, name, version)
    assert asset_reference(str(reference), kind) == reference
    collection = {"data": "data"}.get(kind, f"{kind}s")
    which = f"versions/{version}" if version else "labels/latest"
    assert asset_reference(f"{WORKSPACE}/{collection}/{name}/{which}", kind) == reference


@given(
    st.builds(DatastorePath, names, paths)
    | st.builds(JobOutputPath, names, words, paths)
    | st.builds(AssetReference, st.just("data"), names, st.none() | names)
    | st.builds(RegistryReference, names, st.just("data"), names, st.none() | names)
    | st.builds(UploadReference, st.just(HASH), steps | st.just(""))
)
def test_data_round_trips(reference: Reference) -> None:
    assert data_reference(str(reference)) == reference


@given(
    st.builds(MlflowModel, names, names, st.none())
    | st.builds(MlflowModel, names, st.none(), names)
    | st.builds(MlflowRun, names, paths)
)
def test_mlflow_round_trips(reference: Reference) -> None:
    assert model_source(str(reference)) == reference


def refusal(text: str) -> str | None:
    """The code with which a text is refused, None when it is read."""
    try:
        data_reference(text)
    except Invalid as error:
        return error.code
    return None


@given(st.text(max_size=60) | st.text(max_size=20).map("azureml:".__add__))
def test_anything_else_is_a_location_or_refused(text: str) -> None:
    if refusal(text) is None:
        found = data_reference(text)
        assert is_reference(text) or isinstance(found, Location | MlflowModel | MlflowRun)
    else:
        assert refusal(text) == "reference_invalid"


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("/data/x.csv", "uri_file"),
        ("/data/x", "uri_folder"),
        ("/data/v1.2/", "uri_folder"),
        ("/data/.hidden", "uri_folder"),
        ("https://e.com/a/b.parquet", "uri_file"),
        ("https://e.com/a/b.parquet?sig=x/y", "uri_file"),
        ("https://e.com/a?name=b.parquet", "uri_folder"),
        ("https://e.com/a#b.parquet", "uri_folder"),
        ("https://e.com", "uri_folder"),
        ("https://e.com?x=/a.csv", "uri_folder"),
        ("https://[e.com/a.csv", "uri_file"),
        ("https://e.com/.hidden", "uri_folder"),
        ("azureml://datastores/d/paths/a/b.jpg", "uri_file"),
        ("azureml://datastores/d/paths/is it?.jpg", "uri_file"),
        ("azureml://datastores/d/paths/a#1.jpg", "uri_file"),
        ("s3://bucket/a.csv?", "uri_folder"),
        ("s3://bucket.with.dots", "uri_folder"),
        ("upload:00/a.csv", "uri_file"),
    ],
)
def test_a_name_tells_files_from_folders(uri: str, kind: str) -> None:
    assert kind_by_name(uri) == kind
