"""From URIs to stores: where a URI points, with whose credentials, through one cached client."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from pydantic import SecretStr

from batchpoint.domain import limits
from batchpoint.domain.datastore import (
    Credentials,
    Datastore,
    DatastoreAccess,
    StorageAccess,
)
from batchpoint.domain.datastore_urls import AZURE_DOMAIN, lies_inside, urls_of
from batchpoint.domain.errors import Invalid, NotFound
from batchpoint.domain.references import DatastorePath, data_reference
from batchpoint.storage.local_store import LocalStore
from batchpoint.storage.locate import path_of
from batchpoint.storage.object_store import ObjectStore, is_key
from batchpoint.storage.object_store_opening import azure_endpoint, open_client
from batchpoint.storage.store import Location, Store
from batchpoint.storage.web_store import WebStore, leads_to_identity

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AZURE_HOST = re.compile(
    r"(?P<account>[a-z0-9-]+)\.(?P<zone>z\d+\.)?(?P<service>blob|dfs)\."
    r"(?P<domain>core\.[a-z.]+|storage\.azure\.net)"
)
_READABLE = (
    "azureml://datastores/NAME/paths/PATH, s3://BUCKET/KEY, gs://BUCKET/KEY, "
    "abfss://FILESYSTEM@ACCOUNT.dfs.core.windows.net/PATH, "
    "wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/PATH, https://HOST/PATH, file:///PATH and "
    "absolute paths"
)
_RAW_KEYS = ("azureml", "s3", "gs", "abfss", "abfs", "wasbs", "wasb")
# Signed URLs of one server may each need a client of its own.
_STORES_MAX = 64


def is_remote(uri: str) -> bool:
    """Tell whether a URI points anywhere but at this machine's own files."""
    found = _SCHEME.match(uri)
    return (found is not None and found[1].lower() != "file") or uri.startswith("azureml:")


def uri_of(base_uri: str, path: str) -> str:
    """Return the canonical URI of what lies at the raw key `path` below a folder's URI."""
    if not path:
        return base_uri
    found = _SCHEME.match(base_uri)
    if found is None or found[1].lower() in _RAW_KEYS:
        return f"{base_uri.rstrip('/')}/{path}"
    base, mark, query = base_uri.partition("?")
    return f"{base.rstrip('/')}/{quote(path, safe=_SAFE)}{mark}{query}"


# What may stand in a URL's path as it is.
_SAFE = "/!$&'()*+,;=:@-._~"


class _Place(NamedTuple):
    """Where a URI points that lies in no registered datastore; `name` tells containers apart."""

    name: str
    datastore: Datastore
    credentials: Credentials | None
    path: str


class ObjectLocations:
    """Opens what URIs point at; safe to share by threads. Secrets stay inside."""

    def __init__(
        self, access: StorageAccess, *, timeout_seconds: float = limits.STORAGE_TIMEOUT_SECONDS
    ) -> None:
        """Use the datastores, and otherwise the rules, of one job or request.

        `timeout_seconds`: how long one call may take when a server does not answer.
        """
        self._timeout = timeout_seconds
        self._access = access
        self._named = {each.datastore.name: each for each in access.datastores}
        self._stores: OrderedDict[str, Store] = OrderedDict()
        self._lock = threading.Lock()

    def at(self, uri: str, *, where: str | None = None) -> Location:
        """Return the store in which a URI lies, and the path there.

        A URL inside a datastore is opened with that datastore's credentials, the innermost one's
        where several fit. Nothing is asked of the store yet.

        Args:
            uri: canonical, or a `azureml://` path in its long form.
            where: the file or field that holds it, for messages.

        Raises:
            Invalid: it is no URI that can be read (`uri_invalid`, `reference_invalid`), or its
                datastore cannot be opened as it is described (`field_invalid`).
            NotFound: there is no such datastore (`datastore_not_found`).
        """
        if not is_remote(uri):
            return Location(self._local(Path("/")), str(path_of(uri, where=where)).strip("/"))
        if uri.startswith("azureml:"):
            return self._in_named(uri, where)
        if "://" not in uri:
            raise _unknown(uri, where)
        inside = self._in_registered(uri)
        if inside is not None:
            access, path = inside
            return Location(self._registered(access), _checked(path, uri, where))
        place = self._elsewhere(uri, where)
        path = _checked(place.path, uri, where)
        return Location(self._cached(place), path)

    # --- registered datastores --------------------------------------------------------------

    def _in_named(self, uri: str, where: str | None) -> Location:
        found = data_reference(uri)
        if not isinstance(found, DatastorePath):
            raise _unknown(uri, where)
        access = self._named.get(found.datastore)
        if access is None:
            raise NotFound(
                f"there is no datastore named {found.datastore!r}; `batchpoint datastore list` "
                "shows those there are",
                code="datastore_not_found",
                where=where,
            )
        return Location(self._registered(access), _checked(found.path, uri, where))

    def _in_registered(self, uri: str) -> tuple[DatastoreAccess, str] | None:
        """Return the innermost datastore in which a URL lies, and the key there."""
        best: tuple[DatastoreAccess, str] | None = None
        longest = -1
        for access in self._access.datastores:
            if access.datastore.type == "local" or not lies_inside(uri, access.datastore):
                continue
            for url in urls_of(access.datastore):
                path = _path_below(uri, url)
                if path is not None and len(urlsplit(url).path) > longest:
                    longest = len(urlsplit(url).path)
                    best = (access, path)
        return best

    def _registered(self, access: DatastoreAccess) -> Store:
        datastore = access.datastore
        if datastore.type == "local":
            return self._local(path_of(datastore.path or "", where=datastore.name))
        place = _Place(f"datastore {datastore.name}", datastore, access.credentials, "")
        return self._cached(place, ambient=False)

    # --- anything else ----------------------------------------------------------------------

    def _elsewhere(self, uri: str, where: str | None) -> _Place:
        scheme, authority, rest = _split(uri)
        if scheme in ("s3", "gs"):
            if not authority:
                raise _unknown(uri, where)
            kind = "s3" if scheme == "s3" else "gcs"
            return _Place(
                f"{scheme}://{authority}",
                Datastore.model_validate({"name": authority, "type": kind, "bucket": authority}),
                None,
                rest,
            )
        if scheme in ("abfss", "abfs", "wasbs", "wasb"):
            container, _, host = authority.partition("@")
            found = _AZURE_HOST.fullmatch(host.lower())
            if found is None or not container:
                raise _unknown(uri, where)
            return _azure_place(found, container, rest, protocol="https", query="")
        if scheme in ("http", "https"):
            return self._web_place(uri, scheme, authority, rest, where)
        raise _unknown(uri, where)

    def _web_place(
        self, uri: str, scheme: str, authority: str, rest: str, where: str | None
    ) -> _Place:
        raw, _, query = rest.partition("?")
        query = query.partition("#")[0]
        path = unquote(raw.partition("#")[0])
        found = _AZURE_HOST.fullmatch(authority.lower())
        container, _, key = path.partition("/")
        if found is not None and container:
            return _azure_place(found, container, key, protocol=scheme, query=query)
        if "@" in authority:
            raise Invalid(
                f"{_without_query(uri)!r} comes with a user name or password, which would be "
                "shown; register a datastore of type http with a token instead",
                code="uri_invalid",
                where=where,
            )
        if leads_to_identity(authority):
            raise Invalid(
                f"{_without_query(uri)!r} points at a link-local address, where clouds keep the "
                "identity of a machine; nothing is read from there",
                code="uri_invalid",
                where=where,
            )
        endpoint = f"{scheme}://{authority}"
        store = Datastore(name="web", type="http", endpoint=endpoint + (f"?{query}" * bool(query)))
        return _Place(f"{endpoint} {query}", store, None, path)

    # --- stores -----------------------------------------------------------------------------

    def _local(self, root: Path) -> Store:
        return LocalStore(root)

    def _cached(self, place: _Place, *, ambient: bool | None = None) -> Store:
        with self._lock:
            store = self._stores.get(place.name)
            if store is None:
                store = _opened(
                    place.datastore,
                    place.credentials,
                    ambient=self._access.ambient if ambient is None else ambient,
                    timeout_seconds=self._timeout,
                )
                self._stores[place.name] = store
                if len(self._stores) > _STORES_MAX:
                    self._stores.popitem(last=False)
            self._stores.move_to_end(place.name)
            return store


def open_store(
    access: DatastoreAccess, *, timeout_seconds: float = limits.STORAGE_TIMEOUT_SECONDS
) -> Store:
    """Open the whole of a registered datastore; a call gives up after `timeout_seconds`.

    Raises: Invalid, as `ObjectLocations.at`.
    """
    datastore = access.datastore
    if datastore.type == "local":
        return LocalStore(path_of(datastore.path or "", where=datastore.name))
    return _opened(datastore, access.credentials, ambient=False, timeout_seconds=timeout_seconds)


def _opened(
    datastore: Datastore,
    credentials: Credentials | None,
    *,
    ambient: bool,
    timeout_seconds: float = limits.STORAGE_TIMEOUT_SECONDS,
) -> Store:
    opened = open_client(datastore, credentials, ambient=ambient, timeout_seconds=timeout_seconds)
    if datastore.type == "http":
        token = (credentials or Credentials()).token
        return WebStore(
            opened.client,
            datastore.endpoint or "",
            token=token.get_secret_value() if token else None,
            timeout_seconds=timeout_seconds,
        )
    findings = datastore.findings
    return ObjectStore(
        opened.client,
        _shown_url(datastore),
        sorted_listing=opened.sorted_listing,
        refused=opened.refused,
        delete=opened.delete,
        conditional=findings is None or findings.put_if_absent is not False,
        timeout_seconds=timeout_seconds,
    )


def _shown_url(datastore: Datastore) -> str:
    """Name a container for people; a query may hold a signature and is left out."""
    match datastore.type:
        case "azure_blob" | "azure_data_lake_gen2":
            container = datastore.container_name or datastore.filesystem
            return f"{azure_endpoint(datastore)}/{container}"
        case "s3" | "gcs":
            return f"{'s3' if datastore.type == 's3' else 'gs'}://{datastore.bucket}"
        case _:
            return (datastore.endpoint or "").partition("?")[0]


def _azure_place(
    host: re.Match[str], container: str, key: str, *, protocol: str, query: str
) -> _Place:
    account, domain = host["account"], (host["zone"] or "") + host["domain"]
    given = {"type": "azure_blob", "account_name": account, "container_name": container}
    if host["service"] == "dfs":
        # Whoever names this service has an account with a hierarchical namespace.
        given = {"type": "azure_data_lake_gen2", "account_name": account, "filesystem": container}
    if domain != AZURE_DOMAIN:
        given["endpoint"] = domain
    datastore = Datastore.model_validate({"name": account, "protocol": protocol, **given})
    # A URL that holds its own signature needs nothing else.
    signed = "sig=" in query
    credentials = Credentials(sas_token=SecretStr(query)) if signed else None
    service = host["service"]
    name = f"{protocol}://{account}.{service}.{domain}/{container} {query if signed else ''}"
    return _Place(name, datastore, credentials, key)


def _split(uri: str) -> tuple[str, str, str]:
    """Cut a URI into scheme, authority and the rest as it is, without the `/` between."""
    scheme, _, after = uri.partition("://")
    authority, _, rest = after.partition("/")
    return scheme.lower(), authority, rest


def _path_below(uri: str, url: str) -> str | None:
    """Return the raw key of a URI below the URL of a datastore; None when it is not that URL's."""
    scheme, authority, rest = _split(uri)
    of_url, authority_of_url, path_of_url = _split(url)
    if scheme != of_url:
        return None
    if scheme in _RAW_KEYS:
        same = authority == authority_of_url or (
            "@" in authority and authority.lower() == authority_of_url.lower()
        )
        return rest if same else None
    path = rest.partition("?")[0].partition("#")[0]
    if not f"{path.rstrip('/')}/".startswith(path_of_url):
        return None
    if urlsplit(uri).hostname != urlsplit(url).hostname:
        return None
    return unquote(path[len(path_of_url) :])


def _checked(path: str, uri: str, where: str | None) -> str:
    path = path.strip("/")
    if path and not is_key(path):
        raise Invalid(
            f"{_without_query(uri)!r} cannot be read: its path has an empty step, '.', '..' or a "
            "control character",
            code="uri_invalid",
            where=where,
        )
    return path


def _unknown(uri: str, where: str | None) -> Invalid:
    return Invalid(
        f"{_without_query(uri)!r} is no place that can be read; expected one of {_READABLE}",
        code="uri_invalid",
        where=where,
    )


def _without_query(uri: str) -> str:
    """Leave out what may hold a signature or a password."""
    if uri.lower().startswith(("http:", "https:")):
        uri = uri.partition("?")[0]
        return re.sub(r"(?<=://)[^/@]*@", "", uri)
    return re.sub(r"(?<=://)[^/@]*:[^/@]*@", "", uri)
