"""The name of what a deterministic step computes: equal names, equal results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from batchpoint.domain.component import Scalar
from batchpoint.domain.job_spec import StepPlace

_FORM = "batchpoint-step-1"


def reuse_key(
    place: StepPlace, literals: Mapping[str, Scalar], contents: Mapping[str, str]
) -> str | None:
    """Return the key (hex sha256) under which a step's outputs may be taken over.

    Args:
        place: the step; its `identity` stands for component, code, environment and settings.
        literals: the literal inputs that have a value.
        contents: for each input that is data, the hash of its content; "" where nobody knows.

    Returns:
        None when the step may not take over anything: it is not deterministic, or the content of
        an input is not known.
    """
    if not place.is_deterministic or not all(contents.values()):
        return None
    told = [
        _FORM,
        place.identity,
        # `3` and `3.0`, `true` and `"true"` are different texts on a command line.
        sorted((name, type(value).__name__, str(value)) for name, value in literals.items()),
        sorted(contents.items()),
        sorted((name, output.type) for name, output in place.outputs.items()),
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
