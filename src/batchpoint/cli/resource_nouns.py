"""The verbs of a noun, made from one description of it: create, show, list, update and so on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchpoint.cli import command_options as options
from batchpoint.cli.command_tree import Command, new_app

if TYPE_CHECKING:  # commands import what they use when they run
    from batchpoint.cli.yaml_files import Loaded
    from batchpoint.client.client import Client
    from batchpoint.domain.asset import Model

Given = dict[str, Any]


@dataclass(frozen=True)
class FieldFlag:
    """An option that says one field of a noun; `update` takes it, too, when `changes`."""

    field: str
    names: tuple[str, ...]
    help: str
    kind: type = str
    least: int | None = None
    changes: bool = False

    @property
    def annotation(self) -> object:
        """What typer reads."""
        option = typer.Option(*self.names, help=self.help, min=self.least, show_default=False)
        return Annotated[self.kind | None, option]


@dataclass(frozen=True)
class ResourceNoun:
    """What the verbs of a noun need to know of it.

    `name` is its word, `a_name` and `names` what sentences say; `collection` is its attribute of
    `Client` and `load` the function of `batchpoint.cli.yaml_files` or `yaml_assets` that reads it
    (`module`). `row` gives the cells below `columns`.
    """

    name: str
    a_name: str
    names: str
    summary: str
    collection: str
    module: str
    load: str
    create: str
    columns: str
    row: Callable[[Any], list[str]]
    flags: tuple[FieldFlag, ...]
    versioned: bool = True
    delete: str = ""

    def loaded(self, given: Given, *, existing: Any = None, changes: bool = False) -> Loaded[Any]:
        """Read a noun from file, `--set` and flags, and tell the warnings."""
        from importlib import import_module

        from batchpoint.cli.error_report import warn

        load = getattr(import_module(f"batchpoint.cli.{self.module}"), self.load)
        flags: dict[str, tuple[str, object]] = {
            flag.field: (flag.names[0], given[_key(flag)])
            for flag in self.flags
            if not changes or flag.changes
        }
        if not changes:
            flags["name"] = ("--name", given["name"] or given["name_argument"])
            if self.versioned:
                flags["version"] = ("--version", given["version"])
        found = load(given.get("file"), given["sets"] or [], flags, existing=existing)
        warn(found.warnings)
        return found

    def wanted(self, given: Given) -> str:
        """Take the name that was given."""
        from batchpoint.cli.client_connection import given_name

        return given_name(given["name_argument"], given["name"], self.name)

    def verbs(self, client: Client) -> Any:
        """Give the SDK's verbs for the noun."""
        return getattr(client, self.collection)


_NAMED: Given = {"name_argument": options.NameArgument, "name": options.Name}
_SHOWN: Given = {"form": options.Form, "query": options.Query}
_WHICH: Given = {**_NAMED, "version": options.Version, "label": options.Label}


def new_noun(noun: ResourceNoun) -> typer.Typer:
    """Make the commands of a noun with versions, or the plain ones of another."""
    app = new_app(noun.summary)
    _create(app, noun)
    _show(app, noun)
    if noun.versioned:
        _list_versioned(app, noun)
        _update_versioned(app, noun)
        _hide(app, noun, "archive", f"Hide {noun.a_name} from lists and from `latest`")
        _hide(app, noun, "restore", f"Bring {noun.a_name} that was archived back")
    else:
        _list_plain(app, noun)
    _delete(app, noun)
    return app


def add_command(
    app: typer.Typer, verb: str, text: str, run: Callable[[Given], None], asked: Given
) -> None:
    """Add a command whose options are `asked` (key to what typer reads) and do `run` with them."""
    defaults = {"yes": False, "force": False, "max_results": 100}

    def command(**given: Any) -> None:
        run(given)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            key,
            kind,
            annotation=annotation,
            default=defaults.get(key, False if annotation in options.SWITCHES else None),
        )
        for key, annotation in asked.items()
    ]
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = dict(asked)
    command.__doc__ = text
    command.__name__ = f"{verb}_{app.info.name or 'noun'}"
    app.command(verb, cls=Command)(command)


def _key(flag: FieldFlag) -> str:
    return flag.field.replace(".", "_")


def _flags(noun: ResourceNoun, *, changes: bool = False) -> Given:
    return {_key(f): f.annotation for f in noun.flags if f.changes or not changes}


def _create(app: typer.Typer, noun: ResourceNoun) -> None:
    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected
        from batchpoint.cli.resource_view import show
        from batchpoint.cli.yaml_places import told_at_places

        loaded = noun.loaded(given)
        more = {"skip_validation": True} if given.get("skip_validation") else {}
        with connected() as client:
            with told_at_places(loaded.places):
                made = noun.verbs(client).create_or_update(loaded.noun, **more)
            show(made, given["form"], given["query"])

    asked = {"name_argument": options.NameArgument, "file": options.File, "name": options.Name}
    if noun.versioned:
        asked["version"] = options.NewVersion
    if noun.collection == "datastores":
        asked["skip_validation"] = options.SkipValidation
    add_command(
        app, "create", noun.create, run, {**asked, **_flags(noun), "sets": options.Sets, **_SHOWN}
    )


def _show(app: typer.Typer, noun: ResourceNoun) -> None:
    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected
        from batchpoint.cli.resource_view import show

        wanted = noun.wanted(given)
        which = (given["version"],) if noun.versioned else ()
        more = {"label": given["label"]} if given.get("label") else {}
        with connected() as client:
            show(noun.verbs(client).get(wanted, *which, **more), given["form"], given["query"])

    what = f"Show a version of {noun.a_name}." if noun.versioned else f"Show {noun.a_name}."
    add_command(app, "show", what, run, {**(_WHICH if noun.versioned else _NAMED), **_SHOWN})


def _list_versioned(app: typer.Typer, noun: ResourceNoun) -> None:
    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected
        from batchpoint.cli.resource_view import show_list

        only, name = given["archived_only"], given["name"] or given["name_argument"]
        with connected() as client:
            found: Any = noun.verbs(client).list(
                name, include_archived=only or given["include_archived"]
            )
            show_list(
                (asset for asset in found if asset.archived) if only else found,
                noun.columns,
                noun.row,
                limit=given["max_results"],
                form=given["form"],
                query=given["query"],
            )

    asked = {
        **_NAMED,
        "include_archived": options.IncludeArchived,
        "archived_only": options.ArchivedOnly,
        "max_results": options.MaxResults,
        **_SHOWN,
    }
    add_command(app, "list", f"List {noun.names}, or with a name the versions of one.", run, asked)


def _list_plain(app: typer.Typer, noun: ResourceNoun) -> None:
    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected
        from batchpoint.cli.resource_view import show_list

        with connected() as client:
            show_list(
                noun.verbs(client).list(),
                noun.columns,
                noun.row,
                limit=given["max_results"],
                form=given["form"],
                query=given["query"],
            )

    add_command(app, "list", f"List {noun.names}.", run,
                {"max_results": options.MaxResults, **_SHOWN})  # fmt: skip


def _update_versioned(app: typer.Typer, noun: ResourceNoun) -> None:
    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected
        from batchpoint.cli.resource_view import as_tree, merge_patch, need_change, show

        changed = [given[_key(flag)] for flag in noun.flags if flag.changes]
        need_change(given["sets"], changed, file=None)
        wanted = noun.wanted(given)
        with connected() as client:
            verbs = noun.verbs(client)
            more = {"label": given["label"]} if given["label"] else {}
            before: Model = verbs.get(wanted, given["version"], **more)
            tree = as_tree(before, f"{noun.name} {wanted}")
            loaded = noun.loaded(given, existing=tree, changes=True)
            patch = merge_patch(before, loaded.noun)
            show(verbs.update(wanted, before.version, patch), given["form"], given["query"])

    text = f"Change description, tags or properties of a version of {noun.a_name}; no more can."
    asked = {**_WHICH, **_flags(noun, changes=True), "sets": options.Sets, **_SHOWN}
    add_command(app, "update", text, run, asked)


def add_update(app: typer.Typer, noun: ResourceNoun, text: str) -> None:
    """Add `update` to a noun without versions: from a file, `--set` or flags."""

    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected
        from batchpoint.cli.resource_view import as_tree, merge_patch, need_change, show

        changed = [given[_key(flag)] for flag in noun.flags if flag.changes]
        need_change(given["sets"], changed, file=given["file"])
        with connected() as client:
            verbs = noun.verbs(client)
            if given["file"] is not None:
                flags = {_key(flag): None for flag in noun.flags} | given
                loaded = noun.loaded(flags)
                verbs.get(loaded.noun.name)  # an update makes nothing new
                updated = verbs.create_or_update(loaded.noun)
            else:
                wanted = noun.wanted(given)
                before = verbs.get(wanted)
                tree = as_tree(before, f"{noun.name} {wanted}")
                loaded = noun.loaded(given, existing=tree, changes=True)
                updated = verbs.update(wanted, merge_patch(before, loaded.noun))
            show(updated, given["form"], given["query"])

    asked = {"name_argument": options.NameArgument, "file": options.File, "name": options.Name}
    asked |= {**_flags(noun, changes=True), "sets": options.Sets, **_SHOWN}
    add_command(app, "update", text, run, asked)


def _hide(app: typer.Typer, noun: ResourceNoun, verb: str, text: str) -> None:
    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected

        wanted = noun.wanted(given)
        with connected() as client:
            verbs, version = noun.verbs(client), given["version"]
            if given["label"]:
                version = verbs.get(wanted, version, label=given["label"]).version
            getattr(verbs, verb)(wanted, version)

    add_command(app, verb, f"{text}; all its versions unless one is named.", run,
                {**_NAMED, "version": options.OneVersion, "label": options.Label})  # fmt: skip


def _delete(app: typer.Typer, noun: ResourceNoun) -> None:
    def run(given: Given) -> None:
        from batchpoint.cli.client_connection import connected
        from batchpoint.cli.resource_view import confirm_delete

        wanted = noun.wanted(given)
        what, version = f"{noun.name} {wanted!r}", given.get("version")
        if noun.versioned:
            what += f" version {version}" if version else " with all its versions"
        confirm_delete(what, yes=given["yes"])
        which = (version,) if noun.versioned else ()
        more = {"force": True} if given.get("force") else {}
        with connected() as client:
            noun.verbs(client).delete(wanted, *which, **more)

    asked = {**_NAMED, **({"version": options.OneVersion} if noun.versioned else {})}
    asked["yes"] = options.Yes
    if noun.collection == "datastores":
        asked["force"] = options.Force
    add_command(app, "delete", noun.delete, run, asked)
