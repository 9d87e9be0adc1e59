"""The only place where concrete classes meet: the app, the supervisor, a runner, an agent."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchpoint.clock import SystemClock
from batchpoint.settings import Settings
from batchpoint.tracing import tracing_from

if TYPE_CHECKING:  # slow to import, and not every process needs them
    from fastapi import FastAPI

    from batchpoint.auth.secrets import SecretBox
    from batchpoint.control.assets import Assets
    from batchpoint.control.datastores import Datastores
    from batchpoint.control.invocation import Invocations
    from batchpoint.control.pipeline_deployments import PipelineDeployments
    from batchpoint.control.pipelines import Pipelines
    from batchpoint.control.registry import Registry
    from batchpoint.control.reproduction import Reproduction
    from batchpoint.control.webhooks import Webhooks
    from batchpoint.domain.datastore import DatastoreAccess, DatastoreFindings
    from batchpoint.domain.job import Job, PublishedOutput
    from batchpoint.ledger.ledger import Ledger
    from batchpoint.node.environment import EnvironmentBuilder
    from batchpoint.runner.notify import Courier

_OTHER_SUPERVISOR_SECONDS_MAX = 10.0
_OTHER_SUPERVISOR_POLL_SECONDS = 0.02

# What runners and agents use, the parts included that they import only when they use them.
_PRELOADED = (
    "batchpoint.engines.local",
    "batchpoint.node.agent",
    "batchpoint.node.environment",
    "batchpoint.runner_wiring",
    "sqlalchemy.dialects.sqlite",
)


def ledger_path(home: Path) -> Path:
    """Return where the ledger of a home lies."""
    return home / "batchpoint.db"


def environment_builder(settings: Settings) -> EnvironmentBuilder:
    """Build environments in `settings.home` as the settings and pip's configuration say."""
    from batchpoint.node.environment import EnvironmentBuilder, EnvironmentSettings

    tables = EnvironmentSettings(**settings.environments.model_dump())
    return EnvironmentBuilder(settings.home, tables, os.environ, lambda _: None)


def datastores_of(settings: Settings, ledger: Ledger, *, embedded: bool) -> Datastores:
    """Find the datastores of a home; what opens and tests them is imported when it is used.

    `embedded`: who asks is the user of this machine, so that what that user may do counts.
    """
    from batchpoint.control.datastores import Datastores

    ambient = settings.storage.ambient_credentials
    return Datastores(
        ledger,
        _secret_box(settings),
        SystemClock(),
        settings.home,
        examine=_examine,
        ambient=embedded if ambient is None else ambient,
    )


def _secret_box(settings: Settings) -> SecretBox:
    from batchpoint.auth.secrets import SecretBox

    key = settings.secrets_key
    return SecretBox.open(settings.home, None if key is None else key.get_secret_value())


def _examine(access: DatastoreAccess) -> DatastoreFindings:
    from batchpoint.storage.store_findings import examine

    clock = SystemClock()
    return examine(access, unique=clock.hexadecimal(16), now=clock.now())


def embedded_app(
    settings: Settings | None = None, log: Callable[[str], None] | None = None
) -> FastAPI:
    """Make the app that SDK and CLI call in process when no server is configured.

    `log` takes a line at a time of what creating something does (environments being built).
    """
    return _app(settings or Settings.load(os.environ), log or _library_line, embedded=True)


def server_app(settings: Settings, public_url: str | None) -> FastAPI:
    """Make the app that `batchpoint serve` runs; `public_url` is what callers use.

    It wakes a supervisor that is there and starts none: `serve` keeps its own, or was told not to.
    """
    return _app(settings, _log_line, embedded=False, public_url=public_url)


def _make_home(home: Path) -> None:
    """Make the home, or say in one sentence why it cannot be one."""
    from batchpoint.domain.errors import Invalid

    try:
        home.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(home, os.R_OK | os.W_OK | os.X_OK) else "this user cannot write there"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise Invalid(
            f"{home} cannot hold batchpoint's state ({why}); name a folder of your own",
            code="settings_invalid",
            where="BATCHPOINT_HOME",
        )


def _library_line(line: str) -> None:
    """Log as libraries do: stdout belongs to the program that uses the SDK."""
    logging.getLogger("batchpoint.control").info("%s", line)


def _log_line(line: str) -> None:
    import structlog

    structlog.get_logger("batchpoint.control").info(line)


def _app(
    settings: Settings,
    log: Callable[[str], None],
    *,
    embedded: bool,
    public_url: str | None = None,
) -> FastAPI:
    from importlib.metadata import version

    from batchpoint.api.app import create_app
    from batchpoint.api.request_spans import RequestSpans
    from batchpoint.api.services import Services
    from batchpoint.control.assets import Assets
    from batchpoint.ledger.ledger import Ledger
    from batchpoint.storage.tree_store import TreeStore

    home, clock = settings.home, SystemClock()
    _make_home(home)
    ledger = Ledger(ledger_path(home))
    trees = TreeStore(home / "store")
    datastores = datastores_of(settings, ledger, embedded=embedded)
    assets = Assets(ledger, trees, datastores, clock, environ=os.environ, local_paths=embedded)
    registry, invocations = _deciders(settings, ledger, assets, datastores, embedded=embedded)
    services = Services(
        ledger=ledger,
        registry=registry,
        assets=assets,
        datastores=datastores,
        trees=trees,
        invocations=invocations,
        clock=clock,
        home=home,
        version=version("batchpoint"),
        log=log,
        public_url=public_url,
        embedded=embedded,
    )
    app = create_app(services)
    if not embedded:  # a command that lives for a second is not measured
        from batchpoint.api.metrics_routes import add_metrics

        add_metrics(app, services)
    tracing = None if embedded else tracing_from(os.environ, "batchpoint")
    app.add_middleware(RequestSpans, tracing=tracing)
    return app


def _deciders(
    settings: Settings, ledger: Ledger, assets: Assets, datastores: Datastores, *, embedded: bool
) -> tuple[Registry, Invocations]:
    """Make what permits and records: deployments of both kinds, and the jobs made of them."""
    from batchpoint.control.computes import Computes
    from batchpoint.control.input_checks import InputChecks
    from batchpoint.control.invocation import Invocations
    from batchpoint.control.model_deployments import ModelDeployments
    from batchpoint.control.model_invocation import ModelInvocations
    from batchpoint.control.output_checks import OutputChecks
    from batchpoint.control.registry import Registry
    from batchpoint.runner.supervisor_link import SupervisorLink

    home, clock = settings.home, SystemClock()
    environments, computes = environment_builder(settings), Computes(ledger, clock)
    inputs = InputChecks(datastores.access_for)
    outputs = OutputChecks(datastores, home, settings.outputs)

    @cache
    def pipelines() -> Pipelines:
        from batchpoint.control.pipeline_jobs import PipelineJobs
        from batchpoint.control.pipelines import Pipelines

        steps = PipelineJobs(assets.references, inputs, outputs, computes, home)
        return Pipelines(assets, environments, computes, datastores, steps)

    def pipeline_deployments() -> PipelineDeployments:
        from batchpoint.control.pipeline_deployments import PipelineDeployments

        return PipelineDeployments(ledger, assets, pipelines())

    models = ModelDeployments(assets, environments, computes)
    registry = Registry(ledger, clock, models, pipeline_deployments)
    link = SupervisorLink(home)
    wake = link.ensure if embedded else link.poke
    invocations = Invocations(
        ledger,
        registry,
        ModelInvocations(registry, assets.references, inputs, outputs),
        pipelines,
        clock,
        wake,
        _webhooks(settings, embedded=embedded),
    )
    return registry, invocations


def _webhooks(settings: Settings, *, embedded: bool) -> Webhooks:
    from batchpoint.control.webhooks import Webhooks

    url, private = settings.webhook_url, settings.webhook_allow_private
    return Webhooks(
        None if url is None else url.get_secret_value(),
        private_allowed=embedded if private is None else private,
        seal=lambda text, about: _secret_box(settings).seal(text.encode(), about),
    )


def _courier(settings: Settings, ledger: Ledger) -> Courier:
    from batchpoint.core.webhook_event import signing_key
    from batchpoint.runner.notify import Courier

    secret = settings.webhook_secret
    return Courier(
        ledger,
        SystemClock(),
        key=None if secret is None else signing_key(secret.get_secret_value()),
        unseal=lambda text, about: _secret_box(settings).open_sealed(text, about).decode(),
    )


@contextmanager
def reproduction(
    settings: Settings,
    job: Job,
    place: str | tuple[int, str, int | None],
    *,
    alone: bool,
    debugger: bool,
) -> Generator[Reproduction]:
    """Prepare to score one mini-batch of a job again; its files are there while the block runs.

    `place`: an item as given with `--item`, or (ordinal, name, row) of one that failed. Of a step
    that took over the outputs of an earlier one, that one is meant.
    """
    from batchpoint.control.reproduction import Item, data_of, item_of, prepared_for
    from batchpoint.formats.layout import job_folder
    from batchpoint.ledger.ledger import Ledger

    item = item_of(place) if isinstance(place, str) else Item(*place)
    ledger = Ledger(ledger_path(settings.home))
    if job.status.reused_from is not None:
        job = ledger.get_job(job.status.reused_from)
    environment_builder(settings).ensure(job.scoring.environment)
    datastores = datastores_of(settings, ledger, embedded=True)
    folder = job_folder(settings.home, job.name)
    access = datastores.access_for(data_of(job, folder))
    with tempfile.TemporaryDirectory(prefix="batchpoint-repro-") as scratch:
        yield prepared_for(
            job,
            folder,
            item,
            Path(scratch),
            access,
            alone=alone,
            debugger=debugger,
        )


def run_reproduction(prepared: Reproduction) -> int:
    """Run what `reproduction` prepared with this process' own terminal; return its exit status."""
    ended = subprocess.run(
        prepared.command, env=prepared.environment, cwd=prepared.folder, check=False
    )
    return ended.returncode


def run_supervisor(settings: Settings, *, exit_when_idle: bool) -> bool:
    """Be the supervisor of `settings.home` until the end; False when there is another one."""
    from batchpoint.engines.zygote import Zygote
    from batchpoint.ledger.ledger import Ledger
    from batchpoint.runner.supervisor import Supervisor, SupervisorOptions, take_lock
    from batchpoint.runner.supervisor_link import SupervisorLink, runtime_dir

    home = settings.home
    give_up = time.monotonic() + _OTHER_SUPERVISOR_SECONDS_MAX
    link = SupervisorLink(home)

    def another_is_leaving() -> bool:
        if link.ask("poke") is not None or time.monotonic() > give_up:
            return False
        time.sleep(_OTHER_SUPERVISOR_POLL_SECONDS)
        return True

    lock = take_lock(home, wait=another_is_leaving)
    if lock is None:
        return False
    zygote = Zygote.start(
        {
            "runner": lambda arguments, lifeline: _be_runner(
                settings, arguments, lifeline, embedded=exit_when_idle
            ),
            "agent": _be_agent,
        },
        preloaded=_PRELOADED,
    )
    gc.freeze()  # what is imported stays: no collection needs to look at it
    gc.enable()  # it was off while importing (see cli/main.py)
    options = SupervisorOptions(
        home=home,
        runtime_dir=runtime_dir(home),
        exit_when_idle=exit_when_idle,
        idle_exit_seconds=settings.supervisor.idle_seconds,
        runners_max=max(4, os.cpu_count() or 1),
        idle_nodes_max=max(4, os.cpu_count() or 1),
    )

    async def supervise() -> None:
        ledger = Ledger(ledger_path(home))
        courier = _courier(settings, ledger)
        supervisor = Supervisor(options, ledger, zygote, SystemClock(), courier)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        await supervisor.run()

    asyncio.run(supervise())
    os.close(lock)
    return True


def _be_runner(
    settings: Settings, arguments: dict[str, Any], lifeline: int, *, embedded: bool
) -> None:
    """Run one job in this process (a child of the zygote) and return when it has ended.

    `embedded`: the supervisor is a user's own, not a server's (see `datastores_of`).
    """
    from batchpoint.ledger.ledger import Ledger
    from batchpoint.runner_wiring import RunnerPlace, run_job

    ledger = Ledger(ledger_path(settings.home))
    datastores = lambda: datastores_of(settings, ledger, embedded=embedded)  # noqa: E731
    place = RunnerPlace(
        home=settings.home,
        ledger=ledger,
        builder=lambda: environment_builder(settings),
        datastores=datastores,
        register=lambda child, name, output: _registered(
            settings, ledger, datastores(), child, name, output
        ),
        environ=os.environ,
    )
    run_job(place, arguments, lifeline)


def _registered(
    settings: Settings,
    ledger: Ledger,
    datastores: Datastores,
    child: Job,
    name: str,
    output: PublishedOutput,
) -> PublishedOutput:
    """Make the asset that an output of a step asks for; return the output with its name."""
    from batchpoint.control.assets import Assets
    from batchpoint.control.step_assets import register_output
    from batchpoint.storage.tree_store import TreeStore

    assert child.spec.step is not None
    trees = TreeStore(settings.home / "store")
    assets = Assets(ledger, trees, datastores, SystemClock(), environ=os.environ, local_paths=True)
    asset = register_output(assets, child.spec.step.outputs[name], output, child.name, name)
    return output.model_copy(update={"asset": asset})


def _be_agent(arguments: dict[str, Any], lifeline: int) -> None:
    """Be a node agent in this process (a child of the zygote)."""
    from batchpoint.node.agent import agent_main

    agent_main(Path(arguments["socket"]), lifeline, arguments["node"])
