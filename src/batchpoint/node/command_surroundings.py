"""What a command finds around it: its variables, its interpreter first on the path, its folder."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from batchpoint.core.binding import Kind, variable_of
from batchpoint.domain.errors import Invalid
from batchpoint.node.command_order import CommandOrder
from batchpoint.node.tree_copy import copy_file, copy_tree
from batchpoint.node.worker_launch import THREAD_VARIABLES, cores, inherited_variables

_SHELLS = ("bash", "sh")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def shell_command(text: str, path: str) -> list[str]:
    """Return the arguments that run a text in bash, or in sh where there is none.

    Raises: Invalid (`environment_invalid`): neither is on `path`.
    """
    for name in _SHELLS:
        found = shutil.which(name, path=path) or shutil.which(name, path=_DEFAULT_PATH)
        if found is not None:
            return [found, "-c", text]
    raise Invalid(f"there is neither bash nor sh on PATH ({path})", code="environment_invalid")


def variables(
    order: CommandOrder, values: Mapping[tuple[Kind, str], str], scratch: Path
) -> dict[str, str]:
    """Return all environment variables of a command; a folder for its path may be made.

    The step's own win over ours, but those that hold the values of its placeholders over all.

    Raises: OSError: the folder cannot be made below `scratch`.
    """
    inherited = inherited_variables()
    python = Path(order.spec.environment.python)
    ours = {
        "PATH": _path(python, inherited.get("PATH") or _DEFAULT_PATH, scratch),
        "PYTHONUNBUFFERED": "1",
        "BATCHPOINT_JOB": order.job,
        "AZUREML_RUN_ID": order.job,
        **dict.fromkeys(THREAD_VARIABLES, str(cores())),
    }
    if (python.parent.parent / "pyvenv.cfg").is_file():
        ours["VIRTUAL_ENV"] = str(python.parent.parent)
    bound = {variable_of(kind, name): text for (kind, name), text in values.items()}
    return inherited | ours | dict(order.variables) | dict(order.spec.environment_variables) | bound


def _path(python: Path, inherited: str, scratch: Path) -> str:
    """Put the folder of the interpreter first, and before it one where it is called `python`."""
    folders = [str(python.parent), inherited]
    wrong = [name for name in ("python", "python3") if not _is(python.parent / name, python)]
    if wrong:
        folder = scratch / "bin"
        folder.mkdir(parents=True)
        for name in wrong:
            # No link: an interpreter looks for its environment beside the name it was called by.
            wrapper = folder / name
            wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n', "utf-8")
            wrapper.chmod(0o755)
        folders.insert(0, str(folder))
    return os.pathsep.join(folders)


def _is(path: Path, python: Path) -> bool:
    try:
        return path.samefile(python)
    except OSError:
        return False


def working_folder(order: CommandOrder, scratch: Path) -> Path:
    """Make the folder in which a command runs: a private copy of its code, or an empty one.

    Raises: OSError.
    """
    folder = scratch / "code"
    code = order.spec.code
    if code is None:
        folder.mkdir()
        return folder
    source = Path(code.path)
    if source.is_dir():
        copy_tree(source, folder)
    else:
        folder.mkdir()
        copy_file(source, folder / source.name)
    return folder
