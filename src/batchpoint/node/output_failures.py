"""The list of failed items: one line per failed row or item, in input order."""

from __future__ import annotations

import json
from typing import Any, cast

from batchpoint.core.isolation import is_lone
from batchpoint.domain.minibatch import Task
from batchpoint.formats.documents import readable
from batchpoint.formats.durable import damaged
from batchpoint.formats.layout import JobFolder
from batchpoint.formats.receipt import FAILURES_MAX, ReceiptAttempt, ReceiptFailure
from batchpoint.node.output_frames import Frame
from batchpoint.node.output_sources import SourceFinder
from batchpoint.node.output_writing import OutputFile

# What a line keeps: the same after any number of kills. Attempts and seconds are not.
KEYS = ("item", "name", "row", "origin", "type", "message", "traceback")


class FailureList:
    """Writes the lines of failed rows and items and counts what failed."""

    def __init__(self, out: OutputFile, folder: JobFolder) -> None:
        """Write to `out`."""
        self.items: set[int] = set()
        self.unattributed = 0
        self.first: list[ReceiptFailure] = []
        self._out = out
        self._last = b""
        self._sources = SourceFinder(folder)

    def take(self, frame: Frame) -> None:
        """Write what failed in a frame.

        Raises:
            Unavailable: `storage_unavailable`, the lines are not what was written, or the manifest
                cannot be read.
        """
        if frame.failures:
            for line in self._lines(frame):
                self._write(line)
        short = frame.table.unattributed[frame.ordinal]
        if not short:
            return
        task = frame.table.task(frame.ordinal)
        if is_lone(task):
            self._write(self._missing(task))
        else:
            self.unattributed += short
            self._write(self._shortfall(task, short))

    def _lines(self, frame: Frame) -> list[dict[str, Any]]:
        try:
            lines = [json.loads(line) for line in bytes(frame.failures).splitlines() if line]
            lines.sort(key=_input_order)
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(frame.path, f"a failure line cannot be read ({error})") from error
        return lines

    def _write(self, line: dict[str, Any]) -> None:
        kept = {key: line.get(key) for key in KEYS}
        kept["origin"] = kept["origin"] or "user"
        for key in ("name", "message", "traceback"):
            if key != "name" or kept[key] is not None:
                kept[key] = readable(kept[key] or "")
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":")) + "\n"
        data = text.encode("utf-8", "backslashreplace")
        if line["item"] is not None:
            self.items.add(line["item"])
        if data == self._last:
            return  # an item of several slices that failed alike, or twice in one frame
        self._last = data
        self._out.write(data)
        if len(self.first) < FAILURES_MAX:
            self.first.append(_receipt_failure(line))

    def _missing(self, task: Task) -> dict[str, Any]:
        """A line for a lone item of which no row came back."""
        (lone,) = self._sources.slices_of(task)
        return {
            "item": lone.item,
            "name": lone.name,
            "row": None,
            "type": "missing_rows",
            "message": "run() returned no row for this file",
        }

    def _shortfall(self, task: Task, short: int) -> dict[str, Any]:
        """A line for items of which no row came back; which ones nobody knows."""
        return {
            "item": None,
            "name": None,
            "row": None,
            "type": "missing_rows",
            "message": f"run() returned {short} rows fewer than files for "
            f"{self._sources.describe(task)}; for which of them is not known",
        }


def _input_order(line: dict[str, Any]) -> tuple[int, int]:
    item, row = line["item"], line.get("row")
    return -1 if item is None else int(item), -1 if row is None else int(row)


def _receipt_failure(line: dict[str, Any]) -> ReceiptFailure:
    attempts = cast("list[dict[str, Any]]", line.get("attempts") or [])
    return ReceiptFailure(
        name=None if line.get("name") is None else readable(line["name"]),
        row=line.get("row"),
        type=str(line.get("type") or ""),
        attempts=[
            ReceiptAttempt(outcome=str(each["outcome"]), seconds=float(each["seconds"]))
            for each in attempts
        ],
    )
