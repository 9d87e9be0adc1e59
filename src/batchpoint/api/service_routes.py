"""Routes that tell of the service itself."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from batchpoint.api.services import Services, problems


class Health(BaseModel):
    """The service is able to answer: its ledger can be read."""

    status: str = "ok"


class Version(BaseModel):
    """Which batchpoint answers."""

    version: str


def service_routes(services: Services) -> APIRouter:
    """Make /healthz and /version."""
    router = APIRouter(tags=["service"])

    @router.get("/healthz", summary="Check health", responses=problems())
    def get_health() -> Health:
        """Answer when the ledger can be read."""
        services.ledger.list_jobs(limit=1)
        return Health()

    @router.get("/version", summary="Show the version", responses=problems())
    def get_version() -> Version:
        """Tell which batchpoint this is."""
        return Version(version=services.version)

    return router
