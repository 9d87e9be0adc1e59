"""MLflow's experiment for the steps of a pipeline, made before two of them make it at once.

In a folder store MLflow looks for an experiment and creates it in two steps, so that steps that
start together leave two of one name. The layout is that of MLflow's `FileStore`: a folder for each
experiment, named by its number, with `meta.yaml` in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

_META = "meta.yaml"
_DEFAULT = "Default"
_DEFAULT_ID = "0"
_ID_DIGITS = 18


def make_experiment(store: Path, name: str, now: datetime) -> None:
    """Make sure that a folder store has an experiment of a name; does nothing when it has.

    Safe to be called by many processes at once. Raises: OSError.
    """
    store.mkdir(parents=True, exist_ok=True)
    if _find(store, name):
        return
    # Whoever makes it at the same time makes the very same folder.
    number = _DEFAULT_ID if name == _DEFAULT else _number_of(name)
    made = Path(tempfile.mkdtemp(prefix=".mlflow-", dir=store.parent))
    try:
        made.chmod(store.stat().st_mode & 0o777)
        (made / _META).write_text(_meta(store / number, number, name, now), encoding="utf-8")
        with contextlib.suppress(FileExistsError, OSError):
            made.rename(store / number)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _number_of(name: str) -> str:
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest())
    return str(10 ** (_ID_DIGITS - 1) + digest % (9 * 10 ** (_ID_DIGITS - 1)))


def _find(store: Path, name: str) -> bool:
    import yaml  # noqa: PLC0415 - only pipelines with a folder store of MLflow read it

    for meta in store.glob(f"[0-9]*/{_META}"):
        with contextlib.suppress(OSError, yaml.YAMLError):
            known: object = yaml.safe_load(meta.read_text(encoding="utf-8"))
            if isinstance(known, dict) and known.get("name") == name:  # pyright: ignore[reportUnknownMemberType]
                return True
    return False


def _meta(folder: Path, number: str, name: str, now: datetime) -> str:
    import yaml  # noqa: PLC0415 - as above

    milliseconds = int(now.timestamp() * 1000)
    return yaml.safe_dump(
        {
            "artifact_location": folder.resolve().as_uri(),
            "creation_time": milliseconds,
            "experiment_id": number,
            "last_update_time": milliseconds,
            "lifecycle_stage": "active",
            "name": name,
        },
        allow_unicode=True,
    )
