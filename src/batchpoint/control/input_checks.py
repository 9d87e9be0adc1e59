"""What a job is to read: looked at when it is invoked, so that mistakes show at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from batchpoint.core.path_pattern import compile_pattern, split_pattern
from batchpoint.domain import limits
from batchpoint.domain.component import DataType
from batchpoint.domain.datastore import StorageAccess
from batchpoint.domain.datastore_urls import lies_inside
from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.references import DatastorePath, data_reference
from batchpoint.storage.input_names import prefixes_of
from batchpoint.storage.locate import is_local, local_path_of, path_of, uri_of
from batchpoint.storage.store import Location

Kind = Literal["uri_file", "uri_folder"]

_PLAIN = ("uri_file", "uri_folder")
# Types whose data may be a file or a folder, and files by which a folder shows its type.
_EITHER = ("custom_model",)
_MARKERS = {"mltable": "MLTable", "mlflow_model": "MLmodel"}
_WEB = ("http://", "https://")
# Of a long list of URLs the first, the last and some between them are looked at.
_LOOKED_AT_MAX = 6


class InputChecks:
    """Checks inputs with the datastores that open them."""

    def __init__(self, access_for: Callable[[Iterable[str]], StorageAccess]) -> None:
        """Open URIs with what `access_for` gives."""
        self._access_for = access_for

    def checked(self, source: JobInput, where: str = "input") -> JobInput:
        """Check that an input can be read and is what its type says; return it as jobs read it.

        Local sources become `file://` URIs. A path with wildcards, where nothing has that very
        name, becomes a folder and a pattern. Whether a folder holds what matches is found by
        listing it, when the job runs. Of several remote sources only some are looked at; each may
        be a file or a folder, whatever the type says. `where` is the field that holds the input.

        Raises:
            Invalid: `input_not_found`, `input_unreadable`, `storage_denied`, `uri_invalid`,
                `field_invalid`.
            NotFound: `datastore_not_found`.
            Unavailable: a store does not answer (`storage_unavailable`).
        """
        if source.pattern is not None:
            compile_pattern(source.pattern, f"{where}.pattern")
        remote = [uri for uri in source.sources if not is_local(uri)]
        access = self._access_for(remote) if remote else StorageAccess()
        looker = _Looker(access, where, "uri" if source.uri is not None else "uris")
        if source.uri is not None:
            return looker.one(source, source.uri)
        return looker.several(source)


class _Looker:
    """Looks at the sources of one input."""

    def __init__(self, access: StorageAccess, field: str, by: str) -> None:
        self._access = access
        self._field = field
        self._where = f"{field}.{by}"

    def one(self, source: JobInput, given: str) -> JobInput:
        uri, pattern = self._split(self._local_uri(given), source)
        kind = self._kind(uri, "uri_folder" if pattern else _expected(source))
        if pattern and kind == "uri_file":
            raise Invalid(
                f"{_shown(uri)} is a file, and a pattern chooses files of a folder; leave it out",
                code="field_invalid",
                where=f"{self._field}.pattern",
            )
        if not pattern and kind != _expected(source) and source.type not in _EITHER:
            what = "folder" if kind == "uri_folder" else "file"
            raise Invalid(
                f"{_shown(uri)} is a {what}; use type {kind}"
                if source.type in _PLAIN
                else f"{_shown(uri)} is a {what}, and of type {source.type} are only folders",
                code="field_invalid",
                where=f"{self._field}.type",
            )
        self._check_marker(source, uri)
        told = {"type": _type_of(source, kind), "uri": uri, "pattern": pattern}
        return source.model_copy(update=told)

    def _check_marker(self, source: JobInput, uri: str) -> None:
        """See whether a folder of this machine has the file that its type is known by."""
        marker = _MARKERS.get(source.type)
        if marker is not None and is_local(uri) and not (path_of(uri) / marker).is_file():
            raise Invalid(
                f"{_shown(uri)} holds no file {marker}, which data of type {source.type} has; name "
                "the folder that holds it, or use another type",
                code="field_invalid",
                where=self._where,
            )

    def several(self, source: JobInput) -> JobInput:
        split = [self._split(self._local_uri(uri), source) for uri in source.uris]
        uris = tuple(uri for uri, _ in split)
        patterns = {pattern for _, pattern in split}
        if len(patterns) > 1:
            raise Invalid(
                "one pattern holds for all sources, and these differ in their wildcards; give the "
                "folders as uris and one pattern",
                code="field_invalid",
                where=self._where,
            )
        prefixes_of(uris)
        pattern = patterns.pop()
        kind: Kind = "uri_folder" if pattern else _expected(source)
        for uri, found in zip(*self._kinds(uris, kind), strict=True):
            if pattern and found == "uri_file":
                raise Invalid(
                    f"{_shown(uri)} is a file, and a pattern chooses files of folders; leave the "
                    "pattern out, or the file",
                    code="field_invalid",
                    where=f"{self._field}.pattern",
                )
        told = {"type": _type_of(source, kind), "uris": uris, "pattern": pattern}
        return source.model_copy(update=told)

    def _kinds(self, uris: Sequence[str], kind: Kind) -> tuple[list[str], list[Kind]]:
        """Look at all local sources and at some remote ones, those at the same time."""
        local = [uri for uri in uris if is_local(uri)]
        remote = [uri for uri in uris if not is_local(uri)]
        if len(remote) > _LOOKED_AT_MAX:
            step = (len(remote) - 1) / (_LOOKED_AT_MAX - 1)
            remote = [remote[round(place * step)] for place in range(_LOOKED_AT_MAX)]
        found: list[Kind] = [self._kind(uri, kind) for uri in local]
        if remote:
            with ThreadPoolExecutor(len(remote)) as threads:
                found += threads.map(self._kind, remote, [kind] * len(remote))
        return [*local, *remote], found

    # --- one source -----------------------------------------------------------------------------

    def _local_uri(self, uri: str) -> str:
        """Return a `file://` URI for what lies on this machine, also in a local datastore."""
        if is_local(uri):
            return uri_of(path_of(uri, where=self._where))
        path = local_path_of(uri, self._access)
        return uri if path is None else uri_of(path)

    def _split(self, uri: str, source: JobInput) -> tuple[str, str | None]:
        """Cut a URI with wildcards into folder and pattern, unless something has that name."""
        if source.pattern is not None:
            return uri, source.pattern
        if is_local(uri):
            path = path_of(uri)
            split = split_pattern(str(path))
            if split is None or os.path.lexists(path):
                return uri, None
            folder = uri_of(Path(split[0]))
        else:
            scheme, mark, rest = uri.partition("://")
            split = split_pattern(rest, question_mark=not uri.startswith(_WEB))
            if split is None or self._find(uri):
                return uri, None
            folder = f"{scheme}{mark}{split[0]}"
        compile_pattern(split[1], self._where)
        return folder, split[1]

    def _kind(self, uri: str, expected: Kind) -> Kind:
        if is_local(uri):
            return _local_kind(path_of(uri), self._where)
        looks: tuple[Callable[[str], Kind | None], ...] = (self._file, self._folder)
        if expected == "uri_folder" and not uri.startswith(_WEB):
            looks = (self._folder, self._file)
        for look in looks:
            try:
                kind = look(uri)
            except Invalid as error:
                if error.code != "uri_invalid" or look != self._folder or expected == "uri_folder":
                    raise
                break  # the web has no folders, and a file was asked for
            if kind is not None:
                return kind
        what = "file" if expected == "uri_file" else "folder with files in it"
        raise Invalid(
            f"there is no {what} at {_shown(uri)}; check the path and its upper and lower case",
            code="input_not_found",
            where=self._where,
        )

    def _file(self, uri: str) -> Kind | None:
        return "uri_file" if self._find(uri) else None

    def _find(self, uri: str) -> bool:
        def find(at: Location) -> bool:
            return bool(at.path) and at.store.find(at.path) is not None

        return not uri.endswith("/") and self._asked(uri, find)

    def _folder(self, uri: str) -> Kind | None:
        def holds_something(at: Location) -> bool:
            pages = at.store.list(f"{at.path}/" if at.path else "", ordered=False)
            page = next((page for page in pages if page), None)  # of markers nothing is left
            if page:
                at.store.find(page[0].path)  # who may list may not always read
            return bool(page)

        return "uri_folder" if self._asked(uri, holds_something) else None

    def _asked(self, uri: str, question: Callable[[Location], bool]) -> bool:
        """Ask a store; its errors name the URL and the datastore that opened it."""
        # Only jobs that read from object stores pay for their client.
        from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

        try:
            return question(
                ObjectLocations(self._access, timeout_seconds=limits.INPUT_LOOK_SECONDS_MAX).at(
                    uri, where=self._where
                )
            )
        except (Invalid, Unavailable) as error:
            if error.code == "input_unreadable":
                return False
            if error.where is not None:
                raise
            raise type(error)(
                f"{error.message}{self._opened_by(uri, error)}", code=error.code, where=self._where
            ) from error

    def _opened_by(self, uri: str, error: BatchpointError) -> str:
        found = data_reference(uri)
        for each in self._access.datastores:
            named = isinstance(found, DatastorePath) and found.datastore == each.datastore.name
            if named or lies_inside(uri, each.datastore):
                return f" (opened by datastore {each.datastore.name})"
        if error.code == "storage_denied":
            return "; it lies in no datastore: register one with credentials for it"
        return ""


def _type_of(source: JobInput, kind: Kind) -> DataType:
    """Return the type of a checked input; a pattern makes a folder of what was called a file."""
    return kind if source.type in _PLAIN else source.type


def _expected(source: JobInput) -> Kind:
    return "uri_file" if source.type == "uri_file" else "uri_folder"


def _local_kind(path: Path, where: str) -> Kind:
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        present = is_folder or is_file or path.exists()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error), where) from error
    if not present:
        raise Invalid(
            f"there is no file or folder {path}; give a path that the server can see",
            code="input_not_found",
            where=where,
        )
    if not is_folder and not is_file:
        raise _unreadable(path, "it is neither a file nor a folder", where)
    wanted = os.R_OK | os.X_OK if is_folder else os.R_OK
    if not os.access(path, wanted):
        raise _unreadable(path, "this user has no permission", where)
    return "uri_folder" if is_folder else "uri_file"


def _unreadable(path: Path, why: str, where: str) -> Invalid:
    return Invalid(f"{path} cannot be read: {why}", code="input_unreadable", where=where)


def _shown(uri: str) -> str:
    """Name a source for people; a query may hold a signature."""
    if is_local(uri):
        return str(path_of(uri))
    return uri.partition("?")[0] if uri.startswith(_WEB) else uri
