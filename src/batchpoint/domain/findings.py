"""What pydantic found wrong with a noun, as one error of ours that names every field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pydantic_core import ErrorDetails

from batchpoint.domain.errors import Invalid

FINDINGS_MAX = 20


def invalid_fields(findings: Sequence[ErrorDetails]) -> Invalid:
    """Turn `ValidationError.errors()` into an error (`field_invalid`, `field_unknown`)."""
    told = [_told(finding) for finding in findings[:FINDINGS_MAX]]
    only_unknown = all(finding["type"] == "extra_forbidden" for finding in findings)
    code = "field_unknown" if only_unknown else "field_invalid"
    if len(told) == 1:
        return Invalid(told[0][1], code=code, where=told[0][0])
    sentences = [f"{place}: {sentence}" for place, sentence in told]
    if len(findings) > FINDINGS_MAX:
        sentences.append(f"and {len(findings) - FINDINGS_MAX} more")
    return Invalid("; ".join(sentences), code=code)


def _told(finding: ErrorDetails) -> tuple[str, str]:
    steps = cast("tuple[object, ...]", finding["loc"])
    place = ".".join(str(step) for step in steps if step != "body") or "body"
    if finding["type"] == "extra_forbidden":
        return place, "unknown field; remove it or check its spelling"
    message = finding["msg"].removeprefix("Value error, ")
    return place, f"{message[:1].lower()}{message[1:]}"
