"""The assembly plan: which frames, in which order, make up the output of a job.

    plan = sealed document (see `documents`)
           JSON: {"job", "parts": [names of parts]}
           columns, one number per frame: part (index into "parts"), frame (ordinal in it)

It is written by the runner, which knows the order, for the node that has the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from batchpoint.formats import documents
from batchpoint.formats.durable import damaged, read_whole, write_durably

MAGIC = b"BPASM01\n"


@dataclass(frozen=True, slots=True)
class AssemblyPlan:
    """Frames in output order: the i-th is frame `frame[i]` of part `parts[part[i]]`."""

    job: str
    parts: tuple[str, ...]
    part: Sequence[int]
    frame: Sequence[int]


def write_plan(path: Path, plan: AssemblyPlan) -> None:
    """Write `JobFolder.assembly_plan` atomically.

    Raises:
        Unavailable: `storage_full` or `storage_unavailable`.
    """
    document = documents.encode(
        {"job": plan.job, "parts": list(plan.parts)}, (plan.part, plan.frame)
    )
    write_durably(path, (documents.seal(MAGIC, document),))


def read_plan(path: Path) -> AssemblyPlan:
    """Read and check a plan.

    Raises:
        Unavailable: `storage_unavailable`, when it is missing or damaged.
    """
    document, columns = documents.unseal(MAGIC, read_whole(path), path)
    parts = tuple(cast("list[str]", document["parts"]))
    part, frame = columns
    if len(part) and max(part) >= len(parts):
        raise damaged(path, "it names a part that it does not list")
    return AssemblyPlan(str(document["job"]), parts, part, frame)
