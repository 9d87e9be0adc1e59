from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from batchpoint.domain.datastore import Credentials, Datastore
from batchpoint.storage import ambient_credentials
from batchpoint.storage.object_store_opening import Patience, azure_endpoint, open_client

ACCESS_KEY = Credentials(access_key_id="id", secret_access_key=SecretStr("hush"))


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without credentials of any kind, on a machine in no cloud."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for names in ambient_credentials._VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ambient_credentials, "_metadata_server_answers", lambda: False)


def config_of(
    datastore: Datastore, credentials: Credentials | None = None, *, ambient: bool = False
) -> dict[str, Any]:
    client: Any = open_client(datastore, credentials, ambient=ambient).client
    return dict(client.config)


def s3(**fields: Any) -> Datastore:
    given: dict[str, Any] = {"bucket": "b", **fields}
    return Datastore(name="d", type="s3", **given)


def azure(**fields: Any) -> Datastore:
    return Datastore(
        name="d", type="azure_blob", account_name="acme", container_name="in", **fields
    )


@pytest.mark.parametrize(
    ("datastore", "endpoint", "virtual_hosted"),
    [
        (s3(), "https://b.s3.us-east-1.amazonaws.com", True),
        (s3(region="eu-west-1"), "https://b.s3.eu-west-1.amazonaws.com", True),
        (s3(region="cn-north-1"), "https://b.s3.cn-north-1.amazonaws.com.cn", True),
        (s3(bucket="a.b"), "https://s3.us-east-1.amazonaws.com", False),
        (s3(endpoint="http://host:9000/"), "http://host:9000", False),
        (s3(endpoint="host:9000"), "https://host:9000", False),
        (s3(endpoint="host:9000", protocol="http"), "http://host:9000", False),
        (s3(endpoint="https://b.host"), "https://b.host", True),
    ],
)
def test_which_s3_server_is_asked(datastore: Datastore, endpoint: str, virtual_hosted: bool):
    config = config_of(datastore, ACCESS_KEY)
    assert config["endpoint"] == endpoint
    assert {url for key, url in config.items() if "endpoint" in key} == {endpoint}
    assert str(config["virtual_hosted_style_request"]).lower() == str(virtual_hosted).lower()
    client: Any = open_client(datastore, ACCESS_KEY, ambient=False).client
    options = client.client_options
    assert str(options.get("allow_http")).lower() == str(endpoint.startswith("http://")).lower()


@pytest.mark.parametrize(
    ("datastore", "endpoint"),
    [
        (azure(), "https://acme.blob.core.windows.net"),
        (azure(protocol="http"), "http://acme.blob.core.windows.net"),
        (azure(endpoint="core.chinacloudapi.cn"), "https://acme.blob.core.chinacloudapi.cn"),
        (azure(endpoint="http://127.0.0.1:10000/acme"), "http://127.0.0.1:10000/acme"),
        (azure(endpoint="http://127.0.0.1:10000"), "http://127.0.0.1:10000/acme"),
        (azure(endpoint="https://acme.blob.example.com"), "https://acme.blob.example.com"),
    ],
)
def test_which_azure_server_is_asked(datastore: Datastore, endpoint: str):
    assert azure_endpoint(datastore) == endpoint
    assert config_of(datastore)["endpoint"] == endpoint


def test_a_service_principal_asks_its_own_authority():
    principal = Credentials(
        tenant_id="t",
        client_id="c",
        client_secret=SecretStr("hush"),
        authority_url="https://login.microsoftonline.us/",
    )
    config = config_of(azure(), principal)
    assert config["credential_type"] == "client_secret"
    assert config["authority_host"] == "https://login.microsoftonline.us"
    default = principal.model_copy(update={"authority_url": None})
    assert config_of(azure(), default)["authority_host"] == "https://login.microsoftonline.com"


def test_without_credentials_nothing_is_signed(monkeypatch: pytest.MonkeyPatch):
    for datastore in (s3(), azure(), Datastore(name="d", type="gcs", bucket="b")):
        for ambient in (False, True):
            assert str(config_of(datastore, ambient=ambient)["skip_signature"]).lower() == "true"


def test_what_this_user_has_is_used_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "theirs")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sig=theirs")
    for datastore in (s3(), azure()):
        assert str(config_of(datastore, ambient=True)["skip_signature"]).lower() == "false"
        assert str(config_of(datastore, ambient=False)["skip_signature"]).lower() == "true"


def test_an_instance_role_is_used_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ambient_credentials, "_metadata_server_answers", lambda: True)
    assert str(config_of(s3(), ambient=True)["skip_signature"]).lower() == "false"
    assert str(config_of(s3(), ambient=False)["skip_signature"]).lower() == "true"


def test_the_profiles_of_aws_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert ambient_credentials.aws_file_credentials() is None
    file = tmp_path / ".aws" / "credentials"
    file.parent.mkdir()
    file.write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = d%d\n\n"
        "[work]\naws_access_key_id=W\naws_secret_access_key=w\naws_session_token=t\n\n[half]\n"
        "aws_access_key_id=H\n"
    )
    found = ambient_credentials.aws_file_credentials()
    assert found is not None
    assert found.revealed() == {"access_key_id": "D", "secret_access_key": "d%d"}
    monkeypatch.setenv("AWS_PROFILE", "work")
    found = ambient_credentials.aws_file_credentials()
    assert found is not None
    assert found.revealed()["session_token"] == "t"
    for profile in ("half", "nobody"):
        monkeypatch.setenv("AWS_PROFILE", profile)
        assert ambient_credentials.aws_file_credentials() is None
    file.write_bytes(b"\xff\xfe nonsense")
    assert ambient_credentials.aws_file_credentials() is None


def test_a_login_of_the_azure_cli_needs_the_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    profile = tmp_path / ".azure" / "azureProfile.json"
    profile.parent.mkdir()
    profile.write_text('\ufeff{"subscriptions": [{"id": "s"}]}', encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not ambient_credentials.azure_cli_is_logged_in()
    (tmp_path / "az").write_text("#!/bin/sh\n")
    (tmp_path / "az").chmod(0o755)
    assert ambient_credentials.azure_cli_is_logged_in()
    assert config_of(azure(), ambient=True)["credential_type"] == "azure_cli"
    assert "credential_type" not in config_of(azure(), ambient=False)
    profile.write_text("[]")
    assert not ambient_credentials.azure_cli_is_logged_in()


def test_a_client_shows_none_of_its_secrets():
    for datastore, credentials in (
        (s3(), ACCESS_KEY),
        (azure(), Credentials(account_key=SecretStr("aHVzaA=="))),
        (azure(), Credentials(sas_token=SecretStr("?sv=1&sig=hush"))),
        (
            Datastore(name="d", type="http", endpoint="https://h/x"),
            Credentials(token=SecretStr("hush")),
        ),
    ):
        client = open_client(datastore, credentials, ambient=False).client
        assert "hush" not in repr(client)
        assert "aHVz" not in repr(client)


def test_the_last_request_of_a_call_ends_within_its_time():
    patience = Patience.within(120)
    assert patience.request_seconds + patience.retry_seconds <= 120
