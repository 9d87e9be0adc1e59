"""The ledger: one concrete class over one database, holding resources and jobs."""

from __future__ import annotations

from contextlib import AbstractContextManager

from sqlalchemy import Connection

from batchpoint.ledger.delivery_store import DeliveryStore, DueDelivery, Notice
from batchpoint.ledger.job_store import JobStore, Renewed
from batchpoint.ledger.job_totals import JobTotals, Totals
from batchpoint.ledger.pipeline_store import PipelineRenewed, PipelineStore
from batchpoint.ledger.resource_store import ANONYMOUS, Kind, Record, ResourceStore

__all__ = [
    "ANONYMOUS",
    "DueDelivery",
    "Kind",
    "Ledger",
    "Notice",
    "PipelineRenewed",
    "Record",
    "Renewed",
    "Totals",
]


class Ledger(ResourceStore, JobStore, PipelineStore, JobTotals, DeliveryStore):
    """Everything that must survive the end of every process, except bulk.

    Open it with the path of its file. All methods are synchronous and may be called from any
    thread and process. Raises: Unavailable (`ledger_unavailable`, `storage_full`).
    """

    def atomic(self) -> AbstractContextManager[Connection]:
        """Make all calls of this thread inside the `with` block one transaction."""
        return self.writing()
