"""Batchpoint: self-hosted batch endpoints for machine learning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchpoint.client.client import Client as Client
    from batchpoint.client.client import Input as Input
    from batchpoint.client.jobs import JobHandle as JobHandle
    from batchpoint.domain.asset import Code as Code
    from batchpoint.domain.asset import Data as Data
    from batchpoint.domain.asset import Environment as Environment
    from batchpoint.domain.asset import Model as Model
    from batchpoint.domain.compute import Compute as Compute
    from batchpoint.domain.datastore import Credentials as Credentials
    from batchpoint.domain.datastore import Datastore as Datastore
    from batchpoint.domain.endpoint import BatchEndpoint as BatchEndpoint
    from batchpoint.domain.endpoint import CodeConfiguration as CodeConfiguration
    from batchpoint.domain.endpoint import DeploymentSettings as DeploymentSettings
    from batchpoint.domain.endpoint import ModelDeployment as ModelDeployment
    from batchpoint.domain.errors import BatchpointError as BatchpointError
    from batchpoint.domain.job import Job as Job
    from batchpoint.domain.job import JobState as JobState

# Loaded when first used: workers, nodes and `--help` import the package and need none of it.
_HOMES = {
    "Client": "client.client",
    "Input": "client.client",
    "JobHandle": "client.jobs",
    "Code": "domain.asset",
    "Data": "domain.asset",
    "Environment": "domain.asset",
    "Model": "domain.asset",
    "Compute": "domain.compute",
    "Credentials": "domain.datastore",
    "Datastore": "domain.datastore",
    "ModelDeployment": "domain.endpoint",
    "BatchEndpoint": "domain.endpoint",
    "CodeConfiguration": "domain.endpoint",
    "DeploymentSettings": "domain.endpoint",
    "BatchpointError": "domain.errors",
    "Job": "domain.job",
    "JobState": "domain.job",
}

__all__ = [  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]
    *_HOMES,
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'batchpoint' has no attribute {name!r}")
    found = getattr(import_module(f"batchpoint.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
