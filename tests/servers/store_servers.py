"""Servers of object stores on this machine, each with fresh containers for whoever asks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import os
import sys
import urllib.request
from email.utils import formatdate
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from pydantic import SecretStr

from batchpoint.domain.datastore import Credentials, Datastore
from tests.servers import node_runtime
from tests.servers.server_process import ServerProcess

# Azurite's well-known account, the same for everybody.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
_AZURE_VERSION = "2021-12-02"
_S3_KEY, _S3_SECRET = "test-key", "test-secret-of-a-key"
_NUMBERS = itertools.count(1)


class StoreServer(Protocol):
    """A server whose containers can be registered as datastores."""

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        ...

    def datastore(self, name: str, *, port: int | None = None) -> tuple[Datastore, Credentials]:
        """Return a datastore over a fresh container; `port`: of a proxy before the server."""
        ...

    def end(self) -> None:
        """End it."""
        ...


def _fresh() -> str:
    return f"test-{os.getpid()}-{next(_NUMBERS)}"


class Azurite:
    """Azure Blob Storage, as Azurite emulates it."""

    def __init__(self, folder: Path) -> None:
        """Start it; it keeps everything in memory."""
        self._process = ServerProcess(
            [
                node_runtime.node(),
                node_runtime.script("azurite/dist/src/blob/main.js"),
                *("--blobHost", "127.0.0.1", "--blobPort", "0"),
                *("--inMemoryPersistence", "--disableTelemetry", "--silent"),
                "--skipApiVersionCheck",
            ],
            folder,
            r"listens on http://127\.0\.0\.1:(\d+)",
        )
        self.port = self._process.port

    def datastore(self, name: str, *, port: int | None = None) -> tuple[Datastore, Credentials]:
        """See `StoreServer`."""
        container = _fresh()
        self.request("PUT", f"/{AZURE_ACCOUNT}/{container}", {"restype": "container"})
        store = Datastore(
            name=name,
            type="azure_blob",
            account_name=AZURE_ACCOUNT,
            container_name=container,
            endpoint=f"http://127.0.0.1:{port or self.port}/{AZURE_ACCOUNT}",
        )
        return store, Credentials(account_key=SecretStr(AZURE_KEY))

    def sas_token(self, permissions: str) -> str:
        """Sign away some permissions ("rl": reading and listing) to everything of the account."""
        told = {
            "sv": _AZURE_VERSION,
            "ss": "b",
            "srt": "sco",
            "sp": permissions,
            "se": "2099-01-01T00:00:00Z",
        }
        text = "\n".join(
            (AZURE_ACCOUNT, permissions, "b", "sco", "", told["se"], "", "", told["sv"], "", "")
        )
        digest = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
        return urlencode({**told, "sig": base64.b64encode(digest).decode()})

    def request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a request without a body that obstore has no call for, signed by the account key."""
        query = query or {}
        told = {
            **(headers or {}),
            "x-ms-date": formatdate(usegmt=True),
            "x-ms-version": _AZURE_VERSION,
        }
        signed = "".join(f"{key}:{told[key]}\n" for key in sorted(told) if key.startswith("x-ms-"))
        asked = "".join(f"\n{key}:{query[key]}" for key in sorted(query))
        text = f"{method}{chr(10) * 12}{signed}/{AZURE_ACCOUNT}{path}{asked}"
        digest = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
        told["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
        told["Content-Length"] = "0"
        words = "&".join(f"{key}={value}" for key, value in query.items())
        url = f"http://127.0.0.1:{self.port}{path}" + (f"?{words}" if words else "")
        urllib.request.urlopen(urllib.request.Request(url, method=method, headers=told)).close()

    def end(self) -> None:
        """See `StoreServer`."""
        self._process.end()


class _S3Server:
    """What the S3 servers have in common."""

    port: int
    _process: ServerProcess

    def _make_bucket(self, bucket: str) -> None:
        raise NotImplementedError

    def datastore(self, name: str, *, port: int | None = None) -> tuple[Datastore, Credentials]:
        """See `StoreServer`."""
        bucket = _fresh()
        self._make_bucket(bucket)
        endpoint = f"http://127.0.0.1:{port or self.port}"
        credentials = Credentials(access_key_id=_S3_KEY, secret_access_key=SecretStr(_S3_SECRET))
        return Datastore(name=name, type="s3", bucket=bucket, endpoint=endpoint), credentials

    def end(self) -> None:
        """See `StoreServer`."""
        self._process.end()


class MotoS3(_S3Server):
    """S3 with its conditional writes, as moto emulates it."""

    def __init__(self, folder: Path) -> None:
        """Start it; it keeps everything in memory."""
        command = [sys.executable, str(Path(__file__).with_name("moto_process.py"))]
        self._process = ServerProcess(command, folder, r"serves at (\d+)")
        self.port = self._process.port

    def _make_bucket(self, bucket: str) -> None:
        self.raw("PUT", f"/{bucket}")

    def raw(self, method: str, path: str, body: bytes | None = None) -> None:
        """Send a request with keys that obstore would not write; moto checks no signatures."""
        scope = f"Credential={_S3_KEY}/20260101/us-east-1/s3/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=body, method=method, headers=headers
        )
        urllib.request.urlopen(request).close()


class RcloneS3(_S3Server):
    """S3 over a folder, served by rclone, which ignores conditional writes."""

    def __init__(self, folder: Path) -> None:
        """Start it over a new folder below `folder`."""
        buckets = folder / "buckets"
        buckets.mkdir()
        program = Path(sys.executable).with_name("rclone")
        self._process = ServerProcess(
            [
                str(program),
                *("serve", "s3", str(buckets), "--addr", "127.0.0.1:0"),
                *("--auth-key", f"{_S3_KEY},{_S3_SECRET}"),
                *("--config", "", "--cache-dir", str(folder / "cache")),
                *("--vfs-cache-mode", "off"),
            ],
            folder,
            r"Starting s3 server on \[http://127\.0\.0\.1:(\d+)",
        )
        self.port = self._process.port

    def _make_bucket(self, bucket: str) -> None:
        import boto3

        # Through the server, because it does not look again for what appears behind its back.
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=_S3_KEY,
            aws_secret_access_key=_S3_SECRET,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=bucket)
        client.close()
