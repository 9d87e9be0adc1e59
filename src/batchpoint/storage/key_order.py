"""Putting the pages of a listing into the order of their keys, whatever order a server has."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import IO

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.storage.store import Found

Pages = Iterator[list[Found]]

_PATH = itemgetter(0)


def in_order(pages: Pages, url: str, *, trusted: bool | None) -> Pages:
    """Yield the same objects in UTF-8 order of their keys, page by page, lazily where possible.

    A trusted server is passed through and only watched. Of any other the first pages are read
    ahead; where they are in no order, the whole listing is sorted, on disk when it is long.

    Args:
        pages: what the server lists.
        url: where, for the message.
        trusted: whether the server is known to list in order; None: it is known to have an order
            of its own, so that everything is sorted whatever it begins with.

    Raises:
        Invalid: the listing began in order and then was not (`input_unreadable`).
    """
    if trusted:
        yield from _watched(pages, url)
        return
    if trusted is None:
        yield from _sorted(pages)
        return
    ahead: list[list[Found]] = []
    keys = 0
    for page in pages:
        ahead.append(page)
        keys += len(page)
        if keys >= limits.LISTING_TRUSTED_AFTER_KEYS:
            break
    together = itertools.chain(ahead, pages)
    seen = [path for page in ahead for path in map(_PATH, page)]
    # Strings compare by code point, which is the order of their UTF-8 bytes.
    yield from _watched(together, url) if seen == sorted(seen) else _sorted(together)


def _watched(pages: Iterable[list[Found]], url: str) -> Pages:
    last = ""
    for page in pages:
        page.sort(
            key=_PATH
        )  # Azure may differ within a page: UTF-16 puts some rare characters elsewhere
        if page and page[0].path < last:
            raise Invalid(
                f"{url} lists its objects in no order after the first "
                f"{limits.LISTING_TRUSTED_AFTER_KEYS:,}; give a smaller folder as input, or a "
                "list of URLs",
                code="input_unreadable",
            )
        once = _once(page, last)
        if once:
            last = once[-1].path
            yield once


def _once(page: list[Found], last: str) -> list[Found]:
    """Leave out what was listed already: a key that was written again while it was listed."""
    paths = [last, *map(_PATH, page)]
    if len(set(paths)) == len(paths):
        return page
    return [found for before, found in zip(paths[:-1], page, strict=True) if found.path != before]


def _sorted(pages: Iterable[list[Found]]) -> Pages:
    entries = itertools.chain.from_iterable(pages)
    with contextlib.ExitStack() as files:
        runs: list[Iterator[Found]] = []
        while run := sorted(itertools.islice(entries, limits.LISTING_SORTED_KEYS_MAX)):
            if len(run) < limits.LISTING_SORTED_KEYS_MAX:
                runs.append(iter(run))
                break
            runs.append(_spilled(run, files.enter_context(tempfile.TemporaryFile("w+"))))
        merged = heapq.merge(*runs)
        last = ""
        while page := list(itertools.islice(merged, limits.STORAGE_LIST_PAGE)):
            once = _once(page, last)
            if once:
                last = once[-1].path
                yield once


def _spilled(run: list[Found], file: IO[str]) -> Iterator[Found]:
    file.writelines(json.dumps(found) + "\n" for found in run)
    file.seek(0)
    return (Found(*json.loads(line)) for line in file)
