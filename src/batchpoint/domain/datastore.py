"""Datastores: named places where data lies, and the credentials that open them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, cast

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import Flag, Moment, Noun, TextMap, snake

DatastoreType = Literal["azure_blob", "azure_data_lake_gen2", "s3", "gcs", "http", "local"]

# The folder or container that each type needs, by the name Azure (or the store itself) gives it.
CONTAINER_FIELDS: dict[str, str] = {
    "azure_blob": "container_name",
    "azure_data_lake_gen2": "filesystem",
    "s3": "bucket",
    "gcs": "bucket",
    "http": "endpoint",
    "local": "path",
}


# Kinds of datastores and credentials that Azure knows, each with what to use instead.
TYPES_REFUSED: dict[str, str] = {
    "azure_file": "a file share is mounted on the server: register the folder as type local, or "
    "copy the data to a blob container and use azure_blob",
    "azure_data_lake_gen1": "Azure has switched Data Lake Gen1 off: use azure_data_lake_gen2",
    "one_lake": "OneLake cannot be reached: add a shortcut to the data as azure_data_lake_gen2",
}
TYPES_REFUSED["gen1"] = TYPES_REFUSED["azure_data_lake_gen1"]


def datastore_type(value: object) -> object:
    """Read a type in any spelling; refuse by name those of Azure that have no meaning here."""
    found = snake(value)
    if isinstance(found, str) and found in TYPES_REFUSED:
        raise Invalid(
            f"type {found} is not supported: {TYPES_REFUSED[found]}", code="field_unsupported"
        )
    return found


class Credentials(Noun):
    """What opens a datastore; the secret parts are sealed in the ledger and shown nowhere.

    One of: `account_key`, `sas_token`, a service principal (`tenant_id`, `client_id`,
    `client_secret`, for another cloud `authority_url`), an access key (`access_key_id`,
    `secret_access_key`, for a temporary one `session_token`), `service_account_key` (the JSON text
    of a GCS key), a bearer `token` for HTTP, or nothing for public data.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    account_key: SecretStr | None = None
    sas_token: SecretStr | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    authority_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    service_account_key: SecretStr | None = None
    token: SecretStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _holds_no_certificate(cls, given: object) -> object:
        for field in ("certificate", "thumbprint"):
            if isinstance(given, dict) and field in given:
                raise Invalid(
                    f"{field} is not supported: give client_secret, sas_token or account_key",
                    code="field_unsupported",
                )
        return cast("object", given)

    @property
    def type(self) -> str:
        """Name what kind of credentials these are, as Azure does; "none" for none."""
        for field, kind in _CREDENTIAL_TYPES.items():
            if getattr(self, field) is not None:
                return kind
        return "none"

    def revealed(self) -> dict[str, str]:
        """Return what is set with the secrets in clear: only to seal it or to open a store."""
        told: dict[str, str] = {}
        for field in type(self).model_fields:
            value: str | SecretStr | None = getattr(self, field)
            if value is not None:
                told[field] = value.get_secret_value() if isinstance(value, SecretStr) else value
        return told


# The field that tells each kind of credentials.
_CREDENTIAL_TYPES = {
    "account_key": "account_key",
    "sas_token": "sas",
    "client_secret": "service_principal",
    "secret_access_key": "access_key",
    "service_account_key": "service_account_key",
    "token": "token",
}


class DatastoreFindings(Noun):
    """What the self-test at registration found out about a store.

    `put_if_absent`: whether a conditional write is honoured; a store that ignores it cannot tell
    two writers apart, and results are then guarded by the ledger alone.
    """

    tested_at: Moment | None = None
    readable: Flag | None = None
    writable: Flag | None = None
    put_if_absent: Flag | None = None
    notes: tuple[str, ...] = ()


class Datastore(Noun):
    """A place where data lies; `azureml://datastores/NAME/paths/PATH` points into it.

    `credentials` are taken and never given back: answers hold `credentials_type` instead.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    name: str
    type: Annotated[DatastoreType, BeforeValidator(datastore_type)]
    account_name: str | None = None
    container_name: str | None = None
    filesystem: str | None = None
    bucket: str | None = None
    region: str | None = None
    path: str | None = None
    # Azure: the domain after the account (`core.windows.net`) or a whole URL (an emulator);
    # S3, GCS: the URL of a compatible server; HTTP: the URL below which everything lies.
    endpoint: str | None = None
    protocol: Literal["https", "http"] = "https"
    credentials: Credentials | None = Field(default=None, exclude=True)
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    # Set by the server.
    credentials_type: str | None = None
    is_default: Flag = False
    findings: DatastoreFindings | None = None
    created_at: Moment | None = None

    @model_validator(mode="after")
    def _names_its_container(self) -> Self:
        field = CONTAINER_FIELDS[self.type]
        if not getattr(self, field):
            raise Invalid(f"a datastore of type {self.type} needs {field}", code="field_invalid")
        if self.type.startswith("azure") and not self.account_name:
            raise Invalid(
                f"a datastore of type {self.type} needs account_name", code="field_invalid"
            )
        return self


class DatastoreAccess(Noun):
    """A datastore with its credentials in clear: kept in memory, never stored, logged or shown."""

    model_config = ConfigDict(hide_input_in_errors=True)

    datastore: Datastore
    credentials: Credentials | None = None


class StorageAccess(Noun):
    """Everything one job (or one request) needs to reach its data.

    `ambient`: URLs that lie in no datastore may be opened with the credentials this machine's user
    has (environment variables, instance roles); otherwise they are read without any.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    datastores: tuple[DatastoreAccess, ...] = ()
    ambient: bool = False
