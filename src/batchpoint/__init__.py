"""Batchpoint: self-hosted batch endpoints for machine learning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchpoint.client.client import Client as Client
    from batchpoint.client.jobs import JobHandle as JobHandle
    from batchpoint.client.named_values import Input as Input
    from batchpoint.domain.asset import Code as Code
    from batchpoint.domain.asset import Data as Data
    from batchpoint.domain.asset import Environment as Environment
    from batchpoint.domain.asset import Model as Model
    from batchpoint.domain.component import CommandComponent as CommandComponent
    from batchpoint.domain.component import ComponentInput as ComponentInput
    from batchpoint.domain.component import ComponentOutput as ComponentOutput
    from batchpoint.domain.component import ParallelComponent as ParallelComponent
    from batchpoint.domain.component import ParallelTask as ParallelTask
    from batchpoint.domain.component import PipelineComponent as PipelineComponent
    from batchpoint.domain.component import Step as Step
    from batchpoint.domain.component import StepData as StepData
    from batchpoint.domain.component import StepOutputBinding as StepOutputBinding
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
    from batchpoint.domain.job_pointers import JobInput as JobInput
    from batchpoint.domain.job_pointers import PipelineOutput as PipelineOutput
    from batchpoint.domain.pipeline import PipelineDeployment as PipelineDeployment
    from batchpoint.domain.pipeline import PipelineJob as PipelineJob
    from batchpoint.domain.pipeline import PipelineSettings as PipelineSettings

# Loaded when first used: workers, nodes and `--help` import the package and need none of it.
_HOMES = {
    "Client": "client.client",
    "JobHandle": "client.jobs",
    "Input": "client.named_values",
    "Code": "domain.asset",
    "Data": "domain.asset",
    "Environment": "domain.asset",
    "Model": "domain.asset",
    "CommandComponent": "domain.component",
    "ComponentInput": "domain.component",
    "ComponentOutput": "domain.component",
    "ParallelComponent": "domain.component",
    "ParallelTask": "domain.component",
    "PipelineComponent": "domain.component",
    "Step": "domain.component",
    "StepData": "domain.component",
    "StepOutputBinding": "domain.component",
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
    "JobInput": "domain.job_pointers",
    "PipelineOutput": "domain.job_pointers",
    "PipelineDeployment": "domain.pipeline",
    "PipelineJob": "domain.pipeline",
    "PipelineSettings": "domain.pipeline",
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
