"""The order `index`: where a Parquet file can be cut, told from its own metadata."""

from __future__ import annotations

from typing import Any, Dict

from batchpoint_worker import parquet_reading
from batchpoint_worker.protocol import Header


def index(header: Header) -> Dict[str, Any]:
    """Return {row_groups: [[rows, bytes, start, stop]..]} of the Parquet file at `header["path"]`.

    Raises:
        ImportError: the environment has no pyarrow.
        OSError, ValueError: the file cannot be read, or is no Parquet file.
    """
    return {"row_groups": [list(group) for group in parquet_reading.row_groups(header["path"])]}
