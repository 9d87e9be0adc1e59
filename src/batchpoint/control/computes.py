"""Computes: how many nodes jobs may have; one is always there, this machine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from pydantic import TypeAdapter

from batchpoint.clock import Clock
from batchpoint.control.merge_patch import patched
from batchpoint.control.prepared_pipeline import PreparedPipeline
from batchpoint.domain import limits
from batchpoint.domain.compute import Compute
from batchpoint.domain.deployment import Deployment
from batchpoint.domain.endpoint import ModelDeployment
from batchpoint.domain.errors import Conflict, Invalid, NotFound
from batchpoint.domain.references import named_reference
from batchpoint.ledger.ledger import Ledger, Record

LOCAL = "local"
"""The compute that is always there: this machine."""


class Computes:
    """The registered computes, in a ledger."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        """Keep them in a ledger."""
        self._ledger = ledger
        self._clock = clock

    def put_compute(self, compute: Compute) -> tuple[Compute, bool]:
        """Create or update a compute; return it and whether it is new."""
        if compute.min_instances > compute.max_instances:
            raise Invalid(
                f"{compute.min_instances} is more than max_instances {compute.max_instances}",
                code="field_invalid",
                where="min_instances",
            )
        with self._ledger.atomic():
            known = self._ledger.get_resource("compute", compute.name)
            created_at = self.now()
            if known is not None:
                stored = Compute.model_validate_json(known.document)
                created_at = stored.created_at or created_at
            compute = compute.model_copy(
                update={"provisioning_state": "Succeeded", "created_at": created_at}
            )
            self._ledger.put_resource(
                "compute", compute.name, compute.model_dump_json(), now=self._clock.seconds()
            )
        return compute, known is None and compute.name != LOCAL

    def update_compute(self, name: str, patch: Mapping[str, object]) -> Compute:
        """Change fields of a compute by a JSON merge patch.

        Raises: NotFound (`compute_not_found`); Invalid (`field_invalid`, `field_unknown`).
        """
        with self._ledger.atomic():
            return self.put_compute(patched(self.get_compute(name), patch))[0]

    def get_compute(self, name: str) -> Compute:
        """Return a compute. Raises: NotFound (`compute_not_found`)."""
        record = self._ledger.get_resource("compute", name)
        if record is not None:
            return Compute.model_validate_json(record.document)
        if name == LOCAL:
            return _this_machine()
        raise NotFound(
            f"there is no compute named {name!r}; create it, or use compute 'local', which is "
            "always there",
            code="compute_not_found",
        )

    def list_computes(self, limit: int, after: str | None) -> list[Compute]:
        """Return computes by name, beginning after the name `after`."""
        found = [
            Compute.model_validate_json(record.document)
            for record in self._ledger.list_resources("compute", limit=limit, after=after)
        ]
        if (after or "") < LOCAL and self._ledger.get_resource("compute", LOCAL) is None:
            found = sorted([*found, _this_machine()], key=lambda compute: compute.name)
        return found[:limit]

    def delete_compute(self, name: str) -> None:
        """Delete a compute; `local` only goes back to what it was.

        Raises: NotFound (`compute_not_found`); Conflict (`conflict`) when a deployment uses it.
        """
        with self._ledger.atomic():
            self.get_compute(name)
            if name != LOCAL:
                for record in self._ledger.all_in_kind("deployment"):
                    if name in _computes_of(record):
                        raise Conflict(
                            f"compute {name!r} is used by deployment {record.name!r} of endpoint "
                            f"{record.scope!r}: update or delete that first"
                        )
            self._ledger.delete_resource("compute", name)

    def now(self) -> datetime:
        """Return the time at which something is being made or changed."""
        return datetime.fromtimestamp(self._clock.seconds(), UTC)


def read_deployment(text: str) -> Deployment:
    """Read a deployment of either kind from its JSON."""
    return _deployments().validate_json(text)


@cache
def _deployments() -> TypeAdapter[Deployment]:
    return TypeAdapter(Deployment)


def check_instances(count: int, compute: Compute, where: str = "instance_count") -> None:
    """Refuse more nodes than a compute may have. Raises: Invalid (`field_invalid`)."""
    if count > compute.max_instances:
        raise Invalid(
            f"{count} nodes are more than the max_instances {compute.max_instances} of compute "
            f"{compute.name!r}; ask for fewer, or raise it",
            code="field_invalid",
            where=where,
        )


def _this_machine() -> Compute:
    return Compute(name=LOCAL, max_instances=limits.INSTANCES_MAX, provisioning_state="Succeeded")


def _computes_of(record: Record) -> set[str]:
    """Return the computes that a stored deployment names, also those of a pipeline's steps."""
    deployment = read_deployment(record.document)
    if isinstance(deployment, ModelDeployment):
        return {deployment.compute}
    prepared = PreparedPipeline.model_validate_json(record.resolution or "")
    default = deployment.settings.default_compute
    return {*prepared.computes, *([named_reference(default, "compute")] if default else [])}
