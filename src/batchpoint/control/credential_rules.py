"""Which credentials open which type of datastore, and what belongs together."""

from __future__ import annotations

from urllib.parse import urlsplit

from batchpoint.domain.datastore import Credentials, Datastore
from batchpoint.domain.errors import Invalid

# Fields that make up each kind; those in the second tuple may be left out.
_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "account_key": (("account_key",), ()),
    "sas": (("sas_token",), ()),
    "service_principal": (("tenant_id", "client_id", "client_secret"), ("authority_url",)),
    "access_key": (("access_key_id", "secret_access_key"), ("session_token",)),
    "service_account_key": (("service_account_key",), ()),
    "token": (("token",), ()),
    "none": ((), ()),
}
_AZURE = ("account_key", "sas", "service_principal", "none")
_OF_TYPE: dict[str, tuple[str, ...]] = {
    "azure_blob": _AZURE,
    "azure_data_lake_gen2": _AZURE,
    "s3": ("access_key", "none"),
    "gcs": ("service_account_key", "none"),
    "http": ("token", "none"),
    "local": ("none",),
}


def check_credentials(datastore: Datastore, credentials: Credentials) -> None:
    """Check that credentials are of one kind, complete, and of a kind that the type takes.

    Raises: Invalid (`field_invalid`) naming the field.
    """
    given = [f for f in type(credentials).model_fields if getattr(credentials, f) is not None]
    for field in given:
        if not str(credentials.revealed()[field]).strip():
            raise Invalid("is empty; leave it out", code="field_invalid", where=_place(field))
    kind = credentials.type if credentials.type != "none" or not given else _begun(given[0])
    needed, more = _KINDS[kind]
    for field in needed:
        if field not in given:
            raise Invalid(
                f"is missing: these credentials need {', '.join(needed)}",
                code="field_invalid",
                where=_place(field),
            )
    for field in given:
        if field not in (*needed, *more):
            raise Invalid(
                f"does not go together with {needed[-1]}; give one kind of credentials",
                code="field_invalid",
                where=_place(field),
            )
    allowed = _OF_TYPE[datastore.type]
    if kind not in allowed:
        told = [" + ".join(_KINDS[other][0]) or "none" for other in allowed]
        raise Invalid(
            f"do not open a datastore of type {datastore.type}, which takes {' or '.join(told)}",
            code="field_invalid",
            where="credentials",
        )


def check_endpoint(datastore: Datastore) -> None:
    """Check that the endpoint of a datastore is a URL, or for Azure a domain, without secrets.

    Raises: Invalid (`field_invalid`), without repeating it.
    """
    endpoint = datastore.endpoint
    if endpoint is None:
        return
    is_domain = "://" not in endpoint and datastore.type.startswith("azure")
    flaw = None
    try:
        parts = urlsplit(f"https://{endpoint}" if is_domain else endpoint)
        if parts.username is not None or parts.password is not None:
            flaw = "holds a user name or password, which would be shown; give credentials instead"
        elif parts.query or parts.fragment:
            flaw = "holds a query, which would be shown; give a signature as credentials instead"
        elif (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.port == 0
            or not endpoint.isprintable()
            or " " in endpoint
            or (is_domain and parts.path.strip("/"))
        ):
            flaw = "is not a URL such as https://storage.example.com"
    except ValueError:
        flaw = "is not a URL such as https://storage.example.com"
    if flaw is not None:
        raise Invalid(flaw, code="field_invalid", where="endpoint")


def _begun(field: str) -> str:
    """Return the kind that a field belongs to, when what tells the kind is missing."""
    return next(kind for kind, parts in _KINDS.items() if field in (*parts[0], *parts[1]))


def _place(field: str) -> str:
    return f"credentials.{field}"
