"""The way of a job's files into its output: one interface, for folders and for object stores."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from batchpoint.domain.datastore import StorageAccess
from batchpoint.formats.receipt import Receipt, decode
from batchpoint.node.output_publish_local import LocalPublication
from batchpoint.node.output_request import AssembleRequest
from batchpoint.node.output_writing import Step
from batchpoint.storage.locate import local_path_of


class Publication(Protocol):
    """Publishes one output: all of its files or none, whenever the process dies.

    The order of calls: `caught_up`; when that gave None `refuse_existing`, `begin`, `publish`;
    after an error `pause` or `withdraw`. `place` is the local folder that errors of the disk are
    about.
    """

    place: Path

    def caught_up(self, assembly: str) -> Receipt | None:
        """Finish what an earlier try of the same assembly has begun to publish.

        Returns:
            The receipt when the output is published now, None when it must be written.

        Raises:
            Conflict: somebody else's file is in the way (`output_exists`).
            Unavailable, OSError: the place cannot be read or written now.
        """
        ...

    def refuse_existing(self, names: set[str]) -> None:
        """Raise Conflict (`output_exists`) when the output has a file of one of these names."""
        ...

    def begin(self) -> Path:
        """Make the local folder into which all files are written first; raises OSError."""
        ...

    def publish(self, receipt: Receipt) -> None:
        """Make the files that were written the output, the receipt last. Raises: as `caught_up`."""
        ...

    def pause(self) -> None:
        """Leave what the next try can go on from and remove everything else; raises OSError."""
        ...

    def withdraw(self) -> None:
        """Remove all that this job has left of an unfinished output, and nothing else.

        Raises: Unavailable, Invalid (`storage_denied`), OSError: it could not be removed.
        """
        ...


def publication_for(request: AssembleRequest, access: StorageAccess, step: Step) -> Publication:
    """Return the publication that the output's URI asks for.

    Raises: Invalid (`uri_invalid`).
    """
    folder = local_path_of(request.output_uri, access)
    if folder is not None:
        return LocalPublication(folder, request.job, step)
    # Only jobs that write to object stores pay for their client.
    from batchpoint.node.output_publish_remote import (  # noqa: PLC0415
        RemotePublication,
        RemoteTarget,
    )
    from batchpoint.storage.object_locations import ObjectLocations  # noqa: PLC0415

    location = ObjectLocations(access).at(request.output_uri)
    return RemotePublication(RemoteTarget.of(request), location, step, decode)
