"""Fields that Azure's documents may hold and ours do not: what each would need, in a sentence."""

from __future__ import annotations

_ONLINE = "it belongs to online endpoints; remove it"
_PIPELINE = "pipelines are not supported yet; deploy a model"
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
    "component": _PIPELINE,
    "job_definition": _PIPELINE,
    "default_compute": _PIPELINE,
    "default_datastore": _PIPELINE,
    "continue_on_step_failure": _PIPELINE,
    "force_rerun": _PIPELINE,
    "partition_keys": "input is cut by files and rows, not by key; remove it",
    "mini_batch_error_threshold": "failures are counted by item: use error_threshold",
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
