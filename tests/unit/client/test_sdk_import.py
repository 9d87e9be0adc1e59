"""Importing the SDK is quick and loads nothing of the server."""

import json
import subprocess
import sys

import batchpoint

PROBE = """
import json, sys, time
begin = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - begin, sorted(sys.modules)]))
"""


def imported(module: str) -> tuple[float, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)],
        capture_output=True,
        check=True,
        text=True,
    )
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


def test_importing_batchpoint_costs_less_than_two_httpx() -> None:
    ours, theirs = (
        min(imported(module)[0] for _ in range(3)) for module in ("batchpoint", "httpx")
    )
    assert ours <= 2 * theirs


def test_the_client_loads_no_server_module() -> None:
    _, modules = imported("batchpoint.client.client")
    roots = {name.split(".")[0] for name in modules}
    assert not roots & {
        "fastapi",
        "starlette",
        "sqlalchemy",
        "uvicorn",
        "obstore",
        "pyarrow",
        "yaml",
    }
    assert "batchpoint.wiring" not in modules


def test_everything_that_is_promised_is_there() -> None:
    assert set(batchpoint.__all__) <= set(dir(batchpoint))
    for name in batchpoint.__all__:
        assert getattr(batchpoint, name).__name__ == name
    assert not hasattr(batchpoint, "Nonsense")
