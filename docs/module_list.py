"""Writes the list of modules in architecture.md from their docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules -->\n", "<!-- /modules -->"


def module_list() -> str:
    """Return the list: every module with the first line of its docstring."""
    lines: list[str] = []
    for package in ("batchpoint", "batchpoint_worker"):
        folder = ROOT / "src" / package
        for path in sorted(folder.rglob("*.py"), key=lambda p: (p.parent.parts, p.name)):
            sentence = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]
            lines.append(f"- `{path.relative_to(ROOT / 'src')}`: {sentence}\n")
    return "".join(lines)


def page_with(listing: str) -> str:
    """Return the page with `listing` between its markers."""
    text = PAGE.read_text("utf-8")
    before, rest = text.split(BEGIN)
    return before + BEGIN + listing + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page_with(module_list()), "utf-8")
