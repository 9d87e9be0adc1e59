"""What pydantic found wrong with a noun, as one error of ours that names every field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pydantic_core import ErrorDetails

from batchpoint.domain.azure_fields import REFUSED
from batchpoint.domain.errors import Invalid

FINDINGS_MAX = 20


def invalid_fields(findings: Sequence[ErrorDetails]) -> Invalid:
    """Turn `ValidationError.errors()` into an error of ours.

    `field_unknown`, `field_unsupported` for what only Azure knows, or else `field_invalid`; a lone
    finding that is an error of ours keeps its own code.
    """
    told = [_told(finding) for finding in findings[:FINDINGS_MAX]]
    only_unknown = all(finding["type"] == "extra_forbidden" for finding in findings)
    code = "field_unknown" if only_unknown else "field_invalid"
    if only_unknown and all(_field(finding) in REFUSED for finding in findings):
        code = "field_unsupported"
    causes = [finding.get("ctx", {}).get("error") for finding in findings]
    if len(causes) == 1 and isinstance(causes[0], Invalid):
        code = causes[0].code
    if len(told) == 1:
        return Invalid(told[0][1], code=code, where=told[0][0])
    sentences = [f"{place}: {sentence}" for place, sentence in told]
    if len(findings) > FINDINGS_MAX:
        sentences.append(f"and {len(findings) - FINDINGS_MAX} more")
    return Invalid("; ".join(sentences), code=code)


def _field(finding: ErrorDetails) -> str:
    return str(finding["loc"][-1]) if finding["loc"] else ""


def _told(finding: ErrorDetails) -> tuple[str, str]:
    steps = cast("tuple[object, ...]", finding["loc"])
    place = ".".join(str(step) for step in steps if step != "body") or "body"
    if finding["type"] == "extra_forbidden":
        if _field(finding) in REFUSED:
            return place, f"is not supported: {REFUSED[_field(finding)]}"
        return place, "unknown field; remove it or check its spelling"
    message = finding["msg"].removeprefix("Value error, ")
    return place, f"{message[:1].lower()}{message[1:]}"
