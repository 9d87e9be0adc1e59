"""Documentation and code tell the same story: each test compares one page with the code."""

import re
import sys
from importlib import import_module
from pathlib import Path

from batchpoint.api.problems import status_of
from batchpoint.domain.errors import CODES

DOCS = Path(__file__).resolve().parent.parent / "docs"


def headings(page: str, prefix: str) -> list[str]:
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(prefix).strip("`") for line in lines if line.startswith(prefix)]


def test_every_error_code_has_its_heading() -> None:
    found = headings("errors.md", "### ")
    assert len(found) == len(set(found))
    missing, unknown = set(CODES) - set(found), set(found) - set(CODES)
    assert not missing, f"docs/errors.md: add a heading with a paragraph for {sorted(missing)}"
    assert not unknown, f"docs/errors.md: no such code any more: {sorted(unknown)}"


def test_every_error_heading_says_something() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    for section in text.split("\n### ")[1:]:
        code, _, rest = section.partition("\n")
        paragraph = rest.split("\n## ")[0].strip()
        assert paragraph.endswith("."), f"docs/errors.md: {code} needs a sentence of its own"


def test_the_table_of_families_tells_their_status() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    for family in {type_ for type_ in CODES.values() if type_.__name__ != "BatchpointError"}:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{family.__name__}`"))
        assert f"| {status_of(family.code)}" in row, row


def test_the_list_of_modules_is_what_their_docstrings_say() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        module_list = import_module("module_list")
    finally:
        del sys.path[0]
    page = module_list.PAGE.read_text("utf-8")
    assert page == module_list.page_with(module_list.module_list()), "run `make docs`"


def test_links_between_pages_lead_somewhere() -> None:
    root = DOCS.parent
    pages = [*root.glob("*.md"), *DOCS.rglob("*.md"), *(root / "examples").rglob("*.md")]
    broken = [
        f"{page.relative_to(root)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken, f"repair or remove: {broken}"
