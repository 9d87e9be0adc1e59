"""What a parallel step's script gets on its command line, kept in the folder of its job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from batchpoint.domain.component import Scalar
from batchpoint.domain.job_pointers import JobInput
from batchpoint.formats.durable import damaged, read_whole, write_durably


class StepArguments(NamedTuple):
    """The arguments as they were passed, and the inputs that they were made of."""

    arguments: list[str]
    inputs: dict[str, Scalar | JobInput]


_WORDS: TypeAdapter[list[object]] = TypeAdapter(list[object])
_INPUTS: TypeAdapter[dict[str, Scalar | JobInput]] = TypeAdapter(dict[str, Scalar | JobInput])


def write_arguments(
    path: Path, arguments: Sequence[str], inputs: Mapping[str, Scalar | JobInput]
) -> None:
    """Write the arguments durably; raises Unavailable."""
    document = {
        "arguments": list(arguments),
        "inputs": _INPUTS.dump_python(dict(inputs), mode="json"),
    }
    # Paths may hold bytes that are not UTF-8: JSON in ASCII keeps them.
    write_durably(path, [json.dumps(document).encode("ascii")])


def read_arguments(path: Path) -> StepArguments | None:
    """Read arguments back; None when there are none. Raises: Unavailable (damaged)."""
    if not path.exists():
        return None
    try:
        document = json.loads(read_whole(path))
        words = _WORDS.validate_python(document["arguments"])
        inputs = _INPUTS.validate_python(document["inputs"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise damaged(path, "it holds no arguments of a step") from error
    # Not by pydantic: it takes no text that UTF-8 cannot write.
    arguments = [word for word in words if isinstance(word, str)]
    if len(arguments) != len(words):
        raise damaged(path, "its arguments are no list of texts")
    return StepArguments(arguments, inputs)
