"""Code, environment and model where files name them: canonical references, absolute paths."""

from __future__ import annotations

from pathlib import Path

from batchpoint.cli.yaml_fields import refused
from batchpoint.cli.yaml_files import Source, check_environment, check_model
from batchpoint.cli.yaml_nodes import MapNode, ScalarNode
from batchpoint.client.pointers import found_at, local_path
from batchpoint.domain.errors import Invalid
from batchpoint.domain.references import (
    DatastorePath,
    JobOutputPath,
    Location,
    MlflowModel,
    MlflowRun,
    UploadReference,
    asset_reference,
    is_reference,
    is_uri,
    model_source,
)


def check_environment_field(source: Source, tree: MapNode, prefix: str) -> None:
    """Bring `environment` to a reference or an inline asset."""
    node = tree.items.get("environment")
    if isinstance(node, MapNode):
        check_environment(source, node, f"{prefix}environment.")
    elif isinstance(node, ScalarNode) and isinstance(node.value, str):
        try:
            node.value = str(asset_reference(node.value, "environment"))
        except Invalid as error:
            source.refuse(node, f"{prefix}environment", error.message, error.code)


def check_model_field(source: Source, tree: MapNode, prefix: str) -> None:
    """Bring `model` to a reference or an inline asset; a path is one of these."""
    node = tree.items.get("model")
    if isinstance(node, MapNode):
        check_model(source, node, f"{prefix}model.")
        return
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return
    if _means_a_path(node.value, source.folder_of(node)):
        asset = MapNode(node.mark)
        asset.put("path", node.mark, ScalarNode(node.mark, node.value))
        tree.put("model", tree.keys["model"], asset)
        check_model(source, asset, f"{prefix}model.")
        return
    try:
        node.value = str(asset_reference(node.value, "model"))
    except Invalid as error:
        source.refuse(node, f"{prefix}model", error.message, error.code)


def check_code(
    source: Source,
    tree: MapNode,
    prefix: str,
    *,
    script: str | None = None,
    code: str = "component_invalid",
) -> None:
    """Make the folder of `code` absolute, or its reference canonical.

    `script` is the key of a file that has to be in that folder; `code` that of what is wrong.
    """
    node = tree.items.get("code")
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
        return  # said by the validation of the noun
    name, text = f"{prefix}code", node.value
    if text.startswith("upload:"):
        return
    if is_reference(text):
        try:
            node.value = str(asset_reference(text, "code"))
        except Invalid as error:
            source.refuse(node, name, error.message, error.code)
        return
    if is_uri(text):
        sentence = f"{text!r} is not supported: give a local folder or a registered code asset"
        source.problems.append(refused(node.mark, name, sentence))
        return
    folder = local_path(text, source.folder_of(node))
    if found_at(folder) != "folder":
        source.refuse(node, name, f"no folder is at {str(folder)!r}", code)
        return
    node.value = str(folder)
    wanted = tree.items.get(script) if script else None
    if not isinstance(wanted, ScalarNode) or not isinstance(wanted.value, str):
        return  # said by the validation of the noun, where it is needed
    if not _inside(folder, wanted.value):
        sentence = f"no file {wanted.value!r} is in the code folder {str(folder)!r}"
        source.refuse(wanted, f"{prefix}{script}", sentence, code)


def _means_a_path(text: str, folder: Path) -> bool:
    """Tell whether a field `model` says where files lie, and not which model it is."""
    try:
        found = model_source(text)
    except Invalid:
        return False
    if isinstance(found, Location):
        return (
            is_uri(text)
            or text.startswith((".", "/", "~"))
            or "/" in text
            or found_at(local_path(text, folder)) is not None
        )
    return isinstance(
        found, DatastorePath | JobOutputPath | MlflowModel | MlflowRun | UploadReference
    )


def _inside(folder: Path, script: str) -> bool:
    """Tell whether a regular file is really (links followed) in a folder."""
    try:
        found = (folder / script).resolve()
        return found.is_relative_to(folder.resolve()) and found_at(found) == "file"
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return False
