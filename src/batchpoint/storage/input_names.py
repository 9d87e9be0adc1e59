"""What the items of an input are called: the path below its root, unique also among several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import unquote

from batchpoint.domain.errors import Invalid
from batchpoint.storage.locate import is_local, path_of

_DATASTORES = "azureml://datastores/"


def place_of(uri: str) -> tuple[str, ...]:
    """Take a URI apart: what kind of place, which host, bucket or datastore, the names of the path.

    Raises: Invalid (`uri_invalid`).
    """
    if is_local(uri):
        return ("file", *str(path_of(uri)).strip("/").split("/"))
    if uri.startswith(_DATASTORES):
        name, _, path = uri[len(_DATASTORES) :].partition("/")
        key = path.removeprefix("paths").strip("/")
        return ("azureml", name, *(key.split("/") if key else ()))
    scheme, mark, rest = uri.partition("://")
    host, _, path = rest.partition("/")
    if not mark or not host:
        raise Invalid(f"{uri!r} names no place: expected a path or a URI", code="uri_invalid")
    if scheme in ("http", "https"):
        path = unquote(path.partition("#")[0].partition("?")[0])
    path = path.strip("/")
    return (scheme, host, *(path.split("/") if path else ()))


def prefixes_of(uris: Sequence[str]) -> list[str]:
    """Return what the names of the items of each source begin with.

    With several sources that is the path below the deepest folder that they have in common, hosts
    and buckets included where those differ; a lone source has none.

    Raises:
        Invalid: one is given twice, or lies within another (`field_invalid`).
    """
    if len(uris) == 1:
        return [""]
    places = [place_of(uri) for uri in uris]
    _refuse_overlap(uris, places)
    first, last = min(places), max(places)  # all others lie between them
    common = next(i for i, name in enumerate(first) if last[i] != name)
    return ["/".join(place[common:]) for place in places]


def _refuse_overlap(uris: Sequence[str], places: Sequence[tuple[str, ...]]) -> None:
    order = sorted(range(len(places)), key=places.__getitem__)
    for one, other in pairwise(order):
        # In this order what lies within a place comes right after it.
        if places[other][: len(places[one])] == places[one]:
            how = "are the same" if len(places[other]) == len(places[one]) else "overlap"
            raise Invalid(
                f"{uris[one]} and {uris[other]} {how}, so that items would be scored twice; name "
                "each place once",
                code="field_invalid",
                where="input.uris",
            )
