"""The default of an endpoint switches in one step, whoever invokes at that moment."""

import threading
from pathlib import Path

from batchpoint.domain.asset import Model
from batchpoint.domain.endpoint import BatchEndpoint, ModelDeployment
from batchpoint.domain.job import Invocation, Job
from batchpoint.domain.job_pointers import JobInput
from tests.unit.control_plane import ControlPlane, data_folder, mlflow_model

SWITCHES = 30


def test_callers_see_one_default_or_the_other(plane: ControlPlane, tmp_path: Path) -> None:
    plane.registry.put_endpoint(BatchEndpoint(name="digits"))
    for name in ("torch", "keras"):
        model = Model(path=str(mlflow_model(tmp_path / name)), type="mlflow_model")
        plane.registry.put_deployment(
            ModelDeployment(name=name, endpoint_name="digits", model=model),
            lambda line: None,
            set_default=name == "torch",
        )
    source = JobInput(type="uri_folder", uri=str(data_folder(tmp_path / "data")))
    jobs: list[Job] = []
    failures: list[Exception] = []
    over = threading.Event()

    def invoke() -> None:
        try:
            while not over.is_set():
                jobs.append(plane.invocations.invoke("digits", Invocation(input=source)))
        except Exception as error:  # noqa: BLE001  # told below
            failures.append(error)

    callers = [threading.Thread(target=invoke) for _ in range(3)]
    for caller in callers:
        caller.start()
    for number in range(SWITCHES):
        name = ("keras", "torch")[number % 2]
        patch = {"defaults": {"deployment_name": name}}
        changed = plane.registry.update_endpoint("digits", patch)
        assert changed.defaults.deployment_name == name
        job = plane.invocations.invoke("digits", Invocation(input=source))
        assert job.spec.deployment_name == name
        jobs.append(job)
    over.set()
    for caller in callers:
        caller.join()
    assert failures == []
    assert {job.spec.deployment_name for job in jobs} == {"torch", "keras"}
    for job in jobs:
        assert plane.ledger.get_job(job.name).spec == job.spec
        assert job.scoring.model is not None
        assert job.scoring.model.path.endswith(f"/{job.spec.deployment_name}")
    # The first may go now by force, and callers notice nothing.
    plane.registry.delete_deployment("digits", "keras", force=True)
    last = plane.invocations.invoke("digits", Invocation(input=source))
    assert last.spec.deployment_name == "torch"
