import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.storage.key_order import in_order
from batchpoint.storage.store import Found

KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5))


def _batched(keys: list[str], size: int) -> list[list[str]]:
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def pages_of(keys: list[str], size: int = 2) -> list[list[Found]]:
    return [[Found(key, 1, "e") for key in part] for part in _batched(keys, size)]


def keys_of(pages) -> list[str]:
    return [found.path for page in pages for found in page]


@given(KEYS, st.integers(1, 5), st.integers(1, 5), st.integers(1, 9))
def test_any_order_becomes_the_order_of_utf_8(keys, size, sorted_at_once, page):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "LISTING_SORTED_KEYS_MAX", sorted_at_once)
        patch.setattr(limits, "STORAGE_LIST_PAGE", page)
        found = list(in_order(iter(pages_of(keys, size)), "s3://b", trusted=False))
    assert keys_of(found) == sorted(set(keys), key=str.encode)
    assert all(found)


@given(KEYS, st.integers(1, 5), st.booleans())
def test_a_server_in_order_is_passed_through(keys, size, trusted):
    ordered = sorted(set(keys))
    pages = pages_of(ordered, size)
    assert list(in_order(iter(pages), "s3://b", trusted=trusted)) == pages


def test_a_trusted_server_is_read_lazily():
    pages = iter(pages_of(["a", "b", "c", "d"]))
    assert next(in_order(pages, "s3://b", trusted=True))[0].path == "a"
    assert next(pages)[0].path == "c"


def test_an_untrusted_server_is_read_ahead_only_so_far(monkeypatch):
    monkeypatch.setattr(limits, "LISTING_TRUSTED_AFTER_KEYS", 2)
    read: list[str] = []

    def pages():
        for page in pages_of(["a", "b", "c", "d"], 1):
            read.append(page[0].path)
            yield page

    assert next(in_order(pages(), "s3://b", trusted=False))[0].path == "a"
    assert read == ["a", "b"]


def test_disorder_after_order_is_told_and_never_mixed_in(monkeypatch):
    monkeypatch.setattr(limits, "LISTING_TRUSTED_AFTER_KEYS", 2)
    pages = in_order(iter(pages_of(["b", "c", "a"], 1)), "s3://bucket", trusted=False)
    assert [next(pages)[0].path, next(pages)[0].path] == ["b", "c"]
    with pytest.raises(Invalid, match="s3://bucket") as caught:
        next(pages)
    assert caught.value.code == "input_unreadable"


def test_a_page_in_utf_16_order_is_put_right():
    # U+1F600 is D83D DE00 in UTF-16 and comes before U+FF01 there.
    pages = pages_of(["a", "\U0001f600", "\uff01", "\U0001f601"], 4)
    found = keys_of(in_order(iter(pages), "https://a", trusted=True))
    assert found == ["a", "\uff01", "\U0001f600", "\U0001f601"]


def test_a_key_that_is_listed_twice_counts_once():
    pages = pages_of(["a", "b", "b", "c"], 2)
    assert keys_of(in_order(iter(pages), "s3://b", trusted=True)) == ["a", "b", "c"]
    pages = pages_of(["b", "b", "a", "a"], 2)
    assert keys_of(in_order(iter(pages), "s3://b", trusted=False)) == ["a", "b"]


def test_a_server_with_an_order_of_its_own_is_sorted_whatever_it_begins_with(monkeypatch):
    # A hierarchical namespace of Azure lists folder by folder: "a/2" before "a-1".
    monkeypatch.setattr(limits, "LISTING_TRUSTED_AFTER_KEYS", 2)
    monkeypatch.setattr(limits, "STORAGE_LIST_PAGE", 3)
    pages = pages_of(["a/1", "a/2", "a/3", "a/4", "a-1/1", "b"], 1)
    found = keys_of(in_order(iter(pages), "https://a", trusted=None))
    assert found == ["a-1/1", "a/1", "a/2", "a/3", "a/4", "b"]
