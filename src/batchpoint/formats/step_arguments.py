"""What a parallel step's script gets on its command line, kept in the folder of its job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from batchpoint.formats.durable import damaged, read_whole, write_durably


def write_arguments(path: Path, arguments: Sequence[str]) -> None:
    """Write the arguments durably; raises Unavailable."""
    # Paths may hold bytes that are not UTF-8: JSON in ASCII keeps them.
    write_durably(path, [json.dumps({"arguments": list(arguments)}).encode("ascii")])


def read_arguments(path: Path) -> list[str] | None:
    """Read arguments back; None when there are none. Raises: Unavailable (damaged)."""
    if not path.exists():
        return None
    try:
        document: object = json.loads(read_whole(path))
    except ValueError as error:
        raise damaged(path, "it is not JSON") from error
    found = cast("dict[str, object]", document).get("arguments") if type(document) is dict else None
    words = cast("list[object]", found) if isinstance(found, list) else None
    if words is None or not all(isinstance(word, str) for word in words):
        raise damaged(path, "it holds no list of arguments")
    return cast("list[str]", words)
