"""Looking at a scoring script without running it, so that mistakes show when it is deployed."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_spec import ResolvedCode

_CODE = "scoring_script_invalid"
_EVERYTHING = "*"


def check_scoring_script(code: ResolvedCode) -> None:
    """Check that the script is in the code folder, compiles, and defines `init()` and `run(…)`.

    They may be defined, assigned or imported; after `from x import *` nothing is known to be
    missing. Raises: Invalid (`scoring_script_invalid`) with file, line and column.
    """
    folder, script = Path(code.path), code.scoring_script
    if not folder.is_dir():
        raise Invalid(
            f"{folder.name!r} is a file; give the folder that holds the scoring script",
            code=_CODE,
            where="code_configuration.code",
        )
    names = PurePosixPath(script)
    path = folder / names
    if names.is_absolute() or ".." in names.parts or not path.is_file():
        there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.py"))[:10]
        raise Invalid(
            f"there is no file {script!r} in the code folder {folder.name!r}; it holds "
            + (", ".join(there) or "no Python files"),
            code=_CODE,
            where="code_configuration.scoring_script",
        )
    tree = _parse(path.read_bytes(), script)
    defined = dict(_names(tree.body))
    for name, wanted in (("init", "init()"), ("run", "run(mini_batch)")):
        if name in defined:
            _check_signature(defined[name], name, script)
        elif _EVERYTHING not in defined:
            raise Invalid(
                f"no {wanted} is defined at the top level; a scoring script needs init() and "
                "run(mini_batch)",
                code=_CODE,
                where=f"{script}:1:1",
            )


def _parse(source: bytes, script: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, filename=script)
    except SyntaxError as error:
        raise Invalid(
            f"syntax error: {error.msg}"
            + (f" in `{error.text.strip()[:100]}`" if error.text else ""),
            code=_CODE,
            where=f"{script}:{error.lineno or 1}:{error.offset or 1}",
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Invalid(
            f"cannot be read as Python: {error}", code=_CODE, where=f"{script}:1:1"
        ) from error


def _names(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield each name that a module may define, with the statement that does; the last one wins."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name, statement
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    yield alias.asname or alias.name.split(".")[0], statement
            case ast.Assign() | ast.AnnAssign():
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                )
                for target in targets:
                    for node in ast.walk(target):
                        if isinstance(node, ast.Name):
                            yield node.id, statement
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try():
                for field in ("body", "orelse", "finalbody"):
                    yield from _names(getattr(statement, field, []))
                for handler in getattr(statement, "handlers", []):
                    yield from _names(handler.body)
            case _:
                pass


def _check_signature(statement: ast.stmt, name: str, script: str) -> None:
    flaw = None
    if isinstance(statement, ast.AsyncFunctionDef):
        flaw = f"{name} must be a plain function, not `async def`"
    elif isinstance(statement, ast.FunctionDef):
        given = statement.args
        positional = len(given.posonlyargs) + len(given.args)
        needed = positional - len(given.defaults)
        needed_by_name = sum(default is None for default in given.kw_defaults)
        if name == "init" and (needed or needed_by_name):
            flaw = "init() is called without arguments"
        elif name == "run" and positional == 0 and given.vararg is None:
            flaw = "run(mini_batch) is called with one argument: the list of file paths"
        elif name == "run" and (needed > 1 or needed_by_name):
            flaw = "run(mini_batch) is called with one argument only"
    if flaw is not None:
        raise Invalid(
            flaw, code=_CODE, where=f"{script}:{statement.lineno}:{statement.col_offset + 1}"
        )
