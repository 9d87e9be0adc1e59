"""What a caller points at: files of this machine, URIs, or something that is registered."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from batchpoint.domain import limits
from batchpoint.domain.component import DataType
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput
from batchpoint.domain.references import (
    InputKind,
    Location,
    MlflowModel,
    MlflowRun,
    data_reference,
    is_reference,
    is_uri,
    kind_by_name,
)

_FILE = "file://"
_MODELS: tuple[DataType, ...] = ("mlflow_model", "custom_model")


def local_path(text: str, folder: Path) -> Path:
    """Make a path that is written in a file of `folder` absolute; `~` is the user's home."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # `~nobody`: taken literally, and then not found
        path = Path(text)
    return Path(os.path.normpath(folder / path))


def found_at(path: Path) -> Literal["file", "folder", "other"] | None:
    """Tell what is at a path; None for nothing, and for what cannot be a path at all."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def is_local(uri: str) -> bool:
    """Tell whether a pointer is a plain path: a file or folder of the caller's machine."""
    return not is_uri(uri) and not is_reference(uri)


def is_asset(uri: str) -> bool:
    """Tell whether a pointer in its canonical form names a data asset."""
    return uri.startswith("azureml:") and not uri.startswith("azureml://")


def data_uri(text: str, folder: Path) -> str:
    """Bring a pointer to data to its canonical form: a URI, a reference or an absolute path.

    Raises: Invalid (`reference_invalid`) for something that is no data.
    """
    found = data_reference(text)
    if isinstance(found, MlflowModel | MlflowRun):
        raise Invalid(
            f"{text!r} is a model of MLflow; give a path, a URI or a data asset",
            code="reference_invalid",
        )
    if isinstance(found, Location):
        return text if is_uri(text) else str(local_path(text, folder))
    return str(found)


def data_type(uri: str) -> InputKind:
    """Tell whether data is one file or a folder: by looking, or by the last name's suffix."""
    local = Path(uri.removeprefix(_FILE))
    if is_local(uri) or uri.startswith(_FILE):
        return "uri_file" if found_at(local) == "file" else "uri_folder"
    return kind_by_name(uri)


def job_input(
    texts: Sequence[str],
    folder: Path,
    *,
    kind: DataType | None = None,
    pattern: str | None = None,
) -> JobInput:
    """Make the input of a job from one or several pointers.

    Args:
        texts: paths (with wildcards, too), URIs, references; at least one.
        folder: where relative paths begin.
        kind: what they are, files or folders or of another type; None: found by looking.
        pattern: which items of a folder to take; None: those of the wildcards, or all.

    Raises:
        Invalid: `reference_invalid`; `field_invalid` for pointers that do not go together.
    """
    if len(texts) > limits.INPUT_URIS_MAX:
        raise Invalid(
            f"{len(texts):,} inputs are more than {limits.INPUT_URIS_MAX:,}: point at their "
            "folder, with a pattern where needed",
            code="field_invalid",
        )
    places = [_place(text, folder, is_model=kind in _MODELS) for text in texts]
    wildcards = {place.pattern for place in places}
    if wildcards != {None}:
        if pattern is not None or len(wildcards) > 1:
            raise Invalid(
                "wildcards have to be the same in every input of a job; give folders, and one "
                "pattern for all of them (--input-pattern)",
                code="field_invalid",
            )
        [pattern] = wildcards
    uris = [place.uri for place in places]
    if kind is None:
        kind = "uri_folder" if pattern is not None else _common_type(uris)
    told: dict[str, object] = {"type": kind}
    told |= {"uri": uris[0]} if len(uris) == 1 else {"uris": tuple(uris)}
    if pattern is not None:
        told["pattern"] = pattern
    return JobInput.model_validate(told)


class _Place(NamedTuple):
    uri: str
    pattern: str | None


def _place(text: str, folder: Path, *, is_model: bool) -> _Place:
    """Read one pointer; what lies there under that very name is no wildcard."""
    from batchpoint.core.path_pattern import split_pattern  # noqa: PLC0415

    if is_model:
        return _Place(str(local_path(text, folder)) if is_local(text) else text, None)
    uri = data_uri(text, folder)
    if is_local(uri):
        found = None if found_at(Path(uri)) else split_pattern(uri)
    elif uri.startswith(("http:", "https:", "upload:")):
        found = None
    else:
        found = split_pattern(uri, question_mark=False)
    if found is None:
        return _Place(uri, None)
    above, pattern = found
    return _Place(above.rstrip("/") or "/" if is_local(uri) else above, pattern)


def _common_type(uris: Sequence[str]) -> InputKind:
    """Tell what all of them are; data assets are what the server knows of them."""
    kinds: dict[str, InputKind] = {uri: data_type(uri) for uri in uris if not is_asset(uri)}
    return common_type(kinds) if kinds else "uri_folder"


def common_type(kinds: Mapping[str, InputKind]) -> InputKind:
    """Return the one type of all inputs. Raises: Invalid (`field_invalid`) when they differ."""
    if len(set(kinds.values())) > 1:
        file, folder = (
            next(uri for uri in kinds if kinds[uri] == kind) for kind in ("uri_file", "uri_folder")
        )
        raise Invalid(
            f"{file!r} is a file and {folder!r} a folder: several inputs have to be all files or "
            "all folders (--input-type says so where a name does not tell)",
            code="field_invalid",
        )
    return next(iter(kinds.values()))
