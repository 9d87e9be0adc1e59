"""What callers point at becomes the canonical URIs that jobs read."""

from pathlib import Path

import pytest

from batchpoint.control.data_references import below
from batchpoint.domain.asset import Data, Model
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, NotFound
from batchpoint.domain.job import Invocation, Job, JobState, JobStatus
from batchpoint.domain.job_pointers import JobInput
from batchpoint.storage.locate import path_of
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model

WORKSPACE = "/subscriptions/s/resourceGroups/r/providers/p/workspaces/w"


def folder_input(uri: str) -> JobInput:
    return JobInput(type="uri_folder", uri=uri)


def resolved(plane: ControlPlane, uri: str) -> JobInput:
    return plane.assets.references.resolved_input(folder_input(uri))


@pytest.fixture
def rows(plane: ControlPlane, tmp_path: Path) -> Path:
    """A folder that is the data asset `rows`, of which version 1 is a file in it."""
    folder = data_folder(tmp_path / "rows")
    plane.assets.data.register(Data(name="rows", path=str(folder / "a.csv"), type="uri_file"))
    plane.assets.data.register(Data(name="rows", path=str(folder)))
    return folder


@pytest.mark.parametrize(
    "spelling",
    [
        "azureml:rows:2",
        "azureml:rows@latest",
        f"{WORKSPACE}/data/rows/versions/2",
        f"azureml:{WORKSPACE}/data/rows/versions/2",
        f"{WORKSPACE}/data/rows/labels/latest",
    ],
)
def test_data_assets_in_every_spelling(plane: ControlPlane, rows: Path, spelling: str) -> None:
    found = resolved(plane, spelling)
    assert found == JobInput(type="uri_folder", uri=rows.as_uri(), asset="azureml:rows:2")


def test_the_assets_own_type_counts(plane: ControlPlane, rows: Path) -> None:
    found = resolved(plane, "azureml:rows:1")
    assert (found.type, found.uri) == ("uri_file", (rows / "a.csv").as_uri())


def test_an_archived_version_is_found_by_who_names_it(plane: ControlPlane, rows: Path) -> None:
    plane.assets.data.archive("rows", "2")
    assert resolved(plane, "azureml:rows:2").uri == rows.as_uri()
    assert resolved(plane, "azureml:rows@latest").asset == "azureml:rows:1"


def test_several_at_once(plane: ControlPlane, rows: Path) -> None:
    uris = ("azureml:rows:1", "s3://bucket/key", "azureml:rows:2")
    found = plane.assets.references.resolved_input(JobInput(type="uri_folder", uris=uris))
    assert found.uris == ((rows / "a.csv").as_uri(), "s3://bucket/key", rows.as_uri())
    assert found.uri is None
    assert found.asset == "azureml:rows:1, azureml:rows:2"
    assert found.type == "uri_folder"


def test_patterns_stay(plane: ControlPlane, rows: Path) -> None:
    source = JobInput(type="uri_folder", uri="azureml:rows:2", pattern="**/*.csv")
    assert plane.assets.references.resolved_input(source).pattern == "**/*.csv"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("/some/path", "/some/path"),
        ("s3://b/k", "s3://b/k"),
        ("https://host/a%20b", "https://host/a%20b"),
        (
            "azureml://datastores/workspaceblobstore/paths/a b/",
            "azureml://datastores/workspaceblobstore/paths/a b/",
        ),
        (
            f"{WORKSPACE}/datastores/workspaceartifactstore/paths/x",
            "azureml://datastores/workspaceartifactstore/paths/x",
        ),
    ],
)
def test_places(plane: ControlPlane, text: str, uri: str) -> None:
    assert resolved(plane, text) == folder_input(uri)


def test_uploads(plane: ControlPlane, tmp_path: Path) -> None:
    status = plane.services.trees.add_local(data_folder(tmp_path / "data"), unique="1")
    found = resolved(plane, status.reference)
    assert found.uri is not None
    assert (path_of(found.uri) / "a.csv").read_text() == "x\n1\n"


@pytest.mark.parametrize(
    ("text", "family", "code"),
    [
        ("azureml:ghost:1", NotFound, "data_not_found"),
        ("azureml:ghost@latest", NotFound, "data_not_found"),
        ("azureml:rows", Invalid, "reference_invalid"),
        ("azureml://registries/r/data/d/versions/1", Invalid, "reference_invalid"),
        ("azureml://datastores/ghost/paths/x", NotFound, "datastore_not_found"),
        ("azureml://jobs/ghost/outputs/score", NotFound, "job_not_found"),
        ("models:/m/1", Invalid, "reference_invalid"),
        ("hdfs://x/y", Invalid, "uri_invalid"),
        (f"upload:{'0' * 64}/x", NotFound, "upload_not_found"),
    ],
)
def test_what_cannot_be_read(
    plane: ControlPlane, text: str, family: type[BatchpointError], code: str
) -> None:
    with pytest.raises(family) as caught:
        resolved(plane, text)
    assert caught.value.code == code


def test_passwords_are_kept_out_of_jobs(plane: ControlPlane) -> None:
    with pytest.raises(Invalid, match="register a datastore") as caught:
        resolved(plane, "https://me:shh@host/data.csv")
    assert caught.value.code == "uri_invalid"
    assert "shh" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        "sv=2022-11-02&sp=r&sig=hush%3D",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=hush",
        "AWSAccessKeyId=me&Signature=hush",
        "x-goog-signature=hush",
    ],
)
def test_signatures_are_kept_out_of_jobs(plane: ControlPlane, query: str) -> None:
    uri = f"https://a.blob.core.windows.net/c/rows.csv?{query}"
    with pytest.raises(Invalid, match="register a datastore") as caught:
        resolved(plane, uri)
    assert caught.value.code == "uri_invalid"
    assert "hush" not in str(caught.value)
    harmless = "https://host/rows.csv?design=1&signal=2"
    assert resolved(plane, harmless).uri == harmless


def test_tables_of_azure_are_kept_but_not_scored(plane: ControlPlane, tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "table")
    plane.assets.data.register(Data(name="table", path=str(folder), type="mltable"))
    with pytest.raises(Invalid, match="MLTable") as caught:
        resolved(plane, "azureml:table:1")
    assert caught.value.code == "field_unsupported"


# --- outputs of jobs -----------------------------------------------------------------------------


@pytest.fixture
def job(plane: ControlPlane, tmp_path: Path, rows: Path) -> Job:
    model = Model(path=str(mlflow_model(tmp_path / "model")), type="mlflow_model")
    plane.registry.put_endpoint(BatchEndpoint(name="heart"))
    plane.registry.put_deployment(
        ModelDeployment(name="first", endpoint_name="heart", model=model),
        lambda line: None,
        set_default=True,
    )
    return plane.invocations.invoke("heart", Invocation(input=folder_input("azureml:rows:2")))


def ended(plane: ControlPlane, job: Job, state: JobState) -> None:
    epoch = plane.ledger.acquire_lease(job.name, "me", 0.0, 15)
    assert epoch is not None
    plane.ledger.finish(job.name, epoch, JobStatus(state=state, output_uri=job.scoring.output.uri))


def test_invoking_with_a_data_asset_records_both(job: Job, rows: Path) -> None:
    assert job.scoring.input.uri == rows.as_uri()
    assert job.scoring.input.asset == "azureml:rows:2"


def test_the_output_of_a_job_is_an_input_once_it_has_completed(
    plane: ControlPlane, job: Job
) -> None:
    place = f"azureml://jobs/{job.name}/outputs/score"
    with pytest.raises(Conflict) as caught:
        resolved(plane, place)
    assert caught.value.code == "job_not_finished"
    ended(plane, job, JobState.COMPLETED)
    assert resolved(plane, place).uri == job.scoring.output.uri
    inner = resolved(plane, f"{place}/paths/files/a b.csv").uri
    assert inner == f"{job.scoring.output.uri.rstrip('/')}/files/a%20b.csv"
    with pytest.raises(NotFound) as missing:
        resolved(plane, f"azureml://jobs/{job.name}/outputs/other")
    assert missing.value.code == "output_not_found"


def test_a_job_that_failed_left_nothing(plane: ControlPlane, job: Job) -> None:
    ended(plane, job, JobState.FAILED)
    with pytest.raises(NotFound, match="Failed") as caught:
        resolved(plane, f"azureml://jobs/{job.name}/outputs/score")
    assert caught.value.code == "output_not_found"


def test_a_data_asset_may_be_the_output_of_a_job(plane: ControlPlane, job: Job) -> None:
    ended(plane, job, JobState.COMPLETED)
    path_of(job.scoring.output.uri).mkdir(parents=True)
    place = f"azureml://jobs/{job.name}/outputs/score"
    assert plane.assets.data.register(Data(name="scores", path=place)).path == place
    assert resolved(plane, "azureml:scores:1").uri == job.scoring.output.uri


def test_a_model_may_be_what_a_job_left(plane: ControlPlane, job: Job) -> None:
    ended(plane, job, JobState.COMPLETED)
    mlflow_model(path_of(job.scoring.output.uri) / "model")
    for output in ("score", "artifacts"):
        path = f"azureml://jobs/{job.name}/outputs/{output}/paths/model"
        model = plane.assets.models.register(Model(name="m", path=path, type="mlflow_model"))
        assert model.path.endswith("/model")
        assert model.properties["source_uri"] == path


def test_going_below_a_place() -> None:
    assert below("file:///a%20b", "c d") == "file:///a%20b/c%20d"
    assert below("azureml://datastores/d/paths/a/", "c d") == "azureml://datastores/d/paths/a/c d"
    assert below("s3://b/k", "") == "s3://b/k"
