"""Inputs as callers give them become inputs as jobs read them, or are refused with a place."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchpoint.control.input_checks import InputChecks
from batchpoint.domain.datastore import Datastore, DatastoreAccess, StorageAccess
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("a.csv", "b.csv", "sub/c.csv", "more/d.csv", "odd*name.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def checked(folder: Path, **source: object) -> JobInput:
    local = Datastore(name="blob", type="local", path=str(folder))
    access = StorageAccess(datastores=(DatastoreAccess(datastore=local),))
    given = JobInput.model_validate({"type": "uri_folder", **source})
    return InputChecks(lambda _: access).checked(given)


def refused(folder: Path, **source: object) -> Invalid:
    with pytest.raises(Invalid) as caught:
        checked(folder, **source)
    return caught.value


def test_wildcards_become_a_folder_and_a_pattern(data: Path) -> None:
    for given in (f"{data}/*.csv", f"{data.as_uri()}/*.csv", f"file://{data}/*.csv"):
        found = checked(data, type="uri_file", uri=given)
        assert found == JobInput(type="uri_folder", uri=data.as_uri(), pattern="*.csv")
    found = checked(data, uri=f"{data}/s?b/**")
    assert found == JobInput(type="uri_folder", uri=data.as_uri(), pattern="s?b/**")


def test_what_has_that_very_name_is_meant(data: Path) -> None:
    path = data / "odd*name.csv"
    found = checked(data, type="uri_file", uri=str(path))
    assert found == JobInput(type="uri_file", uri=path.as_uri())


def test_a_local_datastore_is_read_where_it_lies(data: Path) -> None:
    found = checked(data, uri="azureml://datastores/blob/paths/sub")
    assert found.uri == (data / "sub").as_uri()
    found = checked(data, uri="azureml://datastores/blob/paths/*.csv")
    assert (found.uri, found.pattern) == (data.as_uri(), "*.csv")


def test_several_may_be_files_and_folders(data: Path) -> None:
    found = checked(data, type="uri_file", uris=(f"{data}/a.csv", f"{data}/sub"))
    assert found.sources == ((data / "a.csv").as_uri(), (data / "sub").as_uri())
    found = checked(data, uris=(f"{data}/more/*.csv", f"{data}/sub/*.csv"))
    assert found.pattern == "*.csv"


@pytest.mark.parametrize(
    ("source", "code", "where", "words"),
    [
        ({"uris": ("{d}/a.csv", "{d}/a.csv")}, "field_invalid", "input.uris", "are the same"),
        ({"uris": ("{d}/sub", "{d}/sub/c.csv")}, "field_invalid", "input.uris", "overlap"),
        ({"uris": ("{d}/sub", "{d}/none")}, "input_not_found", "input.uris", "none"),
        ({"uris": ("{d}/*.csv", "{d}/sub")}, "field_invalid", "input.uris", "one pattern"),
        ({"uri": "{d}/a.csv", "pattern": "*"}, "field_invalid", "input.pattern", "is a file"),
        ({"uri": "{d}", "pattern": "a//b"}, "field_invalid", "input.pattern", "empty name"),
        ({"uri": "{d}/none/*.csv"}, "input_not_found", "input.uri", "none"),
        ({"uri": "{d}/sub/[*"}, "field_invalid", "input.uri", "has no ']'"),
        ({"uri": "http://127.0.0.1:9/x/"}, "uri_invalid", "input.uri", "no folders"),
    ],
)
def test_refusals_say_where(
    data: Path, source: dict[str, object], code: str, where: str, words: str
) -> None:
    told = {
        key: tuple(uri.format(d=data) for uri in value)
        if isinstance(value, tuple)
        else str(value).format(d=data)
        for key, value in source.items()
    }
    error = refused(data, **told)
    assert (error.code, error.where) == (code, where)
    assert words in error.message
