"""The embedded app makes routes when they are needed, and is the same app in the end."""

from pathlib import Path

import httpx
import pytest

from batchpoint.client.embedded_transport import EmbeddedTransport
from tests.unit.control_plane import ControlPlane, control_plane


def test_both_apps_are_described_alike(plane: ControlPlane, tmp_path: Path) -> None:
    server = control_plane(tmp_path / "server", embedded=False)
    one, other = plane.app().openapi(), server.app().openapi()
    assert one["components"] == other["components"]
    assert one["paths"] == other["paths"]
    server.ledger.close()


def test_the_embedded_app_makes_what_a_request_needs(plane: ControlPlane) -> None:
    app = plane.app()

    def made() -> int:
        return len(app.routes)

    begin = made()
    with httpx.Client(transport=EmbeddedTransport(lambda: app), base_url="http://test") as http:
        assert http.get("/nowhere/at/all").status_code == 404
        assert made() == begin
        assert http.get("/jobs/ghost").json()["code"] == "job_not_found"
        after_one = made()
        assert begin < after_one
        assert http.get("/jobs").status_code == 200
        assert made() == after_one


def test_every_route_is_reached_first(plane: ControlPlane) -> None:
    """No route hides behind a group that the first request to it does not make."""
    described = plane.app().openapi()
    for path, methods in described["paths"].items():
        place = path
        for name in ("endpoint", "deployment", "job", "name", "version", "tree", "path"):
            place = place.replace(f"{{{name}}}", "ghost")
        for method in methods:
            transport = EmbeddedTransport(plane.app)
            with httpx.Client(transport=transport, base_url="http://test") as http:
                answer = http.request(method.upper(), place, json={})
            if answer.is_error:
                assert answer.json()["code"] not in {"invalid", "not_found"}, (method, path)


@pytest.mark.parametrize("path", ["", "/", "//", "/jobs/", "/endpoints/e/", "/endpoints//jobs"])
def test_odd_paths_are_answered(plane: ControlPlane, path: str) -> None:
    transport = EmbeddedTransport(plane.app)
    with httpx.Client(transport=transport, base_url="http://test") as http:
        answer = http.get(path)
    assert answer.status_code in {200, 404}
