"""House rules: each test is one rule, and its message says how to repair what it finds."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PACKAGES = ("batchpoint", "batchpoint_worker")

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
TRACKED_BYTES_MAX = 1_000_000

BANNED_NAMES = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
SHARED_BASENAMES = {"__init__.py", "__main__.py"}
NO_ANY = ("domain", "core", "formats")
SDK_FREE_OF = {"fastapi", "obstore", "pyarrow", "sqlalchemy", "starlette", "uvicorn"}
WALK_PAST = {"build", "dist", "node_modules", "__pycache__"}

# What the worker's own package may be used for by ours: the contract, and finding it on disk.
WORKER_CONTRACT = {"batchpoint_worker", "batchpoint_worker.protocol"}


def modules() -> list[Path]:
    """Every Python file we ship."""
    return sorted(path for package in PACKAGES for path in (SRC / package).rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def verdict(findings: list[str], repair: str) -> None:
    """Fail with all findings and what to do about them."""
    assert not findings, f"{repair}\n  " + "\n  ".join(findings)


def repository_files() -> list[Path]:
    """Files git tracks or would track; in an unpacked archive, all but generated ones."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        paths = [ROOT / name for name in listed.split("\0") if name]
    else:
        paths = list(ROOT.rglob("*"))
    return sorted(
        path
        for path in paths
        if path.is_file()
        and not path.is_symlink()
        and not any(
            part in WALK_PAST or part in {".venv", ".git"} for part in path.relative_to(ROOT).parts
        )
    )


def imports(nodes: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Line and module of each import that runs when these statements run."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from imports(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from imports(handler.body)


def test_no_drawers_for_odds_and_ends() -> None:
    found = [
        shown(path)
        for path in modules()
        for part in path.relative_to(SRC).with_suffix("").parts
        if part.strip("_") in BANNED_NAMES
    ]
    verdict(found, "Name the module for what it does; these names collect odds and ends:")


def test_basenames_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        if path.name not in SHARED_BASENAMES:
            places[path.name].append(shown(path))
    found = [" and ".join(paths) for paths in places.values() if len(paths) > 1]
    verdict(found, "Rename one of each, so that a file name says where it is:")


def test_every_module_opens_with_one_sentence() -> None:
    found: list[str] = []
    for path in modules():
        opening = (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0]
        sentence = " ".join(opening.split()).replace("e.g. ", "").replace("i.e. ", "")
        if not sentence.endswith(".") or re.search(r"[.!?] [A-Z]", sentence):
            found.append(f"{shown(path)}: {opening[:80]!r}")
    verdict(
        found,
        "Open the module with one sentence on its purpose, ended by a full stop; what else must be "
        "said follows after an empty line:",
    )


def test_files_stay_small() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    found = [f"{shown(p)}: {n} lines" for p, n in sizes.items() if n > FILE_LINES_MAX]
    verdict(found, f"More than {FILE_LINES_MAX} lines hide two things; give each its module:")


def test_functions_fit_a_screen() -> None:
    found = [
        f"{shown(path)}:{node.lineno} {node.name}: {lines} lines"
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    verdict(found, f"More than {FUNCTION_LINES_MAX} lines: name its steps as functions:")


def test_no_any_where_meaning_lives() -> None:
    found = [
        f"{shown(path)}:{node.lineno}"
        for package in NO_ANY
        for path in sorted((SRC / "batchpoint" / package).rglob("*.py"))
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.ImportFrom) and any(a.name == "Any" for a in node.names))
        or (isinstance(node, ast.Attribute) and node.attr == "Any")
    ]
    verdict(found, "Say the type (`object`, `JsonValue`, a TypeVar) in place of `Any`:")


def test_the_worker_needs_only_the_standard_library_to_start() -> None:
    allowed = sys.stdlib_module_names | {"batchpoint_worker"}
    found = [
        f"{shown(path)}:{line} imports {name}"
        for path in sorted((SRC / "batchpoint_worker").rglob("*.py"))
        for line, name in imports(tree_of(path).body)
        if name.split(".")[0] not in allowed
    ]
    verdict(found, "Import it in the function that uses it; user environments may lack it:")


def test_the_worker_starts_without_site_packages() -> None:
    names = sorted(
        ".".join(path.relative_to(SRC).with_suffix("").parts)
        for path in (SRC / "batchpoint_worker").rglob("*.py")
        if path.name not in SHARED_BASENAMES
    )
    code = f"import sys, importlib\nsys.path.insert(0, {str(SRC)!r})\nfor name in {names!r}:\n"
    code += "    importlib.import_module(name)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (
        f"The worker must import with the standard library alone:\n{done.stderr}"
    )


def test_ours_uses_only_the_contract_of_the_worker() -> None:
    found = [
        f"{shown(path)}:{node.lineno} imports {name}"
        for path in sorted((SRC / "batchpoint").rglob("*.py"))
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for _, name in imports([node])
        if name.split(".")[0] == "batchpoint_worker" and name not in WORKER_CONTRACT
    ]
    verdict(found, "Import batchpoint_worker.protocol and run the rest by path:")


def test_importing_the_sdk_loads_no_server() -> None:
    code = "import batchpoint, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    verdict(sorted(loaded & SDK_FREE_OF), "`import batchpoint` must not load these; import late:")


def test_no_address_or_path_of_one_site() -> None:
    registry = "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "registry" + r"\.npmjs"))
    place = r"(?<![\w.:/-])/(?:work|root|opt/(?:pypi|wheels))/"
    pattern = re.compile(f"{registry}|{place}")
    found: list[str] = []
    for path in repository_files():
        if path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{shown(path)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if pattern.search(line)
        ]
    verdict(found, "This works on one machine or one site only; take it from the user's settings:")


def test_no_large_files() -> None:
    sizes = {path: path.stat().st_size for path in repository_files()}
    found = [f"{shown(p)}: {n} bytes" for p, n in sizes.items() if n > TRACKED_BYTES_MAX]
    verdict(found, "Generate it where it is needed, or list it in .gitignore:")


def test_the_locks_carry_hashes_and_no_addresses() -> None:
    found: list[str] = []
    for path in sorted((ROOT / "requirements").glob("*.lock")):
        text = path.read_text(encoding="utf-8")
        if "://" in text or re.search(r"^(--|-[ief] |\S+ @ )", text, re.MULTILINE):
            found.append(f"{shown(path)} names an address, an option or a path")
        hashed = re.findall(r"^\S+==[^\\\n]+\\\n    --hash=", text, re.MULTILINE)
        if len(hashed) != len(re.findall(r"^\S+==", text, re.MULTILINE)):
            found.append(f"{shown(path)} has a pin without a hash")
        found += [f"{shown(path)} pins {n}" for n in ("torch", "nvidia") if f"\n{n}" in text]
    verdict(found, "Run `make lock`:")


def test_the_lock_covers_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = list(project["project"]["dependencies"])
    for group in (project["project"]["optional-dependencies"], project["dependency-groups"]):
        asked += [requirement for requirements in group.values() for requirement in requirements]
    lock = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9][\w.-]*)", lock, re.MULTILINE))
    names = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in asked}
    verdict(sorted(names - pinned), "Run `make lock`; dev.lock lacks:")
