"""Resources over HTTP: created, shown, changed, listed in pages, deleted."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.unit.control_plane import ControlPlane, control_plane, mlflow_model


def test_an_endpoint_from_cradle_to_grave(http: httpx.Client) -> None:
    assert http.put("/endpoints/heart", json={"name": "heart"}).status_code == 201
    again = http.put("/endpoints/heart", json={"name": "heart", "description": "d"})
    assert again.status_code == 200
    assert again.json()["description"] == "d"
    patched = http.patch("/endpoints/heart", json={"tags": {"a": 1}})
    assert patched.json()["tags"] == {"a": "1"}
    assert http.get("/endpoints/heart").json() == patched.json()
    assert http.put("/endpoints/heart", json=patched.json()).status_code == 200
    assert http.delete("/endpoints/heart").status_code == 204
    assert http.get("/endpoints/heart").status_code == 404
    assert http.delete("/endpoints/heart").status_code == 404


def test_a_server_tells_where_to_invoke(tmp_path: Path) -> None:
    plane = control_plane(tmp_path / "home", embedded=False)
    transport = httpx.ASGITransport(plane.app())

    async def ask() -> dict[str, object]:
        async with httpx.AsyncClient(transport=transport, base_url="http://host:81") as http:
            await http.put("/endpoints/heart", json={"name": "heart"})
            return (await http.get("/endpoints/heart")).json()

    import asyncio

    assert asyncio.run(ask())["scoring_uri"] == "http://host:81/endpoints/heart/jobs"
    plane.ledger.close()


def test_lists_come_in_pages(http: httpx.Client) -> None:
    names = [f"endpoint-{number:02}" for number in range(7)]
    for name in reversed(names):
        http.put(f"/endpoints/{name}", json={"name": name})

    def pages() -> Iterator[list[str]]:
        params: dict[str, str | int] = {"limit": 3}
        while True:
            page = http.get("/endpoints", params=params).json()
            yield [endpoint["name"] for endpoint in page["value"]]
            if page["next_after"] is None:
                return
            params["after"] = page["next_after"]

    assert list(pages()) == [names[:3], names[3:6], names[6:]]


def test_a_deployment_from_cradle_to_grave(
    http: httpx.Client, deployed: ControlPlane, tmp_path: Path
) -> None:
    place = "/endpoints/heart/deployments"
    shown = http.get(f"{place}/first").json()
    assert shown["settings"]["mini_batch_size"] == 10
    assert shown["provisioning_state"] == "Succeeded"
    body = {
        "name": "second",
        "endpoint_name": "heart",
        "model": shown["model"],
        "settings": {"retry_settings": {"timeout": "PT40S"}, "output_action": "AppendRow"},
    }
    made = http.put(f"{place}/second", json=body, params={"set_default": True})
    assert made.status_code == 201
    assert made.json()["settings"]["retry_settings"] == {"max_retries": 3, "timeout": 40}
    assert http.get("/endpoints/heart").json()["defaults"] == {"deployment_name": "second"}
    assert [d["name"] for d in http.get(place).json()["value"]] == ["first", "second"]
    patched = http.patch(f"{place}/second", json={"settings": {"mini_batch_size": 3}})
    assert patched.json()["settings"]["mini_batch_size"] == 3
    assert http.put(f"{place}/second", json=patched.json()).status_code == 200
    assert http.delete(f"{place}/second").json()["code"] == "deployment_in_use"
    assert http.delete(f"{place}/second", params={"force": True}).status_code == 204
    assert http.get(f"{place}/second").json()["code"] == "deployment_not_found"
    assert http.get("/endpoints/ghost/deployments").json()["code"] == "endpoint_not_found"


def test_models_over_http(http: httpx.Client, plane: ControlPlane, tmp_path: Path) -> None:
    path = str(mlflow_model(tmp_path / "model"))
    body = {"name": "m", "path": path, "type": "MlflowModel"}
    made = [http.post("/models", json=body) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert [answer.json()["version"] for answer in made] == ["1", "2"]
    assert http.get("/models/m").json() == made[1].json()
    assert http.get("/models/m/versions/1").json() == made[0].json()
    assert [m["version"] for m in http.get("/models/m/versions").json()["value"]] == ["2", "1"]
    page = http.get("/models/m/versions", params={"limit": 1}).json()
    rest = http.get("/models/m/versions", params={"after": page["next_after"]}).json()
    assert [m["version"] for m in rest["value"]] == ["1"]
    put = http.put("/models/m/versions/1", json=body | {"tags": {"stage": "prod"}})
    assert put.json()["tags"] == {"stage": "prod"}
    (tmp_path / "model" / "more").write_text("x")
    assert http.put("/models/m/versions/1", json=body).json()["code"] == "asset_immutable"
    assert http.delete("/models/m/versions/1").status_code == 204
    assert http.delete("/models/m").status_code == 204
    assert http.get("/models/m").json()["code"] == "model_not_found"
    assert http.get("/models/m/versions").status_code == 404


def test_environments_over_http(http: httpx.Client) -> None:
    body = {"name": "e", "conda_file": {"dependencies": ["python=3.11"]}}
    assert http.post("/environments", json=body).json()["version"] == "1"
    assert http.put("/environments/e/versions/1", json=body).status_code == 200
    other = body | {"requirements": ["numpy"]}
    assert http.put("/environments/e/versions/1", json=other).json()["code"] == "asset_immutable"
    assert http.put("/environments/e/versions/beta", json=other).json()["version"] == "beta"
    versions = http.get("/environments/e/versions").json()["value"]
    assert [found["version"] for found in versions] == ["beta", "1"]
    assert http.get("/environments").json()["value"][0]["version"] == "beta"
    assert http.delete("/environments/e/versions/beta").status_code == 204
    assert http.get("/environments/e").json()["version"] == "1"
    assert http.delete("/environments/e").status_code == 204


def test_computes_over_http(http: httpx.Client) -> None:
    body = {"name": "batch-cluster", "type": "amlcompute", "idle_time_before_scale_down": "PT2M"}
    assert http.put("/computes/batch-cluster", json=body).status_code == 201
    assert http.put("/computes/batch-cluster", json=body).status_code == 200
    changed = http.patch("/computes/batch-cluster", json={"max_instances": 7}).json()
    assert (changed["max_instances"], changed["idle_time_before_scale_down"]) == (7, 120)
    names = [compute["name"] for compute in http.get("/computes").json()["value"]]
    assert names == ["batch-cluster", "local"]
    assert http.get("/computes/batch-cluster").json() == changed
    assert http.delete("/computes/batch-cluster").status_code == 204
    assert http.get("/computes/batch-cluster").json()["code"] == "compute_not_found"


def test_a_folder_is_uploaded_file_by_file(http: httpx.Client, plane: ControlPlane) -> None:
    files = {"m/MLmodel": b"flavors: {}", "m/a b/w%.bin": bytes(range(256)) * 4_000}
    entries = [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in sorted(files.items())
    ]
    status = http.post("/uploads", json={"entries": entries}).json()
    assert status["missing"] == sorted(files)
    place = f"/uploads/{status['hash']}"
    assert http.post(f"{place}/commit").status_code == 409
    bad = http.put(f"{place}/files/m/MLmodel", content=b"flavours: {}")
    assert bad.json()["code"] == "upload_corrupt"
    for path, data in files.items():
        chunks = (data[start : start + 50_000] for start in range(0, len(data), 50_000))
        url = f"{place}/files/{path.replace('%', '%25')}"
        assert http.put(url, content=chunks).status_code == 204
    assert http.get(place).json()["missing"] == []
    assert http.post(f"{place}/commit").json()["complete"]
    assert http.post("/uploads", json={"entries": entries}).json()["complete"]
    model = http.post(
        "/models", json={"name": "m", "path": status["reference"], "type": "mlflow_model"}
    )
    assert model.status_code == 201
    stored, _ = plane.services.trees.open_tree(status["reference"])
    assert (stored / "a b" / "w%.bin").read_bytes() == files["m/a b/w%.bin"]


def test_hostile_uploads_are_refused_at_once(http: httpx.Client, plane: ControlPlane) -> None:
    begin = time.monotonic()
    for path in ("../x", "/x", "m/../../x", "m/\u0000", "m//x", "m\\x"):
        entry = {"path": path, "size": 1, "sha256": "0" * 64}
        answer = http.post("/uploads", json={"entries": [entry]})
        assert answer.status_code == 400, path
        assert answer.json()["code"] == "field_invalid"
    entry = {"path": "m/x", "size": 1, "sha256": "0" * 64}
    assert http.post("/uploads", json={"entries": [entry, entry]}).status_code == 400
    assert http.post("/uploads", json={"entries": []}).status_code == 400
    assert not (plane.home / "store").exists()
    assert time.monotonic() - begin < 10


def test_the_service_tells_of_itself(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/version").json() == {"version": "1.2.3"}
