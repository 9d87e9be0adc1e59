"""What people read about a datastore: where it is, and what its self-test found."""

from __future__ import annotations

from batchpoint.cli.text_tables import moment, one_line
from batchpoint.domain.datastore import Datastore


def place_of(datastore: Datastore) -> str:
    """Say in one word where a datastore is."""
    container = datastore.container_name or datastore.filesystem or datastore.bucket
    if datastore.type in ("http", "local"):
        return datastore.endpoint or datastore.path or ""
    return f"{datastore.account_name}/{container}" if datastore.account_name else container or ""


def findings_in_short(datastore: Datastore) -> str:
    """Say in a few words what the self-test found, for a table."""
    found = datastore.findings
    if found is None:
        return "not tested"
    if found.readable is False:
        return "cannot be read"
    if found.writable is False:
        return "read only"
    return "ignores conditional writes" if found.put_if_absent is False else "good"


def findings_lines(datastore: Datastore) -> list[str]:
    """Say in sentences what the self-test found."""
    found = datastore.findings
    if found is None:
        return [f"Not tested; `batchpoint datastore test {datastore.name}` does it."]
    can = {True: "can", False: "cannot", None: "was not tested whether it can"}
    when = f" on {moment(found.tested_at)}" if found.tested_at else ""
    lines = [f"Tested{when}: {can[found.readable]} be read, {can[found.writable]} be written."]
    if found.put_if_absent is False:
        lines.append(
            "It ignores conditional writes: it cannot tell two writers apart, and results are "
            "guarded by the ledger alone."
        )
    elif found.put_if_absent:
        lines.append("It honours conditional writes: nothing that is there is ever replaced.")
    return [*lines, *(one_line(note) for note in found.notes)]
