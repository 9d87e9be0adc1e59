"""Keys of Azure's files that mean something else here: refused, ignored aloud, or read-only."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchpoint.cli.yaml_fields import Problem, refused
from batchpoint.cli.yaml_nodes import MapNode

_NO_CONTAINERS = "jobs run as processes, not in containers"
_NODES_BY_COUNT = "nodes are counted by resources.instance_count"
_ONLINE = "it belongs to online endpoints; remove it"
_WHERE_IT_LIES = "write where the files lie in `path`: azureml://datastores/NAME/paths/PATH"
_NO_EFFECT = "has no effect here and was ignored"


@dataclass(frozen=True)
class KeyRules:
    """What to do with keys that a noun does not have (its own unknown keys stay an error).

    `refused`: key to what to do instead. `ignored`: key to why leaving it out changes nothing.
    `read_only`: keys that `show` prints; dropped, because the server sets them.
    """

    refused: dict[str, str] = field(default_factory=dict[str, str])
    ignored: dict[str, str] = field(default_factory=dict[str, str])
    read_only: frozenset[str] = frozenset()


_SHOWN_BY_AZURE = frozenset({"id", "creation_context", "resourceGroup", "provisioning_state"})

ENDPOINT = KeyRules(
    refused={
        "identity": "an endpoint has no identity of its own; remove it",
        "kind": _ONLINE,
        "traffic": "batch endpoints have one default deployment: set defaults.deployment_name",
        "mirror_traffic": _ONLINE,
        "public_network_access": "`batchpoint serve` decides who may connect; remove it",
    },
    read_only=_SHOWN_BY_AZURE | {"scoring_uri", "openapi_uri", "created_at"},
)
DEPLOYMENT = KeyRules(
    refused={
        "component": "pipeline components are not supported yet; deploy a model (`type: model`)",
        "job_definition": "pipelines are not supported yet; deploy a model (`type: model`)",
        "identity": "a deployment runs as the server's user; remove it",
        "partition_keys": "input is cut by files and rows, not by key; remove it",
        "instance_type": _ONLINE,
        "instance_count": "write resources.instance_count",
        "request_settings": _ONLINE,
        "liveness_probe": _ONLINE,
        "readiness_probe": _ONLINE,
        "scale_settings": _ONLINE,
        "app_insights_enabled": _ONLINE,
    },
    read_only=_SHOWN_BY_AZURE | {"created_at"},
)
RESOURCES = KeyRules(
    refused={
        "docker_args": f"{_NO_CONTAINERS}; remove it",
        "max_instance_count": f"{_NODES_BY_COUNT} and do not grow; remove it",
    },
    ignored={
        "shm_size": f"{_NO_CONTAINERS} and share the machine's memory",
        "locations": "there is one location",
        "properties": "it configures Azure's schedulers",
    },
)
SETTINGS = KeyRules(
    refused={
        "default_compute": "it belongs to pipeline deployments, which are not supported yet",
        "default_datastore": "it belongs to pipeline deployments, which are not supported yet",
        "continue_on_step_failure": "it belongs to pipeline deployments, not supported yet",
        "force_rerun": "it belongs to pipeline deployments, which are not supported yet",
        "mini_batch_error_threshold": "failures are counted per item: use error_threshold",
        "partition_keys": "input is cut by files and rows, not by key; remove it",
    },
)
MODEL = KeyRules(
    refused={
        "stage": "models have no stages; write it into tags",
        "datastore": _WHERE_IT_LIES,
        "utc_time_created": "it is set by the server; remove it",
    },
    ignored={"flavors": "flavors are read from the model's own MLmodel file"},
    read_only=_SHOWN_BY_AZURE | {"created_at", "job_name", "archived", "latest_version"},
)
ENVIRONMENT = KeyRules(
    refused={
        "build": "images are not built here; write a conda_file or requirements",
        "channels": "put the conda file's content below conda_file",
        "dependencies": "put the conda file's content below conda_file",
        "datastore": "files of an environment are kept by the server; remove it",
    },
    ignored={"inference_config": "it configures online endpoints"},
    read_only=_SHOWN_BY_AZURE | {"created_at", "archived", "latest_version"},
)
DATA = KeyRules(
    refused={
        "stage": "data assets have no stages; write it into tags",
        "datastore": _WHERE_IT_LIES,
        "auto_delete_setting": "nothing is deleted by itself; remove it",
    },
    ignored={"skip_validation": "it is about looking into tables, which is not done"},
    read_only=_SHOWN_BY_AZURE | {"created_at", "archived", "latest_version", "referenced_uris"},
)
CODE = KeyRules(
    refused={
        "datastore": "files of code are kept by the server; remove it",
        "content_hash": "it is set by the server; remove it",
    },
    read_only=_SHOWN_BY_AZURE | {"created_at", "archived", "latest_version"},
)
DATASTORE = KeyRules(
    refused={
        "file_share_name": "file shares are not supported: write `type: local` with their path",
        "store_name": "Data Lake Gen1 is switched off; write `type: azure_data_lake_gen2`",
        "artifact": "OneLake is not supported",
        "one_lake_workspace_name": "OneLake is not supported",
    },
    read_only=_SHOWN_BY_AZURE | {"created_at", "credentials_type", "findings"},
)
CREDENTIALS = KeyRules(
    refused={
        "certificate": "give client_secret, sas_token or account_key",
        "thumbprint": "give client_secret, sas_token or account_key",
    },
    ignored={"resource_url": "it is always that of storage"},
)
_NO_MACHINES = "no machines are created for this cluster"
COMPUTE = KeyRules(
    refused={
        "resource_id": "attaching a cluster is not supported; create `type: local`",
        "namespace": "Kubernetes is not supported yet; create `type: local`",
    },
    ignored={
        "ssh_public_access_enabled": _NO_MACHINES,
        "ssh_settings": _NO_MACHINES,
        "network_settings": _NO_MACHINES,
        "identity": "jobs run as the server's user",
        "enable_node_public_ip": _NO_MACHINES,
    },
    read_only=_SHOWN_BY_AZURE | {"created_at"},
)
_PIPELINES = "pipeline jobs are not supported yet"
_OF_DEPLOYMENT = "it is a setting of the deployment"
_ONE_COMPUTE = "a job runs on its deployment's compute; only the instance count can be set"
JOB = KeyRules(
    refused={
        "jobs": _PIPELINES,
        "component": _PIPELINES,
        "output_action": _OF_DEPLOYMENT,
        "output_format": _OF_DEPLOYMENT,
        "split_files": _OF_DEPLOYMENT,
        "coalesce_files": _OF_DEPLOYMENT,
        "dataset": "say with inputs what to score: `inputs: {data: {type: uri_folder, path: …}}`",
        "partition_keys": "input is cut by files and rows, not by key; remove it",
        "identity": "a job runs as the server's user; remove it",
        "type": "a job file of a model deployment has no type; remove it",
        "input": "write inputs: {ANY: {type: uri_folder, path: …}}",
        "output": "write outputs: {ANY: {path: …}}",
    },
    ignored={"display_name": "jobs are shown by their names"},
    read_only=_SHOWN_BY_AZURE,
)
JOB_COMPUTE = KeyRules(
    refused={
        "target": _ONE_COMPUTE,
        "instance_type": _ONE_COMPUTE,
        "location": _ONE_COMPUTE,
        "properties": _ONE_COMPUTE,
    },
)
JOB_SETTINGS = KeyRules(
    refused={
        "output_action": _OF_DEPLOYMENT,
        "output_format": _OF_DEPLOYMENT,
        "split_files": _OF_DEPLOYMENT,
        "coalesce_files": _OF_DEPLOYMENT,
    },
)
JOB_PROPERTIES = KeyRules()
COMPUTE_TYPES_REFUSED = {
    "computeinstance": "a notebook machine cannot run batch jobs",
    "kubernetes": "Kubernetes is not supported yet",
    "synapsespark": "Spark is not supported",
    "virtualmachine": "attaching a machine is not supported",
}


def apply_rules(
    tree: MapNode, rules: KeyRules, problems: list[Problem], warnings: list[str], prefix: str = ""
) -> None:
    """Take out of `tree` what the rules name, and say so in `problems` and `warnings`."""
    for key in list(tree.items):
        name = f"{prefix}{key}"
        mark = tree.keys[key]
        if key in rules.refused:
            problems.append(refused(mark, name, f"is not supported: {rules.refused[key]}"))
        elif key in rules.ignored:
            warnings.append(f"{mark}: {name} {_NO_EFFECT}: {rules.ignored[key]}")
        elif key not in rules.read_only:
            continue
        tree.take(key)
