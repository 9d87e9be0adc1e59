"""Web servers that lead elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from batchpoint.domain.datastore import Datastore, DatastoreAccess, StorageAccess
from batchpoint.domain.errors import Invalid
from batchpoint.storage.object_locations import ObjectLocations


class Redirecting(BaseHTTPRequestHandler):
    """Leads `/identity` to where clouds tell who a machine is, and everything else to `/file`."""

    def do_GET(self) -> None:
        if self.path == "/file":
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"body")
            return
        self.send_response(302)
        place = "http://169.254.169.254/latest" if self.path == "/identity" else "/file"
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{found.server_port}"
        finally:
            found.shutdown()
            thread.join()


def test_a_redirect_is_followed(server: str):
    location = ObjectLocations(StorageAccess()).at(f"{server}/moved")
    found = location.store.find(location.path)
    assert found is not None
    assert found.size == 4
    assert b"".join(location.store.stream(location.path)) == b"body"


def test_no_redirect_leads_to_the_identity_of_this_machine(server: str):
    location = ObjectLocations(StorageAccess()).at(f"{server}/identity")
    for ask in (
        lambda: location.store.find(location.path),
        lambda: list(location.store.stream(location.path)),
    ):
        with pytest.raises(Invalid, match="link-local") as caught:
            ask()
        assert caught.value.code == "storage_denied"


def test_no_registered_endpoint_is_the_identity_of_this_machine():
    web = Datastore(name="web", type="http", endpoint="http://169.254.169.254/latest")
    access = StorageAccess(datastores=(DatastoreAccess(datastore=web),))
    location = ObjectLocations(access).at("azureml://datastores/web/paths/meta-data")
    with pytest.raises(Invalid, match="link-local"):
        location.store.find(location.path)
