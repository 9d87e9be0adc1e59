"""Which credentials this machine's user has for a cloud: variables, files, instance roles."""

from __future__ import annotations

import configparser
import functools
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from batchpoint.domain.datastore import Credentials

Cloud = Literal["s3", "azure", "gcs"]

# Where virtual machines of all clouds find out who they are.
_METADATA_SERVER = ("169.254.169.254", 80)
_METADATA_SECONDS = 0.5

_VARIABLES: dict[Cloud, tuple[str, ...]] = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "azure": (
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "IDENTITY_ENDPOINT",
    ),
    "gcs": (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN",
    ),
}


def obstore_finds_some(cloud: Cloud) -> bool:
    """Tell whether obstore finds credentials by itself: in variables, or from an instance role.

    Without any it must be told to ask anonymously, or it would wait for a role that never comes.
    """
    if any(os.environ.get(name) for name in _VARIABLES[cloud]):
        return True
    if cloud == "gcs" and _gcloud_file().is_file():
        return True
    return _metadata_server_answers()


def aws_file_credentials() -> Credentials | None:
    """Return the access key of the chosen profile in `~/.aws/credentials`, if there is one."""
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    file = Path(named) if named else Path("~/.aws/credentials").expanduser()
    profiles = configparser.RawConfigParser()
    try:
        profiles.read(file, encoding="utf-8")
        profile = profiles[os.environ.get("AWS_PROFILE") or "default"]
    except (OSError, KeyError, configparser.Error, UnicodeDecodeError):
        return None
    key, secret = profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")
    if not key or not secret:
        return None
    token = profile.get("aws_session_token")
    return Credentials(
        access_key_id=key,
        secret_access_key=SecretStr(secret),
        session_token=SecretStr(token) if token else None,
    )


def azure_cli_is_logged_in() -> bool:
    """Tell whether `az` is installed and somebody has logged in with it."""
    folder = Path(os.environ.get("AZURE_CONFIG_DIR") or "~/.azure").expanduser()
    try:
        told = json.loads((folder / "azureProfile.json").read_text(encoding="utf-8-sig"))
        return bool(told.get("subscriptions")) and shutil.which("az") is not None
    except (OSError, ValueError, AttributeError):
        return False


def _gcloud_file() -> Path:
    return Path("~/.config/gcloud/application_default_credentials.json").expanduser()


@functools.cache
def _metadata_server_answers() -> bool:
    try:
        with socket.create_connection(_METADATA_SERVER, timeout=_METADATA_SECONDS):
            return True
    except OSError:
        return False
