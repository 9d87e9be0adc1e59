"""Where the results of a job go, and whether they can: checked when it is invoked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from batchpoint.control.datastores import Datastores
from batchpoint.domain import limits
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.errors import BatchpointError, Conflict, Invalid, NotFound, Unavailable
from batchpoint.domain.references import DatastorePath, Location, data_reference, named_reference
from batchpoint.formats.layout import default_output
from batchpoint.storage.locate import is_local, local_path_of, path_of, uri_of
from batchpoint.storage.store import Location as Place

if TYPE_CHECKING:
    from batchpoint.storage.object_locations import ObjectLocations

PROBE = ".batchpoint-probe-"
"""An object of this name and the job's is written and deleted to see whether results can be."""

_WRITABLE = ("s3", "gs", "abfs", "abfss", "wasb", "wasbs", "http", "https")
_WHERE = "output.uri"


class Wanted(NamedTuple):
    """An output of a job as its caller, or nobody, has named it: `name` is that of the output.

    `file`: it is one file and not a folder; `where` names the field that says where it goes.
    """

    job: str
    name: str = "score"
    file: bool = False
    where: str = _WHERE


class OutputChecks:
    """Resolves and checks the outputs of jobs."""

    def __init__(self, datastores: Datastores, home: Path, outputs: str | None) -> None:
        """Jobs without an output of their own write below `outputs` (a path or URI), else `home`.

        Raises: Invalid (`uri_invalid`, `reference_invalid`).
        """
        self._datastores = datastores
        self._home = home
        self._outputs = None if outputs is None else _canonical(outputs, "outputs")

    def place(self, uri: str | None, wanted: Wanted, datastore: str | None = None) -> str:
        """Return the canonical URI of an output; without one, where outputs go by default.

        That is in `datastore`, if one is named, else below the setting `outputs`, else here.
        Raises: Invalid (`uri_invalid`, `reference_invalid`); NotFound (`datastore_not_found`).
        """
        if uri is not None:
            if wanted.file and uri.endswith("/"):
                raise Invalid(
                    f"{uri!r} is a folder, as its final '/' says; a uri_file is one file",
                    code="uri_invalid",
                    where=wanted.where,
                )
            return _canonical(uri, wanted.where)
        # The names of jobs and outputs need no encoding anywhere.
        if datastore is not None:
            store = self._datastores.get(named_reference(datastore, "datastore"))
            path = f"azureml/{wanted.job}/{wanted.name}"
            return str(DatastorePath(store.name, path))
        if self._outputs is None:
            return uri_of(default_output(self._home, wanted.job, wanted.name))
        return f"{self._outputs.rstrip('/')}/{wanted.job}/{wanted.name}"

    def check(self, uri: str, sources: Sequence[str], wanted: Wanted) -> None:
        """See whether something can be published: nothing is there, and it is not in the input.

        In an object store a small object is written there and deleted at once.
        Raises: Conflict (`output_exists`); Invalid (`storage_denied`, `uri_invalid`); NotFound
        (`datastore_not_found`); Unavailable (`storage_unavailable`).
        """
        access = self._datastores.access_for([uri, *(s for s in sources if not is_local(s))])
        path = local_path_of(uri, access)
        if path is None:
            _check_remote(uri, sources, access, wanted)
            return
        read = [found for s in sources if (found := local_path_of(s, access)) is not None]
        _check_local(path, read, wanted)

    def clashes(self, uris: Sequence[str]) -> list[tuple[int, int]]:
        """Return pairs of outputs (the earlier first) that are the same or lie in each other.

        Two spellings of one place (a datastore's name and the URL of its container) are one.
        """
        access = self._datastores.access_for(uri for uri in uris if not is_local(uri))
        spelled = _Spellings(access)
        order = [(f"{spelled.of(uri)}/", number) for number, uri in enumerate(uris)]
        found: list[tuple[int, int]] = []
        open_above: list[tuple[str, int]] = []
        for place, number in sorted(order):
            while open_above and not place.startswith(open_above[-1][0]):
                open_above.pop()
            if open_above:
                above = open_above[-1][1]
                found.append((min(above, number), max(above, number)))
            open_above.append((place, number))
        return found


class _Spellings:
    """One spelling for each place, however it was named."""

    def __init__(self, access: StorageAccess) -> None:
        self._access = access
        self._locations: ObjectLocations | None = None

    def of(self, uri: str) -> str:
        """Return the same text for all URIs of a place; a URI that leads nowhere as it is."""
        path = local_path_of(uri, self._access)
        if path is not None:
            return uri_of(path.resolve())
        if self._locations is None:
            # Only jobs that write to object stores pay for their client.
            from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

            self._locations = ObjectLocations(self._access)
        try:
            place = self._locations.at(uri)
        except (Invalid, NotFound):
            return uri  # what is wrong with it is told when it is checked
        return f"{place.store.url}/{place.path}".rstrip("/")


def _canonical(text: str, where: str) -> str:
    try:
        found = data_reference(text)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, where=where) from error
    if isinstance(found, DatastorePath):
        uri = str(found).rstrip("/")
        key = found.path.rstrip("/")
    elif not isinstance(found, Location):
        raise Invalid(
            f"{text!r} is no place that results can be written to: expected a path, a URI or "
            "azureml://datastores/NAME/paths/PATH",
            code="uri_invalid",
            where=where,
        )
    elif is_local(text):
        return uri_of(path_of(text, where=where))
    else:
        uri = text.rstrip("/")
        scheme, _, rest = uri.partition("://")
        uri = f"{scheme.lower()}://{rest}"
        if scheme.lower() not in _WRITABLE:
            raise Invalid(
                f"{text!r} cannot be written: expected a path or a URI of {', '.join(_WRITABLE)}, "
                "or azureml://datastores/NAME/paths/PATH",
                code="uri_invalid",
                where=where,
            )
        key = rest.partition("/")[2]
        if "?" in key or "#" in key:
            raise Invalid(
                f"{scheme}://{rest.partition('?')[0]} comes with a query: keys and tokens belong "
                "to a datastore; register one and name azureml://datastores/NAME/paths/PATH",
                code="uri_invalid",
                where=where,
            )
    if any(step in ("", ".", "..") for step in key.split("/")) and key:
        raise Invalid(
            f"{text!r} has an empty step, '.' or '..' in its path", code="uri_invalid", where=where
        )
    return uri


def _check_remote(uri: str, sources: Sequence[str], access: StorageAccess, wanted: Wanted) -> None:
    # Only jobs that write to object stores pay for their client.
    from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

    locations = ObjectLocations(access, timeout_seconds=limits.STORAGE_TEST_SECONDS_MAX)
    try:
        place = locations.at(uri)
        for source in sources:
            if not is_local(source) and _inside(place, locations.at(source)):
                raise _in_input(uri, source, wanted)
        _refuse_used(place, uri, wanted)
        _probe(place, wanted)
    except BatchpointError as error:
        if error.where is not None or not isinstance(error, Invalid | Unavailable):
            raise
        # What is wrong with an input elsewhere is, here, that there is no such place.
        code = "uri_invalid" if error.code.startswith("input_") else error.code
        raise type(error)(_explained(error, uri, access), code=code, where=wanted.where) from error


def _inside(place: Place, source: Place) -> bool:
    same = place.store is source.store or place.store.url == source.store.url
    return same and f"{place.path}/".startswith(f"{source.path}/" if source.path else "")


def _refuse_used(place: Place, uri: str, wanted: Wanted) -> None:
    if wanted.file and place.path and place.store.find(place.path) is not None:
        raise Conflict(
            f"{uri} already exists and results never replace anything; name another file or "
            "remove it",
            code="output_exists",
            where=wanted.where,
        )
    prefix = f"{place.path}/" if place.path else ""
    for page in place.store.list(prefix, ordered=False):
        for found in page:
            name = found.path.removeprefix(prefix)
            # Some stores have an object for the folder itself.
            if found.path.rstrip("/") == place.path or name.startswith(PROBE):
                continue
            raise Conflict(
                f"{uri} is not empty (it has {name}) and results never replace anything; name "
                "another folder or remove what is there",
                code="output_exists",
                where=wanted.where,
            )


def _probe(place: Place, wanted: Wanted) -> None:
    folder = place.path.rpartition("/")[0] if wanted.file else place.path
    key = f"{folder}/{PROBE}{wanted.job}".lstrip("/")
    place.store.put(key, b"batchpoint looks whether results can be written here\n")
    place.store.delete(key)


def _explained(error: BatchpointError, uri: str, access: StorageAccess) -> str:
    """Say which place and which datastore an error of its store is about, and what to do."""
    found = data_reference(uri)
    names = [
        each.datastore.name
        for each in access.datastores
        if not isinstance(found, DatastorePath) or each.datastore.name == found.datastore
    ]
    opened = f" (opened by datastore {names[0]})" if names else ""
    if error.code != "storage_denied":
        return f"results cannot be written to {uri}{opened}: {error.message}"
    advice = (
        "its credentials have to allow listing, writing and deleting there"
        if names
        else "register a datastore with credentials for it"
    )
    return f"results cannot be written to {uri}{opened}: {error.message}; {advice}"


def _check_local(output: Path, sources: Sequence[Path], wanted: Wanted) -> None:
    try:
        if output.is_dir() and not wanted.file:
            taken = next(output.iterdir(), None) is not None
        else:
            taken = output.exists() or output.is_symlink()
        above = output.parents if wanted.file else (output, *output.parents)
        nearest = next(place for place in above if place.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except (OSError, StopIteration) as error:
        raise Invalid(
            f"{output} cannot be used: {getattr(error, 'strerror', None) or 'it is no place'}",
            code="uri_invalid",
            where=wanted.where,
        ) from error
    what = "file" if wanted.file else "folder"
    if taken:
        raise Conflict(
            f"{output} already exists and results never replace anything; name another {what} or "
            "remove it",
            code="output_exists",
            where=wanted.where,
        )
    if not writable:
        raise Invalid(
            f"{output} cannot be made: {nearest} cannot be written by this user",
            code="uri_invalid",
            where=wanted.where,
        )
    for source in sources:
        if source.resolve() in (output.resolve(), *output.resolve().parents):
            raise _in_input(str(output), str(source), wanted)


def _in_input(output: str, source: str, wanted: Wanted) -> Invalid:
    return Invalid(
        f"{output} lies inside the input {source}, so that results would become input; name a "
        f"{'file' if wanted.file else 'folder'} elsewhere",
        code="uri_invalid",
        where=wanted.where,
    )
