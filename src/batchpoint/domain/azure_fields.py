"""Fields that Azure's documents may hold and ours do not: what each would need, in a sentence."""

from __future__ import annotations

_ONLINE = "it belongs to online endpoints; remove it"
_OF_PIPELINES = "it belongs to deployments of type pipeline; remove it"
_ONE_NODE = "a command runs on one node; let a parallel component spread work over several"
_NO_CONTAINERS = "jobs run as processes, not in containers; remove it"
_NO_MACHINES = "no machines are created here; remove it"
_SERVERS_USER = "everything runs as the server's user; remove it"
_BY_COUNT = "nodes are counted by resources.instance_count"

REFUSED: dict[str, str] = {
    "identity": _SERVERS_USER,
    "kind": _ONLINE,
    "traffic": "batch endpoints have one default deployment: set defaults.deployment_name",
    "mirror_traffic": _ONLINE,
    "public_network_access": "the server's own settings decide who may connect; remove it",
    "app_insights_enabled": _ONLINE,
    "request_settings": _ONLINE,
    "liveness_probe": _ONLINE,
    "readiness_probe": _ONLINE,
    "scale_settings": _ONLINE,
    "inference_config": _ONLINE,
    "component": _OF_PIPELINES,
    "job_definition": _OF_PIPELINES,
    "default_compute": _OF_PIPELINES,
    "default_datastore": _OF_PIPELINES,
    "continue_on_step_failure": _OF_PIPELINES,
    "force_rerun": _OF_PIPELINES,
    "distribution": _ONE_NODE,
    "docker": _NO_CONTAINERS,
    "additional_includes": "put these files into the folder of code",
    "services": "no services are opened into a running step; remove it",
    "queue_settings": "steps start as soon as there is room on their compute; remove it",
    "job_tier": "steps start as soon as there is room on their compute; remove it",
    "schedule": "nothing starts by itself; call the endpoint from a scheduler of yours",
    "sweep_job": "sweeps are not supported; let a command try the values",
    "search_space": "sweeps are not supported; let a command try the values",
    "source_job_id": "name the job as job_definition: azureml:JOB",
    "partition_keys": "input is cut by files and rows, not by key; remove it",
    "mini_batch_error_threshold": "it belongs to parallel components; use error_threshold",
    "docker_args": _NO_CONTAINERS,
    "shm_size": _NO_CONTAINERS,
    "max_instance_count": f"{_BY_COUNT} and do not grow; remove it",
    "locations": "there is one location; remove it",
    "build": "images are not built here; give conda_file or requirements",
    "channels": "put the conda file's content below conda_file",
    "dependencies": "put the conda file's content below conda_file",
    "stage": "models have no stages; write it into tags",
    "flavors": "they are read from the model's own MLmodel file; remove it",
    "datastore": "the server keeps uploads itself; remove it",
    "ssh_public_access_enabled": _NO_MACHINES,
    "ssh_settings": _NO_MACHINES,
    "network_settings": _NO_MACHINES,
    "enable_node_public_ip": _NO_MACHINES,
    "resource_id": "clusters are not attached; create one of type local",
    "file_share_name": "file shares are mounted on the server: register the folder as type local",
    "auto_delete_setting": "nothing is deleted by itself; remove it",
}
"""Field to what is said where a document holds it."""
