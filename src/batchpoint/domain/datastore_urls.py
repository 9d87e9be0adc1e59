"""Which URLs lie inside a datastore, so that its credentials open them."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from batchpoint.domain.datastore import Datastore

AZURE_DOMAIN = "core.windows.net"


def urls_of(datastore: Datastore) -> tuple[str, ...]:
    """Return every URL, with a final `/`, that is another spelling of the datastore's top."""
    match datastore.type:
        case "azure_blob" | "azure_data_lake_gen2":
            found = _azure(datastore)
        case "s3":
            found = [f"s3://{datastore.bucket}"]
            if datastore.endpoint:
                found.append(f"{datastore.endpoint.rstrip('/')}/{datastore.bucket}")
        case "gcs":
            server = datastore.endpoint or "https://storage.googleapis.com"
            found = [f"gs://{datastore.bucket}", f"{server.rstrip('/')}/{datastore.bucket}"]
        case "http":
            found = [datastore.endpoint or ""]
        case "local":
            path = (datastore.path or "").rstrip("/")
            found = [path, f"file://{quote(path)}"]
    return tuple(f"{_normal(url).rstrip('/')}/" for url in found)


def lies_inside(uri: str, datastore: Datastore) -> bool:
    """Tell whether a URI (or an absolute path) is the top of a datastore or lies below it."""
    asked = f"{_normal(uri.partition('?')[0]).rstrip('/')}/"
    return any(asked.startswith(url) for url in urls_of(datastore))


def without_query(uri: str) -> str:
    """Return a URI for people: the query of a URL may hold a signature and is left out."""
    return uri.partition("?")[0] if uri[:6].lower() in ("http:/", "https:") else uri


def _azure(datastore: Datastore) -> list[str]:
    account = datastore.account_name
    container = datastore.container_name or datastore.filesystem
    endpoint = (datastore.endpoint or AZURE_DOMAIN).rstrip("/")
    if "://" in endpoint:  # an emulator: its URL may name the account already
        told = endpoint if endpoint.endswith(f"/{account}") else f"{endpoint}/{account}"
        return [f"{told}/{container}"]
    found: list[str] = []
    for service in ("blob", "dfs"):
        host = f"{account}.{service}.{endpoint}"
        found += [f"{datastore.protocol}://{host}/{container}"]
        found += [f"{scheme}://{container}@{host}" for scheme in ("abfs", "abfss", "wasb", "wasbs")]
    return found


def _normal(url: str) -> str:
    """Write scheme and host in lower case and leave out a port that goes without saying."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    if not parts.netloc:
        return url
    host = (parts.hostname or "").lower()
    if parts.scheme in ("s3", "gs"):  # a bucket is no host: letters count
        return url
    if port is not None and port != {"http": 80, "https": 443}.get(parts.scheme):
        host = f"{host}:{port}"
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit((parts.scheme, user + host, parts.path, "", ""))
