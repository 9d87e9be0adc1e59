"""URIs of this machine and back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Invalid
from batchpoint.storage.locate import path_of, uri_of


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_there_and_back(name: str) -> None:
    path = Path("/") / name
    assert path_of(uri_of(path)) == path


def test_both_spellings_are_read() -> None:
    assert path_of("/a/b c") == Path("/a/b c")
    assert path_of("/a/100%25") == Path("/a/100%25")
    assert path_of("file:///a/b%20c") == Path("/a/b c")
    assert path_of("file://localhost/a") == Path("/a")


@pytest.mark.parametrize(
    "uri", ["a/b", "", "s3://b/k", "file://host/a", "http://h/a", "file:a", "file:///a%00b", "[::"]
)
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(Invalid) as caught:
        path_of(uri, where="input.uri")
    assert caught.value.code == "uri_invalid"
    assert caught.value.where == "input.uri"
