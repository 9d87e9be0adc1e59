"""The nouns `model`, `environment`, `data`, `code`, `datastore` and `compute`."""

from __future__ import annotations

from typing import Any

from batchpoint.cli import command_options as options
from batchpoint.cli.resource_nouns import (
    FieldFlag,
    Given,
    ResourceNoun,
    add_command,
    add_update,
    new_noun,
)

_WORDS = FieldFlag("description", ("--description",), "Description.", changes=True)


def _path(text: str) -> FieldFlag:
    return FieldFlag("path", ("--path", "-p"), text)


def _type(text: str) -> FieldFlag:
    return FieldFlag("type", ("--type", "-t"), text)


def _made(asset: Any) -> list[str]:
    from batchpoint.cli.text_tables import moment

    return [moment(asset.created_at), "yes" if asset.archived else ""]


def _model_row(found: Any) -> list[str]:
    return [found.name or "", found.version or "", found.type, *_made(found)]


def _data_row(found: Any) -> list[str]:
    from batchpoint.cli.text_tables import short_hash

    path = short_hash(found.path)
    return [found.name or "", found.version or "", found.type, path, *_made(found)]


def _plain_row(found: Any) -> list[str]:
    return [found.name or "", found.version or "", *_made(found), found.description or ""]


model = new_noun(
    ResourceNoun(
        name="model",
        a_name="a model",
        names="models",
        summary="Manage registered models: numbered and immutable.",
        collection="models",
        module="yaml_files",
        load="load_model",
        create="Register a model: a new version unless one is given.",
        columns="model,version,type,created,archived",
        row=_model_row,
        flags=(
            _path("File or folder, or a URI (azureml://…, models:/…, runs:/…)."),
            _type("custom_model or mlflow_model."),
            _WORDS,
        ),
        delete="Delete a version of a model (all without --version); who uses it goes on.",
    )
)
environment = new_noun(
    ResourceNoun(
        name="environment",
        a_name="an environment",
        names="environments",
        summary="Manage registered environments: numbered and immutable.",
        collection="environments",
        module="yaml_files",
        load="load_environment",
        create="Register an environment: a new version unless one is given.",
        columns="environment,version,created,archived,description",
        row=_plain_row,
        flags=(
            FieldFlag("conda_file", ("--conda-file", "-c"), "Conda file."),
            FieldFlag("image", ("--image", "-i"), "Image; refused unless the settings map it."),
            _WORDS,
        ),
        delete="Delete a version of an environment (all without --version).",
    )
)
data = new_noun(
    ResourceNoun(
        name="data",
        a_name="a data asset",
        names="data assets",
        summary="Manage data assets: names for where data lies.",
        collection="data",
        module="yaml_assets",
        load="load_data",
        create="Register a data asset: a new version unless one is given. Nothing is copied, but "
        "what a server elsewhere could not read.",
        columns="data,version,type,path,created,archived",
        row=_data_row,
        flags=(
            _path("File, folder or URI."),
            _type("uri_folder, uri_file or mltable."),
            _WORDS,
        ),
        delete="Delete a version of a data asset (all without --version), not the data.",
    )
)
code = new_noun(
    ResourceNoun(
        name="code",
        a_name="a code asset",
        names="code assets",
        summary="Manage registered folders of scoring code that deployments share.",
        collection="codes",
        module="yaml_assets",
        load="load_code",
        create="Register a folder of scoring code: a new version unless one is given.",
        columns="code,version,created,archived,description",
        row=_plain_row,
        flags=(_path("Folder."), _WORDS),
        delete="Delete a version of a code asset (all without --version); who uses it goes on.",
    )
)


def _datastore_row(found: Any) -> list[str]:
    from batchpoint.cli.datastore_view import findings_in_short, place_of

    default = "yes" if found.is_default else ""
    access = found.credentials_type or "none"
    return [found.name, found.type, default, place_of(found), access, findings_in_short(found)]


_DATASTORE = ResourceNoun(
    name="datastore",
    a_name="a datastore",
    names="datastores; the two built-in ones are folders of this home",
    summary="Manage datastores: places where data lies, with what opens them.",
    collection="datastores",
    module="yaml_assets",
    load="load_datastore",
    create="Register a datastore, or update the one of this name; it is tried out first.",
    columns="datastore,type,default,place,credentials,self-test",
    row=_datastore_row,
    flags=(
        _type("azure_blob, azure_data_lake_gen2, s3, gcs, http or local."),
        _WORDS,
    ),
    versioned=False,
    delete="Forget a datastore and its credentials; the data stays.",
)
datastore = new_noun(_DATASTORE)
add_update(
    datastore, _DATASTORE, "Change a datastore; credentials that are not given stay as they are."
)


def _test_datastore(given: Given) -> None:
    from batchpoint.cli.client_connection import connected
    from batchpoint.cli.resource_view import show

    with connected() as client:
        show(client.datastores.test(_DATASTORE.wanted(given)), given["form"], given["query"])


add_command(
    datastore,
    "test",
    "Try a datastore out again: can it be read and written, does it honour conditional writes?",
    _test_datastore,
    {
        "name_argument": options.NameArgument,
        "name": options.Name,
        "form": options.Form,
        "query": options.Query,
    },
)


def _compute_row(found: Any) -> list[str]:
    idle = str(found.idle_time_before_scale_down)
    return [found.name, found.type, str(found.min_instances), str(found.max_instances), idle]


_COMPUTE = ResourceNoun(
    name="compute",
    a_name="a compute cluster",
    names="compute clusters",
    summary="Manage compute clusters; `local` is this machine and always there.",
    collection="computes",
    module="yaml_files",
    load="load_compute",
    create="Create a compute cluster, or update the one of this name.",
    columns="compute,type,min,max,idle seconds",
    row=_compute_row,
    flags=(
        _type("local or amlcompute."),
        FieldFlag("size", ("--size",), "Kept."),
        FieldFlag("tier", ("--tier",), "dedicated or low_priority; kept."),
        FieldFlag("min_instances", ("--min-instances",), "Instances kept.", int, 0, changes=True),
        FieldFlag("max_instances", ("--max-instances",), "Instances at most.", int, 1,
                  changes=True),
        FieldFlag(
            "idle_time_before_scale_down",
            ("--idle-time-before-scale-down",),
            "Seconds for which an idle instance stays warm.",
            int,
            0,
            changes=True,
        ),
        _WORDS,
    ),
    versioned=False,
    delete="Delete a compute cluster that no deployment uses.",
)  # fmt: skip
compute = new_noun(_COMPUTE)
add_update(compute, _COMPUTE, "Change a compute cluster; jobs that run keep what they have.")
