"""Routes of models, environments, data, code and datastores: one behaviour for all kinds."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.control_plane import ControlPlane, code_folder, data_folder, mlflow_model

KINDS = ["models", "environments", "data", "codes"]
S3 = {"name": "bucket", "type": "s3", "bucket": "rows", "region": "eu-west-1"}
SKIP = {"skip_validation": True}


@pytest.fixture
def bodies(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What registers an asset of each kind."""
    model = mlflow_model(tmp_path / "model")
    return {
        "models": {"path": str(model), "type": "MLflowModel"},
        "environments": {"requirements": ["numpy"]},
        "data": {"path": str(data_folder(tmp_path / "data"))},
        "codes": {"path": str(code_folder(tmp_path / "code"))},
    }


def versions(http: httpx.Client, kind: str, **query: Any) -> list[tuple[str, bool]]:
    answer = http.get(f"/{kind}/thing/versions", params=query)
    assert answer.status_code == 200, answer.text
    return [(asset["version"], asset["archived"]) for asset in answer.json()["value"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_life(http: httpx.Client, bodies: dict[str, Any], kind: str) -> None:
    body = {"name": "thing", **bodies[kind]}
    for version in ("1", "2"):
        answer = http.post(f"/{kind}", json=body)
        assert answer.status_code == 201, answer.text
        assert (answer.json()["name"], answer.json()["version"]) == ("thing", version)
    assert http.get(f"/{kind}/thing").json()["version"] == "2"
    assert http.get(f"/{kind}/thing/versions/1").json()["version"] == "1"
    assert [a["version"] for a in http.get(f"/{kind}").json()["value"]] == ["2"]

    answer = http.post(f"/{kind}/thing/versions/2/archive")
    assert (answer.status_code, answer.json()["archived"]) == (200, True)
    assert http.get(f"/{kind}/thing").json()["version"] == "1"
    assert versions(http, kind) == [("1", False)]
    assert versions(http, kind, include_archived=True) == [("2", True), ("1", False)]
    answer = http.post(f"/{kind}/thing/versions/2/restore")
    assert (answer.status_code, answer.json()["archived"]) == (200, False)

    assert http.post(f"/{kind}/thing/archive").status_code == 204
    assert http.get(f"/{kind}").json()["value"] == []
    everything = http.get(f"/{kind}", params={"include_archived": True}).json()["value"]
    assert [a["version"] for a in everything] == ["2"]
    assert http.get(f"/{kind}/thing").status_code == 404
    refused = http.put(f"/{kind}/thing/versions/1", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "asset_archived")
    assert http.post(f"/{kind}/thing/restore").status_code == 204
    assert versions(http, kind) == [("2", False), ("1", False)]

    changed = http.patch(f"/{kind}/thing/versions/1", json={"tags": {"a": 1}})
    assert (changed.status_code, changed.json()["tags"]) == (200, {"a": "1"})
    refused = http.patch(f"/{kind}/thing/versions/1", json={"path": "/x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "asset_immutable")
    assert refused.json()["where"] == "path"

    same = http.put(f"/{kind}/thing/versions/1", json={**body, "description": "d"})
    assert (same.status_code, same.json()["description"]) == (200, "d")
    other = http.put(f"/{kind}/thing/versions/1", json={**body, "name": "other"})
    assert (other.status_code, other.json()["where"]) == (400, "name")
    assert http.delete(f"/{kind}/thing/versions/2").status_code == 204
    assert http.delete(f"/{kind}/thing").status_code == 204
    for method, path in (
        ("GET", "/thing"),
        ("GET", "/thing/versions"),
        ("GET", "/thing/versions/1"),
        ("PATCH", "/thing/versions/1"),
        ("DELETE", "/thing"),
        ("DELETE", "/thing/versions/1"),
        ("POST", "/thing/archive"),
        ("POST", "/thing/versions/1/restore"),
    ):
        answer = http.request(method, f"/{kind}{path}", json={})
        assert answer.status_code == 404, (method, path)
        assert answer.json()["code"].endswith("_not_found")


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_bodies_name_the_field(http: httpx.Client, bodies: dict[str, Any], kind: str) -> None:
    for wrong, where in (
        ({"nonsense": 1}, "nonsense"),
        ({"tags": 5}, "tags"),
        ({"description": "x" * 6_000}, "description"),
    ):
        answer = http.post(f"/{kind}", json={"name": "thing", **bodies[kind], **wrong})
        assert answer.status_code == 400
        assert answer.json()["where"] == where
    answer = http.post(f"/{kind}", json={**bodies[kind], "name": "no/name"})
    assert answer.json()["code"] == "field_invalid"


def test_fields_of_azure_are_refused_by_name(http: httpx.Client, bodies: dict[str, Any]) -> None:
    for path, body, field in (
        ("/models", {**bodies["models"], "stage": "Production"}, "stage"),
        ("/models", {**bodies["models"], "flavors": {}}, "flavors"),
        ("/environments", {"build": {"path": "."}}, "build"),
        ("/models", {**bodies["models"], "type": "triton_model"}, "type"),
    ):
        answer = http.post(path, json={"name": "thing", **body}).json()
        assert (answer["code"], answer["where"]) == ("field_unsupported", field)
        assert "not supported" in answer["detail"]
    answer = http.put("/endpoints/heart", json={"name": "heart", "identity": {}}).json()
    assert (answer["code"], answer["where"]) == ("field_unsupported", "identity")


def test_lists_come_in_pages(http: httpx.Client, bodies: dict[str, Any]) -> None:
    for name in ("c", "a", "b"):
        http.post("/data", json={"name": name, **bodies["data"]})
    first = http.get("/data", params={"limit": 2}).json()
    assert [a["name"] for a in first["value"]] == ["a", "b"]
    rest = http.get("/data", params={"limit": 2, "after": first["next_after"]}).json()
    assert ([a["name"] for a in rest["value"]], rest["next_after"]) == (["c"], None)


# --- datastores ----------------------------------------------------------------------------------


def test_the_life_of_a_datastore(http: httpx.Client) -> None:
    secret = {"access_key_id": "AKIA", "secret_access_key": "shh-shh-shh"}
    answer = http.put("/datastores/bucket", json={**S3, "credentials": secret}, params=SKIP)
    assert answer.status_code == 201, answer.text
    assert answer.json()["credentials_type"] == "access_key"
    assert http.put("/datastores/bucket", json=S3, params=SKIP).status_code == 200
    told = [answer.text, http.get("/datastores").text, http.get("/datastores/bucket").text]
    assert not any("shh" in text or "AKIA" in text or '"credentials"' in text for text in told)
    names = [d["name"] for d in http.get("/datastores").json()["value"]]
    assert names == ["bucket", "workspaceartifactstore", "workspaceblobstore"]
    assert http.patch("/datastores/bucket", json={"is_default": True}).json()["is_default"]
    assert not http.get("/datastores/workspaceblobstore").json()["is_default"]
    http.post("/data", json={"name": "rows", "path": "s3://rows/x"})
    refused = http.delete("/datastores/bucket")
    assert (refused.status_code, refused.json()["code"]) == (409, "datastore_in_use")
    assert http.delete("/datastores/bucket", params={"force": True}).status_code == 204
    assert http.get("/datastores/bucket").json()["code"] == "datastore_not_found"
    assert http.delete("/datastores/workspaceblobstore").status_code == 409


def test_a_wrong_datastore_names_the_field_and_no_secret(http: httpx.Client) -> None:
    for body, where in (
        ({**S3, "name": "other"}, "name"),
        ({**S3, "type": "azure_file"}, "type"),
        ({**S3, "credentials": {"account_key": "shh"}}, "credentials"),
        ({**S3, "credentials": {"secret_access_key": "shh"}}, "credentials.access_key_id"),
        ({**S3, "credentials": {"password": "shh"}}, "credentials.password"),
        ({**S3, "credentials": {"certificate": "shh"}}, "credentials"),
        ({**S3, "credentials": "shh"}, "credentials"),
        ({**S3, "protocol": "ftp"}, "protocol"),
    ):
        answer = http.put("/datastores/bucket", json=body, params=SKIP)
        assert (answer.status_code, answer.json()["where"]) == (400, where), answer.text
        assert "shh" not in answer.text
    assert len(http.get("/datastores").json()["value"]) == 2


def test_a_server_answers_with_problems_too(server: ControlPlane, tmp_path: Path) -> None:
    from batchpoint.client.embedded_transport import EmbeddedTransport

    with httpx.Client(transport=EmbeddedTransport(server.app), base_url="http://t") as http:
        folder = data_folder(tmp_path / "data")
        answer = http.post("/data", json={"name": "rows", "path": str(folder)})
        assert (answer.status_code, answer.json()["where"]) == (400, "path")
        assert "upload" in answer.json()["detail"]
