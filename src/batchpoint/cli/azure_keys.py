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
        "component": "it belongs to pipelines: write `type: pipeline`",
        "job_definition": "it belongs to pipelines: write `type: pipeline`",
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
        "default_compute": "it belongs to pipeline deployments; write compute",
        "default_datastore": "it belongs to pipeline deployments; remove it",
        "continue_on_step_failure": "it belongs to pipeline deployments; remove it",
        "force_rerun": "it belongs to pipeline deployments; remove it",
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
# Ways of reaching data that only Azure has; for its types see `domain.component.TYPES_REFUSED`.
_MODES = "write ro_mount, download or direct"
MODES_REFUSED = {"eval_mount": _MODES, "eval_download": _MODES}
_AS_STEPS = "write it as commands, or as components of type command and parallel"
STEP_TYPES_REFUSED = {
    "sweep": _AS_STEPS,
    "automl": _AS_STEPS,
    "spark": _AS_STEPS,
    "data_transfer": _AS_STEPS,
    "import": "register the data with `batchpoint data create`",
    "finetuning": _AS_STEPS,
}
_SERVERS_USER = "steps run as the server's user; remove it"
_NO_CLUSTERS = "a command runs once, on one node; remove it"
_OF_COMPONENTS: dict[str, str] = {
    "distribution": _NO_CLUSTERS,
    "additional_includes": "put these files into the folder of `code`",
    "identity": _SERVERS_USER,
    "services": "nothing but the command runs; remove it",
    "queue_settings": "steps start as soon as there is room on their compute; remove it",
    "partition_keys": "input is cut by files and rows, not by key; remove it",
    "task_type": "it belongs to another service; remove it",
}
_SHOWN_OF_COMPONENTS = _SHOWN_BY_AZURE | {
    "created_at",
    "archived",
    "latest_version",
    "_source",
    "base_path",
    "creation_context",
}
_COMPONENT = KeyRules(refused=_OF_COMPONENTS, read_only=_SHOWN_OF_COMPONENTS)
COMPONENTS = {
    "command": _COMPONENT,
    "parallel": _COMPONENT,
    "pipeline": KeyRules(
        refused={
            **_OF_COMPONENTS,
            "settings": "they belong to the pipeline job or deployment; remove them",
            "source_job": "write the steps, or deploy the job with `job_definition`",
        },
        read_only=_SHOWN_OF_COMPONENTS,
    ),
}
TASK = KeyRules(refused={"image": "write environment"})
STEP = KeyRules(
    refused={**_OF_COMPONENTS, "settings": "they belong to the pipeline job; remove them"},
)
PIPELINE_JOB = KeyRules(
    refused={
        "identity": "a job runs as the server's user; remove it",
        "services": "nothing but the steps runs; remove it",
        "schedule": "jobs start when they are created; remove it",
        "trigger": "jobs start when they are created; remove it",
        "source_job_id": "write the steps, or name a component",
    },
    read_only=_SHOWN_BY_AZURE | {"status", "created_at", "log_files"},
)
PIPELINE_SETTINGS = KeyRules(
    refused={
        "continue_run_on_failed_optional_input": (
            "a step whose input is missing does not run; remove it"
        ),
        "on_init": "write it as a step that the others need",
        "on_finalize": "write it as a step, or use webhook_url",
    },
)
PIPELINE_DEPLOYMENT = KeyRules(
    refused={
        "identity": "a deployment runs as the server's user; remove it",
        "model": "it belongs to model deployments: write `type: model`",
        "code_configuration": "it belongs to model deployments: write `type: model`",
        "environment": "environments belong to the steps; remove it",
        "compute": "write settings.default_compute",
        "resources": "resources belong to the steps; remove it",
        "jobs": "write the steps into a component: `component: {type: pipeline, jobs: …}`",
        "job": "write job_definition",
    },
    read_only=_SHOWN_BY_AZURE | {"created_at"},
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
_PIPELINES = "an endpoint runs what its deployment has; `job create` runs a pipeline job's file"
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
        "type": "what an endpoint is invoked with has no type; remove it",
        "input": "write inputs: {ANY: {type: uri_folder, path: …}}",
        "output": "write outputs: {ANY: {path: …}}",
    },
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
        "default_datastore": _OF_DEPLOYMENT,
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
