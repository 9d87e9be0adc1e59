"""Whether installed distributions satisfy requirements: judged on real metadata on disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from batchpoint.node.running_interpreter import EQUIVALENTS, InstalledPackages, satisfaction


@pytest.fixture
def site(tmp_path: Path) -> Path:
    def install(name: str, version: str, *lines: str, url: str | None = None) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(head + "".join(f"{line}\n" for line in lines))
        if url:
            (folder / "direct_url.json").write_text(json.dumps({"url": url, "archive_info": {}}))

    install("Plain.Name", "1.2.0")
    install("torch", "2.13.0+cpu")
    install("early", "2.0rc1")
    install("xgboost-cpu", "3.2.0")
    install(
        "rich-web",
        "1.0",
        "Provides-Extra: fast",
        "Provides-Extra: all",
        "Requires-Dist: plain-name>=1",
        'Requires-Dist: speed>=2; extra == "fast"',
        'Requires-Dist: rich-web[fast]; extra == "all"',
    )
    install("from-file", "1.0", url="file:///somewhere/from_file-1.0.whl")
    return tmp_path


def unmet(site: Path, *requirements: str, constraints: tuple[str, ...] = ()) -> tuple[str, ...]:
    return satisfaction(requirements, constraints, InstalledPackages([str(site)])).unmet


@pytest.mark.parametrize(
    "requirement",
    [
        "plain-name",
        "plain_name==1.2",
        "PLAIN.NAME>=1,<2",
        "torch==2.13.0",
        "early>=1",
        "gone; python_version < '3'",
        "rich-web[]",
        "from-file @ file:///somewhere/from_file-1.0.whl",
        "plain-name==1.2.0 --hash=sha256:00",
    ],
)
def test_satisfied(site: Path, requirement: str) -> None:
    assert unmet(site, requirement) == ()


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("gone", "gone is not installed"),
        ("gone; python_version > '3'", "is not installed"),
        ("plain-name>2", "plain-name>2 is asked for, 1.2.0 is installed"),
        ("torch==2.13.0+cu126", "2.13.0+cpu is installed"),
        ("rich-web[fast]", "speed>=2"),
        ("rich-web[all]", "speed>=2"),
        ("from-file @ file:///elsewhere.whl", "from another source"),
        ("git+https://host/repository", "can only be installed anew"),
    ],
)
def test_not_satisfied(site: Path, requirement: str, reason: str) -> None:
    (found,) = unmet(site, requirement)
    assert reason in found


def test_constraints_bind_only_what_is_installed(site: Path) -> None:
    assert unmet(site, constraints=("gone<1",)) == ()
    assert unmet(site, constraints=("plain-name<1",)) == (
        "plain-name<1 is a constraint, 1.2.0 is installed",
    )


def test_another_distribution_of_the_same_import_serves_and_is_named(site: Path) -> None:
    found = satisfaction(["xgboost==3.2.0"], [], InstalledPackages([str(site)]))
    assert found.unmet == ()
    assert "satisfied by xgboost-cpu 3.2.0" in found.notes[0]
    assert unmet(site, "xgboost==3.1.0") != ()
    assert EQUIVALENTS["xgboost-cpu"] == "xgboost"


def test_the_fingerprint_changes_with_what_is_installed(site: Path) -> None:
    before = InstalledPackages([str(site)]).fingerprint()
    assert before == InstalledPackages([str(site), str(site)]).fingerprint()
    (site / "torch-2.13.0+cpu.dist-info").rename(site / "torch-2.14.0.dist-info")
    metadata = site / "torch-2.14.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("2.13.0+cpu", "2.14.0"))
    assert before != InstalledPackages([str(site)]).fingerprint()


def test_this_interpreter_satisfies_what_pip_says_it_has() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib.metadata as m; print(m.version('pytest'), m.version('packaging'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    pytest_version, packaging_version = done.stdout.split()
    asked = [f"pytest=={pytest_version}", f"packaging=={packaging_version}"]
    assert satisfaction(asked, [], InstalledPackages()).unmet == ()
