"""A control plane on a real ledger and real files, for tests."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI

from batchpoint.api.app import create_app
from batchpoint.api.services import Services
from batchpoint.clock import SystemClock
from batchpoint.control.assets import Assets
from batchpoint.control.computes import Computes
from batchpoint.control.input_checks import InputChecks
from batchpoint.control.invocation import Invocations
from batchpoint.control.model_deployments import DeployedModel, ModelDeployments
from batchpoint.control.model_invocation import ModelInvocations
from batchpoint.control.output_checks import OutputChecks
from batchpoint.control.pipeline_deployments import PipelineDeployments
from batchpoint.control.pipeline_jobs import PipelineJobs
from batchpoint.control.pipelines import Pipelines
from batchpoint.control.registry import Registry
from batchpoint.domain.asset import Environment
from batchpoint.domain.job_spec import ResolvedEnvironment
from batchpoint.ledger.ledger import Ledger
from batchpoint.settings import Settings
from batchpoint.storage.tree_store import TreeStore
from batchpoint.wiring import datastores_of

SCRIPT = "def init():\n    pass\n\n\ndef run(mini_batch):\n    return mini_batch\n"


class RunningInterpreter:
    """Resolves every environment to the interpreter that runs the tests, and remembers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Path | None, Environment | None]] = []

    def resolve(
        self, model_path: Path | None, environment: Environment | None, log: Callable[[str], None]
    ) -> ResolvedEnvironment:
        self.asked.append((model_path, environment))
        log("environment: the running interpreter")
        return ResolvedEnvironment(
            name="running", version="1", hash="e" * 64, python=sys.executable
        )


@dataclass
class ControlPlane:
    home: Path
    services: Services
    environments: RunningInterpreter
    wakes: list[str] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.services.ledger

    @property
    def registry(self) -> Registry:
        return self.services.registry

    @property
    def assets(self) -> Assets:
        return self.services.assets

    @property
    def invocations(self) -> Invocations:
        return self.services.invocations

    def app(self) -> FastAPI:
        return create_app(self.services)


def control_plane(home: Path, *, embedded: bool = True) -> ControlPlane:
    ledger, clock = Ledger(home / "ledger.db"), SystemClock()
    trees = TreeStore(home / "store")
    settings = Settings(home=home)
    datastores = datastores_of(settings, ledger, embedded=embedded)
    assets = Assets(ledger, trees, datastores, clock, environ={}, local_paths=embedded)
    environments = RunningInterpreter()
    computes, inputs = Computes(ledger, clock), InputChecks(datastores.access_for)
    outputs = OutputChecks(datastores, home, None)
    steps = PipelineJobs(assets.references, inputs, outputs, computes, home)
    pipelines = Pipelines(assets, environments, computes, datastores, steps)
    registry = Registry(
        ledger,
        clock,
        ModelDeployments(assets, environments, computes),
        lambda: PipelineDeployments(ledger, assets, pipelines),
    )
    wakes: list[str] = []
    invocations = Invocations(
        ledger,
        registry,
        ModelInvocations(registry, assets.references, inputs, outputs),
        lambda: pipelines,
        clock,
        lambda: wakes.append("woken"),
    )
    services = Services(
        ledger=ledger,
        registry=registry,
        assets=assets,
        datastores=datastores,
        trees=trees,
        invocations=invocations,
        clock=clock,
        home=home,
        version="1.2.3",
        log=lambda line: None,
        embedded=embedded,
    )
    return ControlPlane(home, services, environments, wakes)


def deployed_model(plane: ControlPlane, endpoint: str, name: str | None = None) -> DeployedModel:
    """The deployment of a model, None: the endpoint's default."""
    found = plane.registry.deployed(endpoint, name)
    assert isinstance(found, DeployedModel)
    return found


def mlflow_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "model.pkl").write_bytes(b"weights")
    return folder


def code_folder(folder: Path, script: str = SCRIPT) -> Path:
    folder.mkdir(parents=True)
    (folder / "score.py").write_text(script)
    return folder


def data_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("x\n1\n")
    return folder
