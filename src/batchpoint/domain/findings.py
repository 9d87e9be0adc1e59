"""What pydantic found wrong with a noun, as one error of ours that names every field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

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


def invalid_fields(findings: Sequence[ErrorDetails], document: object = None) -> Invalid:
    """Turn `ValidationError.errors()` into an error of ours that holds them as `findings`.

    `document` is what was validated, where it is at hand: then names in it are never taken for
    those of a union's branches. The code is `field_unknown`, `field_unsupported` for what only
    Azure knows, or else `field_invalid`; a lone finding that is an error of ours keeps its own.
    """
    read = [_read(finding, document) for finding in findings]
    told = _told(read)
    found = all_of(told)
    if len(told) > 1:
        codes = {finding.code for finding in told}
        found.code = codes.pop() if len(codes) == 1 else "field_invalid"
    return found


class _Read(NamedTuple):
    """A finding, and whether the branch of a union that it is about was meant by the caller."""

    finding: Finding
    is_meant: bool


# How pydantic names the branches of unions; a tag stands in brackets, or behind its union.
_UNION = "tagged-union["
_BRANCH = re.compile(r"[a-z-]+\[.*|str|int|float|bool|date|datetime|[A-Z]\w*|\(\w+\)")
_FOR_OBJECTS = re.compile(r"[A-Z]|(dict|function|tagged-union)\b")
_FOR_LISTS = ("list", "tuple")


def _read(finding: ErrorDetails, document: object) -> _Read:
    steps = finding["loc"][1:] if finding["loc"][:1] == ("body",) else finding["loc"]
    names: list[str] = []
    here, branch = document, None
    for place, step in enumerate(steps):
        is_tag = place > 0 and str(steps[place - 1]).startswith(_UNION)
        if not is_tag and _holds(here, step):
            here = cast("Mapping[int | str, object]", here)[step]
        elif is_tag or (isinstance(step, str) and _BRANCH.fullmatch(step)):
            if not is_tag:
                branch = (place, str(step))
            continue
        names.append(str(step))
    where = ".".join(names)
    is_meant = branch is None or branch[0] < len(steps) - 1 or _fits(branch[1], finding["input"])
    code, sentence = _sentence(finding, names[-1] if names else "")
    return _Read(Finding(where or "body", sentence, code), is_meant)


def _holds(value: object, step: int | str) -> bool:
    """Tell whether a step leads from a value into what it holds."""
    if isinstance(step, int):
        return isinstance(value, list) and step < len(cast("list[object]", value))
    return isinstance(value, dict) and step in value


def _fits(branch: str, value: object) -> bool:
    """Tell whether a branch of a union is meant for this kind of value."""
    if isinstance(value, dict):
        return _FOR_OBJECTS.match(branch) is not None
    if isinstance(value, list):
        return branch.startswith(_FOR_LISTS)
    if isinstance(value, float) and not math.isfinite(value):
        return branch == "float"
    return not (_FOR_OBJECTS.match(branch) or branch.startswith(_FOR_LISTS))


def _told(read: Sequence[_Read]) -> list[Finding]:
    """Leave out what is said of branches that nobody meant; one finding for each place."""
    meant = {each.finding.where for each in read if each.is_meant}
    places: dict[str, list[Finding]] = {}
    for finding, is_meant in read:
        where = finding.where
        if is_meant or not any(at == where or at.startswith(f"{where}.") for at in meant):
            places.setdefault(where, []).append(finding)
    return [
        Finding(where, "; or ".join(dict.fromkeys(each.message for each in some)), some[0].code)
        for where, some in places.items()
    ]


def _sentence(finding: ErrorDetails, field: str) -> tuple[str, str]:
    """Return the code of a finding and what to say of it."""
    context = finding.get("ctx", {})
    if finding["type"] == "extra_forbidden":
        if field in REFUSED:
            return "field_unsupported", f"is not supported: {REFUSED[field]}"
        return "field_unknown", "unknown field; remove it or check its spelling"
    if finding["type"] == "union_tag_invalid":
        expected = str(context.get("expected_tags")).replace("(", "").replace(")", "")
        tag = str(context.get("tag")).strip("()")
        return "field_invalid", f"type {tag[:100]!r} is none of {expected}"
    cause = context.get("error")
    code = cause.code if isinstance(cause, Invalid) else "field_invalid"
    message = finding["msg"].removeprefix("Value error, ")
    return code, f"{message[:1].lower()}{message[1:]}"
