"""An `az` for scripts written around Azure ML batch endpoints: reads theirs, runs ours."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from batchpoint.cli.az_command_line import AzCommand, Shape, read_az
from batchpoint.cli.command_tree import Command, new_app
from batchpoint.cli.error_report import report
from batchpoint.cli.render import formatted, queried
from batchpoint.domain.errors import Conflict, Invalid
from batchpoint.domain.references import WORKSPACE_ID

az_shim = new_app()

_MARK = "batchpoint.cli.az_shim"
_DONE_WITH_FAILED_ITEMS = 3
_STEP_TYPES = {"command": "command", "score": "parallel", "pipeline": "pipeline"}
_COLLECTIONS = {
    "batch-endpoint": "batchEndpoints",
    "model": "models",
    "environment": "environments",
    "data": "data",
    "datastore": "datastores",
    "component": "components",
    "compute": "computes",
}


@az_shim.command(cls=Command)
def az_shim_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to put the program `az`; made if missing.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace another program of that name.")
    ] = False,
) -> None:
    """Install an `az` that runs scripts of `az ml` commands with batchpoint, on request.

    Put the folder first on PATH for the scripts that shall use it; Azure's own `az` stays as it is.
    """
    target = install(folder, force=force)
    path = shlex.quote(str(target.parent))
    sys.stdout.write(f"{target}\n")
    sys.stderr.write(f"use it with: export PATH={path}:$PATH\n")


def install(folder: Path, *, force: bool) -> Path:
    """Write the program `az` into a folder and return its path.

    Raises:
        Conflict: there is another program of that name.
        Invalid: the folder cannot be written.
    """
    target = folder.expanduser().absolute() / "az"
    script = (
        "#!/bin/sh\n"
        f"# The az of {_MARK}: runs `az ml` commands with batchpoint.\n"
        f'exec {shlex.quote(sys.executable)} -m {_MARK} "$@"\n'
    )
    try:
        if target.exists() and not force and _MARK not in target.read_text(errors="replace"):
            raise Conflict(f"{target} is another program; name another folder, or give --force")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".az.{os.getpid()}")
        fresh.write_text(script)
        fresh.chmod(0o755)
        fresh.replace(target)
    except OSError as error:
        raise Invalid(f"{target} cannot be written: {error.strerror}") from error
    return target


def run_az(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run one az command line and give its exit code."""
    try:
        command = read_az(argv, environ.get("AZURE_CORE_OUTPUT", "json"))
        if not command.arguments:
            return _print(command, command.answer)
        return _run_ours(command, environ)
    except Exception as error:  # noqa: BLE001 - the bulkhead of this command line
        return report(error, as_json=False)


def _run_ours(command: AzCommand, environ: Mapping[str, str]) -> int:
    from batchpoint.cli.main import run
    from batchpoint.settings import Settings

    if command.shape in ("stream", "as_is", "nothing"):
        code = run(command.arguments)
        # az knows no such outcome; its scripts read the status, which is Completed.
        return 0 if code == _DONE_WITH_FAILED_ITEMS else code
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run([*command.arguments, "--output", "json"], errors_as_json=False)
    if code:
        return code
    data: object = json.loads(printed.getvalue() or "null")
    page = (Settings.load(environ).url or "").rstrip("/")
    shaped = _shaped(command.shape, command.arguments[0], data, page)
    if command.web:
        _tell_page(shaped)
    return _print(command, shaped)


def _shaped(shape: Shape, noun: str, data: object, page: str) -> object:
    if isinstance(data, list):
        one: Shape = "job" if shape == "jobs" else "resource"
        return [_shaped(one, noun, item, page) for item in cast("list[object]", data)]
    if not isinstance(data, dict):
        return data
    entry = cast("dict[str, Any]", data)
    return az_job(entry, page) if shape == "job" else _az_resource(noun, entry)


def az_job(job: dict[str, Any], page: str) -> dict[str, Any]:
    """Give a job in the shape of `az ml job show`: `status` is one word.

    `page` is the server's address, or empty when there is none.
    """
    spec, status, step = job["spec"], job["status"], job["spec"].get("step")
    name, kind = job["name"], spec.get("type", "score")
    return {
        "name": name,
        # A step goes by its name there, whatever its component is called.
        "display_name": step["name"] if step else spec.get("display_name") or name,
        "id": f"{WORKSPACE_ID}/jobs/{name}",
        # A job that scores is a pipeline of one step there.
        "type": _STEP_TYPES[kind] if step else "pipeline",
        "status": status["state"],
        "experiment_name": spec["experiment_name"] or spec["endpoint_name"],
        "description": spec["description"],
        "tags": spec["tags"],
        "properties": {
            "endpoint_name": spec["endpoint_name"],
            "deployment_name": spec["deployment_name"],
            **({"parent_job_name": step["parent"]} if step else {}),
        },
        "creation_context": {"created_at": job["created_at"]},
        "inputs": _az_inputs(spec),
        "outputs": _az_outputs(job),
        "progress": status["progress"],
        "error": status["error"],
        "warnings": status["warnings"],
        "services": {"Studio": {"endpoint": f"{page}/jobs/{name}" if page else None}},
    }


def _az_inputs(spec: dict[str, Any]) -> dict[str, Any]:
    """Give the inputs of a job by name; what other steps write is bound as in a file."""
    if spec.get("type", "score") == "pipeline":
        return spec["inputs"]
    if spec.get("step") is None:
        return {"data": spec["input"]}
    return {name: _az_step_input(given) for name, given in spec["step"]["inputs"].items()}


def _az_step_input(given: dict[str, Any]) -> object:
    if given["output"] is not None:
        bound = given["output"]
        return f"${{{{parent.jobs.{bound['step']}.outputs.{bound['output']}}}}}"
    return given["data"] if given["data"] is not None else given["value"]


def _az_outputs(job: dict[str, Any]) -> dict[str, Any]:
    """Give the outputs of a job by name, those that are not there yet without a path."""
    spec, status = job["spec"], job["status"]
    published = cast("dict[str, dict[str, Any]]", status.get("outputs") or {})
    told: dict[str, Any] = {
        name: {"type": o["type"], "path": o["uri"]} for name, o in published.items()
    }
    if spec.get("type", "score") == "pipeline":
        return {name: told.get(name, {"type": None, "path": None}) for name in spec["outputs"]}
    if spec.get("step") is not None:
        expected = spec["step"]["outputs"].items()
        return {name: told.get(name, {"type": o["type"], "path": o["uri"]}) for name, o in expected}
    path = status["output_uri"] or spec["output"]["uri"]
    return {"score": {"type": "uri_folder", "path": path}}


def _az_resource(noun: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Add the long id by which az scripts hand resources on."""
    if noun == "batch-deployment":
        owner = f"{WORKSPACE_ID}/batchEndpoints/{entry['endpoint_name']}"
        return {"id": f"{owner}/deployments/{entry['name']}", **entry}
    collection = _COLLECTIONS.get(noun)
    if collection is None or "name" not in entry:
        return entry
    version = f"/versions/{entry['version']}" if entry.get("version") else ""
    return {"id": f"{WORKSPACE_ID}/{collection}/{entry['name']}{version}", **entry}


def _tell_page(shaped: object) -> None:
    """Print the address that `--web` would open."""
    page = None
    if isinstance(shaped, dict):
        page = cast("dict[str, Any]", shaped).get("services", {}).get("Studio", {}).get("endpoint")
    told = page or "there is no page without a server: start `batchpoint serve`"
    sys.stderr.write(f"{told}\n")


def _print(command: AzCommand, data: object) -> int:
    if command.shape == "nothing" or data is None:
        return 0
    if command.query is not None:
        data = queried(data, command.query)
    shown = formatted(data, command.form)
    if shown:
        sys.stdout.write(f"{shown}\n")
    return 0


def main() -> None:
    """Be the `az` that `batchpoint az-shim` installs."""
    code = run_az(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
