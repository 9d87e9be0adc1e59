"""What a node is asked when it shall write the output of a job, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from batchpoint.domain.job_spec import ScoreSpec
from batchpoint.formats.receipt import ReceiptFile


class Counts(NamedTuple):
    """Rows and failures as the runner counted them; the parts must come to the same.

    `failed_items` counts distinct items that are known to have failed, `unattributed` those short
    when `run` returned fewer rows than it was given items.
    """

    rows: int
    failed_rows: int
    failed_items: int
    unattributed: int


@dataclass(frozen=True, slots=True)
class AssembleRequest:
    """Write the output of a job from its parts, in the order of its assembly plan.

    `job_dir` holds manifest, parts, harvested files and `assembly.plan`; `output_uri` names the
    folder in which the results appear. `counted`: what the runner counted, or None to trust the
    parts. `retries` and `timings` (moments as ISO 8601, durations in seconds) go into the receipt.
    """

    job: str
    job_dir: Path
    output_uri: str
    spec: ScoreSpec
    counted: Counts | None = None
    retries: int = 0
    timings: Mapping[str, float | str] = field(default_factory=dict[str, float | str])

    def to_json(self) -> dict[str, Any]:
        """Return the request as a JSON object."""
        return {
            "job": self.job,
            "job_dir": str(self.job_dir),
            "output_uri": self.output_uri,
            "spec": self.spec.model_dump(mode="json"),
            "counted": None if self.counted is None else list(self.counted),
            "retries": self.retries,
            "timings": dict(self.timings),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AssembleRequest:
        """Read back what `to_json` gave."""
        counted = value["counted"]
        return cls(
            job=value["job"],
            job_dir=Path(value["job_dir"]),
            output_uri=value["output_uri"],
            spec=ScoreSpec.model_validate(value["spec"]),
            counted=None if counted is None else Counts(*counted),
            retries=value["retries"],
            timings=value["timings"],
        )


@dataclass(frozen=True, slots=True)
class AssembledOutput:
    """What is in the output folder now: `items` planned = `scored` + `failed`.

    `files` are all published files but the receipt, with size in bytes and sha256; `predictions` is
    the path of the one with the rows, or empty when only files of scripts are published.
    """

    output_uri: str
    predictions: str
    items: int
    scored: int
    failed: int
    rows: int
    failed_rows: int
    unattributed: int
    files: tuple[ReceiptFile, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the answer as a JSON object."""
        return {**asdict(self), "files": [file.model_dump() for file in self.files]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AssembledOutput:
        """Read back what `to_json` gave."""
        fields = dict(value)
        fields["files"] = tuple(ReceiptFile.model_validate(file) for file in value["files"])
        return cls(**fields)
