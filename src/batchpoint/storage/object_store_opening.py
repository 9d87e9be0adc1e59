"""Opening clients of object stores with what a datastore says, and with nothing else.

obstore's constructors read environment variables for everything that they are not told. A
registered datastore must not mix its credentials with those of whoever runs batchpoint, so all
that decides where requests go and who asks is given explicitly.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

from batchpoint.domain import limits
from batchpoint.domain.datastore import Credentials, Datastore
from batchpoint.domain.datastore_urls import AZURE_DOMAIN
from batchpoint.domain.errors import Invalid
from batchpoint.storage import ambient_credentials

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        AzureCredentialProvider,
        AzureStore,
        ClientConfig,
        GCSConfig,
        GCSStore,
        HTTPStore,
        MemoryStore,
        RetryConfig,
        S3Config,
        S3CredentialProvider,
        S3Store,
    )

    Client = AzureStore | GCSStore | HTTPStore | MemoryStore | S3Store

_REGION = "us-east-1"
_AUTHORITY = "https://login.microsoftonline.com"
_AZURE_VERSION = "2021-12-02"
_GCS_SERVER = "https://storage.googleapis.com"


class Opened(NamedTuple):
    """A client, and what is to be known about its server.

    `sorted_listing`: whether it is known to list in order of the keys; None: it is known to have
    an order of its own. `refused`: characters of keys that it would replace by others. `delete`:
    deletes the object of a key, raising as obstore does, where obstore's own way does not work.
    """

    client: Client
    sorted_listing: bool | None
    refused: str = ""
    delete: Callable[[str], None] | None = None


class Patience(NamedTuple):
    """How long a client waits: `request_seconds` for one answer, `retry_seconds` altogether."""

    request_seconds: float
    retry_seconds: float

    @classmethod
    def within(cls, timeout_seconds: float) -> Patience:
        """Divide a time so that the last request of a retried call still ends within it."""
        return cls(timeout_seconds / 3, timeout_seconds * 2 / 3)


def open_client(
    datastore: Datastore,
    credentials: Credentials | None,
    *,
    ambient: bool,
    timeout_seconds: float = limits.STORAGE_TIMEOUT_SECONDS,
) -> Opened:
    """Open the container of a datastore; nothing is asked of the server yet.

    Args:
        datastore: where it is; any type but `local`.
        credentials: what opens it, None or empty for nothing.
        ambient: whether, without credentials, those of this machine's user are looked for.
        timeout_seconds: how long one call may take when the server does not answer.

    Raises:
        Invalid: the datastore cannot be opened as it is described (`field_invalid`).
    """
    given = credentials or Credentials()
    patience = Patience.within(timeout_seconds)
    openers = {
        "s3": _open_s3,
        "azure_blob": _open_azure,
        "azure_data_lake_gen2": _open_azure,
        "gcs": _open_gcs,
        "http": _open_http,
    }
    from obstore.exceptions import BaseError  # noqa: PLC0415  # costs an import of 20 ms

    try:
        return openers[datastore.type](datastore, given, ambient=ambient, patience=patience)
    except (BaseError, ValueError, TypeError) as error:
        if isinstance(error, Invalid):
            raise
        # Its text may hold what was given, so only its kind is told.
        raise Invalid(
            f"datastore {datastore.name!r} cannot be opened as it is described "
            f"({type(error).__name__}); check its fields and the form of its credentials",
            code="field_invalid",
        ) from None


def _open_s3(
    datastore: Datastore, given: Credentials, *, ambient: bool, patience: Patience
) -> Opened:
    from obstore.store import S3Store  # noqa: PLC0415  # costs an import of 20 ms

    bucket = datastore.bucket or ""
    found = given.type == "none" and ambient and ambient_credentials.obstore_finds_some("s3")
    if given.type == "none" and ambient and not found:
        given = ambient_credentials.aws_file_credentials() or given
    config: dict[str, Any] = {
        # One object at a time: not every compatible server has the other call.
        "disable_bulk_delete": True,
        "conditional_put": "etag",
        "skip_signature": given.type == "none" and not found,
    }
    if datastore.endpoint or not found:
        endpoint, virtual_hosted = _s3_endpoint(datastore, bucket)
        config["endpoint"] = config["aws_endpoint_url_s3"] = endpoint
        config["virtual_hosted_style_request"] = virtual_hosted
        config["region"] = datastore.region or _REGION
    elif datastore.region:
        config["region"] = datastore.region
    provider = None
    if given.type == "access_key":
        told = given.revealed()
        provider = _Told(
            access_key_id=told.get("access_key_id", ""),
            secret_access_key=told["secret_access_key"],
            token=told.get("session_token"),
        )
    client = S3Store(
        bucket,
        config=cast("S3Config", config),
        client_options=_client_options(config.get("endpoint"), patience),
        retry_config=_retries(patience),
        credential_provider=cast("S3CredentialProvider | None", provider),
    )
    # Directory buckets list in no order.
    plain = datastore.endpoint is None and not bucket.endswith("--x-s3")
    return Opened(client, sorted_listing=plain)


def _s3_endpoint(datastore: Datastore, bucket: str) -> tuple[str, bool]:
    """Return the URL to ask and whether the bucket is part of its host."""
    if datastore.endpoint:
        endpoint = _with_protocol(datastore.endpoint, datastore)
        host = urlsplit(endpoint).hostname or ""
        return endpoint, host.startswith(f"{bucket.lower()}.")
    region = datastore.region or _REGION
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    server = f"s3.{region}.{domain}"
    if "." in bucket:  # its name in the host would not fit the certificate
        return f"{datastore.protocol}://{server}", False
    return f"{datastore.protocol}://{bucket}.{server}", True


def _open_azure(
    datastore: Datastore, given: Credentials, *, ambient: bool, patience: Patience
) -> Opened:
    from obstore.store import AzureStore  # noqa: PLC0415  # costs an import of 20 ms

    account = datastore.account_name or ""
    endpoint = azure_endpoint(datastore)
    told = given.revealed()
    signature = ""
    config: dict[str, Any] = {
        "account_name": account,
        "endpoint": endpoint,
        "use_emulator": False,
        "use_fabric_endpoint": False,
        "skip_signature": False,
    }
    provider = None
    match given.type:
        case "account_key":
            provider = _Told(access_key=told["account_key"])
        case "sas":
            signature = told["sas_token"].removeprefix("?")
            provider = _Told(sas_token=signature)
        case "service_principal":
            config |= {
                "credential_type": "client_secret",
                "tenant_id": told.get("tenant_id", ""),
                "client_id": told.get("client_id", ""),
                "client_secret": told["client_secret"],
                "authority_host": told.get("authority_url", _AUTHORITY).rstrip("/"),
            }
        case _ if ambient and ambient_credentials.azure_cli_is_logged_in():
            config |= {"credential_type": "azure_cli", "use_azure_cli": True}
        case _:
            found = ambient and ambient_credentials.obstore_finds_some("azure")
            config["skip_signature"] = not found
    container = datastore.container_name or datastore.filesystem or ""
    client = AzureStore(
        container,
        config=cast("AzureConfig", config),
        client_options=_client_options(endpoint, patience),
        retry_config=_retries(patience),
        credential_provider=cast("AzureCredentialProvider | None", provider),
    )
    # With a hierarchical namespace `a/x` comes before `a-1`; what is registered as a mere blob
    # container may have one, too.
    own_order = datastore.type == "azure_data_lake_gen2"
    delete = _SignedDelete(f"{endpoint}/{container}", signature, patience) if signature else None
    return Opened(client, sorted_listing=None if own_order else False, refused="\\", delete=delete)


def azure_endpoint(datastore: Datastore) -> str:
    """Return the URL above the containers of an account; that of an emulator names it as path."""
    account, endpoint = datastore.account_name, (datastore.endpoint or AZURE_DOMAIN).rstrip("/")
    if "://" not in endpoint:
        return f"{datastore.protocol}://{account}.blob.{endpoint}"
    parts = urlsplit(endpoint)
    names_account = (parts.hostname or "").startswith(f"{account}.") or parts.path.strip("/")
    return endpoint if names_account else f"{endpoint}/{account}"


def _open_gcs(
    datastore: Datastore, given: Credentials, *, ambient: bool, patience: Patience
) -> Opened:
    from obstore.store import GCSStore  # noqa: PLC0415  # costs an import of 20 ms

    endpoint = _with_protocol(datastore.endpoint or _GCS_SERVER, datastore)
    config: dict[str, Any] = {"base_url": endpoint, "skip_signature": False}
    if given.type == "service_account_key":
        config["service_account_key"] = given.revealed()["service_account_key"]
    else:
        found = ambient and ambient_credentials.obstore_finds_some("gcs")
        config["skip_signature"] = not found
    client = GCSStore(
        datastore.bucket or "",
        config=cast("GCSConfig", config),
        client_options=_client_options(endpoint, patience),
        retry_config=_retries(patience),
    )
    return Opened(client, sorted_listing=datastore.endpoint is None)


def _open_http(
    datastore: Datastore, given: Credentials, *, ambient: bool, patience: Patience
) -> Opened:
    del ambient  # there is nothing of this kind for a web server
    from obstore.store import HTTPStore  # noqa: PLC0415  # costs an import of 20 ms

    endpoint = _with_protocol(datastore.endpoint or "", datastore)
    options = _client_options(endpoint, patience)
    if given.type == "token":
        options["default_headers"] = {"Authorization": f"Bearer {given.revealed()['token']}"}
    client = HTTPStore(endpoint, client_options=options, retry_config=_retries(patience))
    return Opened(client, sorted_listing=False)


class _Told:
    """A credential provider that gives what it was told, for ever; shows nothing of it."""

    def __init__(self, **told: str | None) -> None:
        """Keep the parts of a credential as obstore names them."""
        self._told = {**told, "expires_at": None}

    def __call__(self) -> dict[str, str | None]:
        """Return the credential."""
        return self._told


class _SignedDelete:
    """Deletes blobs one by one with a shared access signature.

    obstore deletes in batches, even a single blob, and a signature need not allow a batch.
    """

    def __init__(self, container_url: str, signature: str, patience: Patience) -> None:
        self._url = container_url
        self._signature = signature
        self._seconds = patience.request_seconds

    def __call__(self, path: str) -> None:
        """Delete a blob; raises as obstore does."""
        import httpx  # noqa: PLC0415  # slow to import, and few jobs delete
        from obstore.exceptions import GenericError  # noqa: PLC0415  # costs an import of 20 ms

        url = f"{self._url}/{quote(path)}?{self._signature}"
        try:
            status = httpx.delete(
                url, headers={"x-ms-version": _AZURE_VERSION}, timeout=self._seconds
            ).status_code
        except httpx.TimeoutException:
            raise GenericError("timed out") from None
        except httpx.HTTPError:
            raise GenericError("the connection failed") from None
        if status >= 300:
            raise GenericError(f"status code: {status}")


def _with_protocol(endpoint: str, datastore: Datastore) -> str:
    told = endpoint if "://" in endpoint else f"{datastore.protocol}://{endpoint}"
    return told.rstrip("/")


def _client_options(endpoint: str | None, patience: Patience) -> ClientConfig:
    return {
        # Plain HTTP only where somebody has written it.
        "allow_http": bool(endpoint) and str(endpoint).startswith("http://"),
        # A big object takes as long as it takes; what is bounded is the time without an answer.
        "timeout": timedelta(days=7),
        "read_timeout": timedelta(seconds=patience.request_seconds),
        "connect_timeout": timedelta(seconds=min(10.0, patience.request_seconds)),
        "user_agent": "batchpoint",
    }


def _retries(patience: Patience) -> RetryConfig:
    return {
        "max_retries": limits.STORAGE_RETRIES_MAX,
        "retry_timeout": timedelta(seconds=patience.retry_seconds),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=limits.STORAGE_BACKOFF_SECONDS_MAX),
            "base": 2,
        },
    }
