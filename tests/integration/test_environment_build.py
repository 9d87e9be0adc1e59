"""Environments built by the real uv from wheels these tests make: no index, no network."""

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from batchpoint.domain.asset import Environment
from batchpoint.domain.errors import BatchpointError, Invalid
from batchpoint.domain.job_spec import ResolvedEnvironment
from batchpoint.node.environment import EnvironmentBuilder, EnvironmentSettings

MINOR = ".".join(str(part) for part in sys.version_info[:2])


def make_wheel(folder: Path, name: str, version: str, *lines: str, tag: str = "py3-none-any"):
    """Write a wheel with one module that knows its version."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{module}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": head + "".join(f"{line}\n" for line in lines),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(zipfile.ZipInfo(inside, (2020, 1, 1, 0, 0, 0)), text)
    return path


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "tiny-model", "1.0")
    make_wheel(folder, "tiny-model", "2.0", "Requires-Dist: tiny-maths>=1")
    make_wheel(folder, "tiny-maths", "1.5")
    make_wheel(folder, "tiny-fast", "1.0", tag="cp36-cp36m-win32")
    return folder


@pytest.fixture
def environ(wheels: Path, tmp_path: Path) -> dict[str, str]:
    """A site whose pip is told to use the wheel folder and nothing else."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return {
        **kept,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_INDEX": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_NO_CONFIG": "1",
    }


class Site:
    """A home with a builder, and the lines it has said."""

    def __init__(self, home: Path, environ: dict[str, str]) -> None:
        self.home = home
        self.environ = environ
        self.said: list[str] = []

    def builder(self, **settings: Mapping[str, str]) -> EnvironmentBuilder:
        tables = replace(EnvironmentSettings(), **settings)
        return EnvironmentBuilder(self.home, tables, self.environ, self.said.append)

    def resolve(self, *requirements: str, **settings: Mapping[str, str]) -> ResolvedEnvironment:
        asked = Environment(name="tiny", requirements=list(requirements))
        return self.builder(**settings).resolve(None, asked)

    def refusal(self, *requirements: str) -> BatchpointError:
        with pytest.raises(Invalid) as caught:
            self.resolve(*requirements)
        assert caught.value.code == "environment_unbuildable"
        return caught.value

    def remove(self, resolved: ResolvedEnvironment) -> None:
        """As people do who want room: its lock and record stay."""
        shutil.rmtree(self.home / "environments" / resolved.hash)

    def left_behind(self) -> list[str]:
        names = [path.name for path in (self.home / "environments").iterdir()]
        return [name for name in names if name.startswith("tmp-") or ".tmp" in name]


@pytest.fixture
def site(tmp_path: Path, environ: dict[str, str]) -> Site:
    return Site(tmp_path / "home", environ)


def version_in(resolved: ResolvedEnvironment, module: str) -> str:
    code = f"import {module}; print({module}.VERSION)"
    done = subprocess.run(
        [resolved.python, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_wheel_folder_of_pip_is_found_and_the_environment_is_reused(site: Site) -> None:
    resolved = site.resolve("tiny-model==2.0")
    assert version_in(resolved, "tiny_model") == "2.0"
    assert version_in(resolved, "tiny_maths") == "1.5"
    assert any(
        "does not serve: tiny-model==2.0 is not installed" in note for note in resolved.notes
    )
    assert any("building environment" in line for line in site.said)
    folder = Path(resolved.python).parent.parent
    assert list(folder.rglob("tiny_model.*.pyc")), "byte-code is compiled when it is built"
    before = folder.stat().st_ino
    site.said.clear()
    assert site.resolve("tiny-model==2.0").hash == resolved.hash
    assert folder.stat().st_ino == before
    assert any("is there already" in line for line in site.said)
    assert site.left_behind() == []


def test_the_hash_is_that_of_the_content(site: Site, wheels: Path, tmp_path: Path) -> None:
    one = site.resolve("tiny-model==1.0")
    assert site.resolve("tiny-model<2").hash == one.hash
    assert site.resolve("tiny-model").hash != one.hash
    make_wheel(wheels, "tiny-model", "1.0", "Summary: other content")
    assert site.resolve("tiny-model==1.0").hash != one.hash


def test_a_removed_or_broken_environment_comes_back_from_its_lock(site: Site) -> None:
    resolved = site.resolve("tiny-model==2.0")
    site.remove(resolved)
    site.builder().ensure(resolved)
    assert version_in(resolved, "tiny_maths") == "1.5"
    Path(resolved.python).unlink()
    site.builder().ensure(resolved)
    assert version_in(resolved, "tiny_model") == "2.0"
    site.said.clear()
    site.builder().ensure(resolved)
    assert site.said == []


def test_a_wheel_changed_behind_the_lock_is_refused(site: Site, wheels: Path) -> None:
    resolved = site.resolve("tiny-model==1.0")
    site.remove(resolved)
    make_wheel(wheels, "tiny-model", "1.0", "Summary: not what was locked")
    shutil.rmtree(site.environ["UV_CACHE_DIR"])
    with pytest.raises(Invalid, match="its hash differs") as caught:
        site.builder().ensure(resolved)
    assert caught.value.code == "environment_unbuildable"
    assert not Path(resolved.python).exists()
    assert site.left_behind() == []


def test_two_builders_build_once(site: Site) -> None:
    resolved = site.resolve("tiny-model==2.0")
    site.remove(resolved)
    site.said.clear()
    start = threading.Barrier(2)

    def ensure(builder: EnvironmentBuilder) -> None:
        start.wait()
        builder.ensure(resolved)

    threads = [threading.Thread(target=ensure, args=(site.builder(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("building environment" in line for line in site.said) == 1
    assert version_in(resolved, "tiny_model") == "2.0"


def test_what_a_killed_builder_left_is_in_nobodys_way(site: Site) -> None:
    resolved = site.resolve("tiny-model==1.0")
    final = Path(resolved.python).parent.parent
    half = final.with_name(f"tmp-{resolved.hash}")
    final.rename(half)
    (half / "READY").unlink()
    site.builder().ensure(resolved)
    assert version_in(resolved, "tiny_model") == "1.0"
    assert site.left_behind() == []


@pytest.mark.parametrize(
    ("requirement", "sentence"),
    [
        ("tiny-model==9.0", f"there is no tiny-model==9.0 .* newest for Python {MINOR} is 2.0"),
        ("tiny-gone", "tiny-gone is not found in the package index or the wheel folders"),
        ("tiny-fast", "tiny-fast.* has no build for Python"),
        ("tiny-model==2.0 tiny-maths<1", "tiny-model>=2.0 needs tiny-maths>=1, and tiny-maths<1"),
    ],
)
def test_what_cannot_be_had_is_one_sentence_with_the_log(
    site: Site, requirement: str, sentence: str
) -> None:
    error = site.refusal(*requirement.split())
    assert "environment 'tiny' cannot be built" in error.message
    assert error.message.count("\n") == 0
    (log,) = (site.home / "environments" / "logs").iterdir()
    assert str(log) in error.message
    assert "uv pip compile" in log.read_text()
    assert "cause:" in log.read_text()
    found = error.message.partition("cannot be built: ")[2]

    assert re.match(sentence, found), found


def test_an_mlflow_model_brings_its_own_environment(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {python_function: {env: {virtualenv: p.yaml}}}\n")
    (model / "p.yaml").write_text(
        f"python: {MINOR}.0\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n"
    )
    (model / "requirements.txt").write_text("tiny-model<2\nazureml-mlflow==1.59\n")
    resolved = site.builder().resolve(model, None)
    assert version_in(resolved, "tiny_model") == "1.0"
    assert resolved.name == "model"
    assert any("azureml-mlflow==1.59 is left out" in note for note in resolved.notes)


def test_substitutions_and_constraints_reach_uv(site: Site, tmp_path: Path) -> None:
    resolved = site.resolve("other", requirement_map={"other": "tiny-model"})
    assert version_in(resolved, "tiny_model") == "2.0"
    assert resolved.notes[0] == "other is replaced by tiny-model (requirement_map)"
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("tiny-model<2\n")
    site.environ["PIP_CONSTRAINT"] = str(constraints)
    assert version_in(site.resolve("tiny-model"), "tiny_model") == "1.0"


def test_constraints_of_the_model_reach_uv(site: Site, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "requirements.txt").write_text("tiny-model\n-c constraints.txt\n")
    (tmp_path / "constraints.txt").write_text("tiny-model<2\n")
    resolved = site.builder().resolve(tmp_path, None)
    assert version_in(resolved, "tiny_model") == "1.0"


def test_index_options_of_the_list_reach_uv_and_the_lock(
    site: Site, wheels: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_wheel(elsewhere, "tiny-other", "3.0")
    resolved = site.resolve("tiny-other", f"--find-links {elsewhere}")
    assert version_in(resolved, "tiny_other") == "3.0"
    site.remove(resolved)
    site.builder().ensure(resolved)
    assert version_in(resolved, "tiny_other") == "3.0"


def test_a_wheel_named_by_path_is_installed(site: Site, wheels: Path) -> None:
    resolved = site.resolve(str(wheels / "tiny_maths-1.5-py3-none-any.whl"))
    assert version_in(resolved, "tiny_maths") == "1.5"


def test_nothing_asked_uses_the_running_interpreter(site: Site, tmp_path: Path) -> None:
    resolved = site.builder().resolve(tmp_path, None)
    assert resolved.python == sys.executable
    assert "nothing else is asked for" in resolved.notes[0]
    site.builder().ensure(resolved)


def test_the_running_interpreter_serves_when_it_satisfies(site: Site) -> None:
    asked = Environment(
        name="here",
        version="3",
        conda_file={"dependencies": [f"python={MINOR}", "pip", {"pip": ["pytest>=7", "pydantic"]}]},
    )
    resolved = site.builder().resolve(None, asked)
    assert resolved.python == sys.executable
    assert (resolved.name, resolved.version) == ("here", "3")
    satisfied = f"which satisfies Python {MINOR}, pytest>=7, pydantic"
    assert resolved.notes[-1].endswith(satisfied)
    assert resolved.notes[-1] in site.said
    site.builder().ensure(resolved)


def test_an_image_mapped_to_an_interpreter_runs_it(site: Site) -> None:
    asked = Environment(name="i", image="host/image:1")
    settings = {"environment_map": {"host/*": sys.executable}}
    resolved = site.builder(**settings).resolve(None, asked)
    assert resolved.python == sys.executable
    site.builder().ensure(resolved)


def test_an_environment_nobody_has_kept(site: Site) -> None:
    resolved = site.resolve("tiny-model")
    shutil.rmtree(site.home)
    with pytest.raises(Invalid, match="create the deployment again") as caught:
        site.builder().ensure(resolved)
    assert caught.value.code == "environment_unbuildable"


BACKEND = """
import os, pathlib, shutil
folder = pathlib.Path({folder!r})
def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info = pathlib.Path(metadata_directory, "slow-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: slow\\nVersion: 1.0\\n")
    return info.name
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if not (folder / "quick").exists():
        with open(folder / "started", "w") as file:
            file.write("building")
        with open(folder / "go") as file:
            file.read()
    return shutil.copy(folder / "slow-1.0-py3-none-any.whl", wheel_directory).rsplit("/", 1)[-1]
"""


def make_slow_source(folder: Path, target: Path) -> None:
    """Write a source package whose build says when it has begun and waits to be let go."""
    make_wheel(folder, "slow", "1.0")
    for name in ("started", "go"):
        os.mkfifo(folder / name)
    files = {
        "PKG-INFO": "Metadata-Version: 2.2\nName: slow\nVersion: 1.0\n",
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\n"
        "backend-path = ['.']\n[project]\nname = 'slow'\nversion = '1.0'\n",
        "backend.py": BACKEND.format(folder=str(folder)),
    }
    with tarfile.open(target / "slow-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"slow-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


def test_a_builder_killed_at_work_is_waited_for_and_replaced(
    site: Site, wheels: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    make_slow_source(slow, wheels)
    code = (
        "import os, pathlib, sys\n"
        "from batchpoint.domain.asset import Environment\n"
        "from batchpoint.node.environment import EnvironmentBuilder, EnvironmentSettings\n"
        "builder = EnvironmentBuilder("
        "pathlib.Path(sys.argv[1]), EnvironmentSettings(), os.environ, print)\n"
        "builder.resolve(None, Environment(name='tiny', requirements=['slow']))\n"
    )
    victim = subprocess.Popen([sys.executable, "-c", code, str(site.home)], env=site.environ)
    assert (slow / "started").read_text() == "building"
    victim.kill()
    victim.wait()
    (slow / "quick").touch()
    site.environ["UV_CACHE_DIR"] += "-of-another"  # or uv itself would make the second one wait

    # The orphaned uv still writes: the next builder waits for its end before it clears and builds.
    waits = threading.Event()
    resolved: list[ResolvedEnvironment] = []

    def resolve() -> None:
        def log(line: str) -> None:
            if line.endswith("waiting"):
                waits.set()

        builder = EnvironmentBuilder(site.home, EnvironmentSettings(), site.environ, log)
        resolved.append(builder.resolve(None, Environment(name="tiny", requirements=["slow"])))

    thread = threading.Thread(target=resolve)
    thread.start()
    assert waits.wait(30)
    (slow / "go").write_text("go on")
    thread.join(60)
    assert version_in(resolved[0], "slow") == "1.0"
    assert site.left_behind() == []


def other_interpreter(site: Site) -> str | None:
    """Another minor version this machine has, if it has one."""
    builder = site.builder()
    for minor in range(8, 15):
        if f"3.{minor}" != MINOR:
            try:
                return builder._search.find(f"3.{minor}", "test").version
            except Invalid:
                continue
    return None


def test_another_python_is_built_for(site: Site) -> None:
    other = other_interpreter(site)
    if other is None:
        with pytest.raises(Invalid) as caught:
            site.builder().resolve(None, Environment(name="x", python_version="3.8"))
        assert caught.value.code == "interpreter_not_found"
        return
    minor = ".".join(other.split(".")[:2])
    asked = Environment(name="x", python_version=minor, requirements=["tiny-model"])
    resolved = site.builder().resolve(None, asked)
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([resolved.python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == minor
    assert version_in(resolved, "tiny_model") == "2.0"


@pytest.mark.network
def test_a_small_package_of_the_index(tmp_path: Path) -> None:
    said: list[str] = []
    builder = EnvironmentBuilder(tmp_path, EnvironmentSettings(), os.environ, said.append)
    resolved = builder.resolve(None, Environment(name="n", requirements=["six==1.16.0"]))
    code = "import six; print(six.__version__)"
    done = subprocess.run([resolved.python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1.16.0"


@pytest.mark.network
def test_packages_published_after_the_lock_date_are_not_considered(tmp_path: Path) -> None:
    settings = EnvironmentSettings(lock_date="2020-01-01")
    builder = EnvironmentBuilder(tmp_path, settings, os.environ, print)
    asked = Environment(name="n", requirements=["attrs<25"])
    resolved = builder.resolve(None, asked)
    lock = (tmp_path / "environments" / f"{resolved.hash}.lock.txt").read_text()
    assert lock.startswith("attrs==19.3.0")
