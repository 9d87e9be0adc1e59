"""What callers see of a job's files: listings, and the first rows of a table."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, JsonValue

from batchpoint.domain.component import DataType
from batchpoint.domain.model_shape import Noun


class StoredFile(Noun):
    """One file of a job: its path below the logs or the results, and its size in bytes."""

    path: str
    size: int
    modified_at: datetime


class NamedOutput(Noun):
    """An output of a job: where it is, or will be once it is complete, and what it became.

    `hash` names its content, `asset` is what was registered of it; both as far as there is one.
    """

    name: str
    type: DataType
    uri: str
    complete: bool
    hash: str | None = None
    asset: str | None = None


class ResultsHead(Noun):
    """Some rows of a table: cells of CSV are text, and `columns` is null without a header."""

    columns: list[str] | None
    rows: list[list[JsonValue]] = Field(default_factory=list[list[JsonValue]])

    def __str__(self) -> str:
        """Write columns and rows below each other, which is what `print` shows."""
        cells = [["" if cell is None else str(cell) for cell in row] for row in self.rows]
        lines = [self.columns, *cells] if self.columns is not None else cells
        widest = max((len(line) for line in lines), default=0)
        sizes = [max(len(line[n]) for line in lines if n < len(line)) for n in range(widest)]
        return "\n".join(
            "  ".join(cell.ljust(size) for cell, size in zip(line, sizes, strict=False)).rstrip()
            for line in lines
        )
