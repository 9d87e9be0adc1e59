"""What pydantic found wrong with a noun, as one error of ours that names every field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pydantic_core import ErrorDetails

from batchpoint.domain.azure_fields import REFUSED
from batchpoint.domain.errors import Finding, Invalid

FINDINGS_MAX = 20


def all_of(findings: Sequence[Finding]) -> Invalid:
    """Return one error that tells all findings (at least one), and holds them as `findings`.

    Its code is that of the first; a lone finding also is its `where`.
    """
    first = findings[0]
    if len(findings) == 1:
        found = Invalid(first.message, code=first.code, where=first.where or None)
    else:
        told = [f"{f.where}: {f.message}" if f.where else f.message for f in findings]
        more = len(told) - FINDINGS_MAX
        last = [f"and {more} more"] if more > 0 else []
        found = Invalid("; ".join([*told[:FINDINGS_MAX], *last]), code=first.code)
    found.findings = tuple(findings)
    return found


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
