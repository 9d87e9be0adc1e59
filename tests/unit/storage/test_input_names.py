"""Names of items: short for one source, unique among several."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Invalid
from batchpoint.storage.input_names import place_of, prefixes_of


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("/a/b c", ("file", "a", "b c")),
        ("file:///a/b%20c/", ("file", "a", "b c")),
        ("s3://bucket/a%20b/c", ("s3", "bucket", "a%20b", "c")),
        ("s3://bucket", ("s3", "bucket")),
        ("azureml://datastores/blob/paths/x/y.csv", ("azureml", "blob", "x", "y.csv")),
        ("azureml://datastores/blob/paths/", ("azureml", "blob")),
        ("https://host/a%20b/c.csv?sig=secret", ("https", "host", "a b", "c.csv")),
    ],
)
def test_places(uri: str, place: tuple[str, ...]) -> None:
    assert place_of(uri) == place


def test_a_lone_source_needs_no_prefix() -> None:
    assert prefixes_of(["s3://bucket/a"]) == [""]


@pytest.mark.parametrize(
    ("uris", "prefixes"),
    [
        (["s3://b/x/1.csv", "s3://b/x/2.csv"], ["1.csv", "2.csv"]),
        (["s3://b/x/1", "s3://b/y/1"], ["x/1", "y/1"]),
        (["s3://b/x", "s3://c/x"], ["b/x", "c/x"]),
        (["s3://b/x", "file:///b/x"], ["s3/b/x", "file/b/x"]),
        (["https://h/1.csv?a", "https://g/1.csv"], ["h/1.csv", "g/1.csv"]),
    ],
)
def test_several_are_named_from_what_they_share(uris: list[str], prefixes: list[str]) -> None:
    assert prefixes_of(uris) == prefixes


@pytest.mark.parametrize(
    "uris",
    [
        ["s3://b/x", "s3://b/x/"],
        ["s3://b/x", "s3://b/y", "s3://b/x/1.csv"],
        ["/data/a", "file:///data/a"],
        ["s3://b", "s3://b/y"],
    ],
)
def test_nothing_is_scored_twice(uris: list[str]) -> None:
    with pytest.raises(Invalid, match="scored twice") as caught:
        prefixes_of(uris)
    assert caught.value.code == "field_invalid"


STEPS = st.lists(st.sampled_from(["a", "b", "a-", "é"]), min_size=1, max_size=4)


@given(st.lists(STEPS, min_size=2, max_size=6, unique_by=tuple))
def test_names_are_unique_or_refused(paths: list[list[str]]) -> None:
    uris = ["s3://" + "/".join(path) for path in paths]
    nested = any(one != other and other[: len(one)] == one for one in paths for other in paths)
    if nested:
        with pytest.raises(Invalid):
            prefixes_of(uris)
    else:
        prefixes = prefixes_of(uris)
        assert len(set(prefixes)) == len(uris)
        assert all(uri.endswith(prefix) for uri, prefix in zip(uris, prefixes, strict=True))
