"""Where the data lies that a pointer names: on this machine, as plain paths, or elsewhere."""

from __future__ import annotations

from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.job_pointers import JobInput
from batchpoint.storage.listing import Locations
from batchpoint.storage.locate import is_local, local_path_of, path_of


def localized(source: JobInput, access: StorageAccess) -> JobInput:
    """Return the same pointer with plain paths for all that lies on this machine.

    Raises: Invalid (`uri_invalid`, `reference_invalid`).
    """
    paths = [(local_path_of(uri, access), uri) for uri in source.sources]
    places = tuple(uri if path is None else str(path) for path, uri in paths)
    if source.uri is not None:
        return source.model_copy(update={"uri": places[0]})
    return source.model_copy(update={"uris": places})


def listed_as(uri: str) -> str:
    """Return how a listing names a source itself: the path of a local one, any other as it is."""
    return str(path_of(uri)) if is_local(uri) else uri


def locations_with(access: StorageAccess) -> Locations:
    """Return what finds stores; only what lies in one pays for its client."""
    from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415 - slow

    return ObjectLocations(access)
