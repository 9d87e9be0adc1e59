"""How resources are shown, changed and deleted, whatever their kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar, cast

import typer
from pydantic import BaseModel

from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.progress_printers import to_stderr
from batchpoint.cli.render import emit, formatted, terminal_width
from batchpoint.cli.text_tables import table
from batchpoint.cli.yaml_nodes import MapNode, Mark
from batchpoint.cli.yaml_overrides import tree_of
from batchpoint.domain.datastore import Datastore
from batchpoint.domain.errors import Invalid

N = TypeVar("N", bound=BaseModel)

# What the server sets: never sent back, never compared.
SERVER_FIELDS = frozenset(
    {
        "scoring_uri",
        "provisioning_state",
        "created_at",
        "archived",
        "credentials_type",
        "findings",
    }
)


def show(noun: BaseModel, form: OutputForm | None, query: str | None) -> None:
    """Print one resource; people get the YAML that would make it."""
    emit(noun, form=form, query=query, text=lambda: _as_yaml(noun))


def _as_yaml(noun: BaseModel) -> str:
    """Write a resource as YAML, what was found about a datastore in words below it."""
    if not isinstance(noun, Datastore):
        return formatted(_told(noun), OutputForm.YAML)
    from batchpoint.cli.datastore_view import findings_lines

    lines = "".join(f"# {line}\n" for line in findings_lines(noun))
    return formatted(_told(noun.model_copy(update={"findings": None})), OutputForm.YAML) + lines


def _told(noun: BaseModel) -> object:
    """Leave out what says nothing."""
    told = noun.model_dump(mode="json", exclude_none=True)
    if isinstance(noun, Datastore) and "://" in (noun.endpoint or ""):
        told.pop("protocol", None)  # the endpoint says it
    usual = [key for key in ("archived", "is_default") if told.get(key) is False]
    return _without_empty({key: value for key, value in told.items() if key not in usual})


def _without_empty(value: object) -> object:
    if not isinstance(value, dict):
        return value
    entries = {key: _without_empty(item) for key, item in cast("dict[str, object]", value).items()}
    return {key: item for key, item in entries.items() if item not in ({}, [])}


def show_list(
    nouns: Iterable[N],
    headers: str,
    row: Callable[[N], list[str]],
    *,
    limit: int,
    form: OutputForm | None,
    query: str | None,
) -> None:
    """Print up to `limit` resources; people get a table with `headers` (separated by commas)."""
    found = list(islice(nouns, limit))

    def text() -> str:
        if not found:
            to_stderr("There are none.")
            return ""
        columns = headers.split(",")
        return table(columns, [row(noun) for noun in found], terminal_width(), whole=columns[:2])

    emit(found, form=form, query=query, text=text, text_is_table=True)


def as_tree(noun: BaseModel, name: str) -> MapNode:
    """Turn a resource as the server has it into the tree of a file, ready for `--set`."""
    data = noun.model_dump(mode="json", exclude_none=True)
    tree = tree_of(
        {key: value for key, value in data.items() if key not in SERVER_FIELDS}, Mark(name, 0, 0)
    )
    assert isinstance(tree, MapNode)
    return tree


def merge_patch(before: BaseModel, after: BaseModel) -> dict[str, object]:
    """Give the JSON merge patch (RFC 7396) from one state of a resource to another."""

    def data(noun: BaseModel) -> dict[str, object]:
        dumped = noun.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in dumped.items() if key not in SERVER_FIELDS}

    patch = _difference(data(before), data(after))
    if isinstance(after, Datastore) and after.credentials is not None:
        patch["credentials"] = after.credentials.revealed()
    return patch


def _difference(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    patch: dict[str, object] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            below = _difference(cast("dict[str, object]", old), cast("dict[str, object]", value))
            if below:
                patch[key] = below
        elif key not in before or old != value:
            patch[key] = value
    return patch


def confirm_delete(what: str, *, yes: bool) -> None:
    """Ask before something is deleted.

    Raises:
        Invalid: When nobody can be asked and `--yes` was not given.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid(f"deleting {what} asks first, and nobody can answer here; give --yes")
    if not typer.confirm(f"Delete {what}?", err=True):
        raise typer.Exit(1)


def need_change(sets: Sequence[str] | None, flags: Sequence[object], *, file: object) -> None:
    """Refuse an update that says nothing. Raises: Invalid."""
    if not sets and file is None and all(flag is None for flag in flags):
        raise Invalid("nothing is to be updated: give --file, --set KEY=VALUE or another option")
