"""Values for typed inputs: which types fit which, and whether a value is of a type."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from typing import cast

from batchpoint.core.binding import literal_text
from batchpoint.domain.component import (
    LITERAL_TYPES,
    ComponentInput,
    DataType,
    LiteralType,
    Scalar,
)
from batchpoint.domain.errors import Finding, Invalid
from batchpoint.domain.job_pointers import JobInput

INTEGER_MAX = 2**63 - 1
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WORDS: dict[str, str] = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a text",
}
# What data of a type may be used as. A model of an own format may be a file or a folder.
_USABLE_AS: dict[DataType, frozenset[DataType]] = {
    "uri_file": frozenset({"uri_file", "custom_model"}),
    "uri_folder": frozenset({"uri_folder", "mltable", "mlflow_model", "custom_model"}),
    "mltable": frozenset({"mltable", "uri_folder", "custom_model"}),
    "mlflow_model": frozenset({"mlflow_model", "uri_folder", "custom_model"}),
    "custom_model": frozenset({"custom_model", "uri_file", "uri_folder", "mlflow_model"}),
}


def is_literal(declared: LiteralType | DataType) -> bool:
    """Tell whether values of a type are literals, not pointers to data."""
    return declared in LITERAL_TYPES


def fits(source: LiteralType | DataType, target: LiteralType | DataType) -> bool:
    """Tell whether what is of one type may feed an input of another.

    A text fits every literal: whether it says a number is known when its value is.
    """
    if is_literal(source) != is_literal(target):
        return False
    if is_literal(source):
        return source == target or "string" in {source, target} or (
            source == "integer" and target == "number"
        )  # fmt: skip
    return target in _USABLE_AS[cast("DataType", source)]


def literal_value(declared: ComponentInput, value: Scalar) -> Scalar:
    """Return a literal as its input's type says: `"3"` is 3 for an integer.

    Raises:
        Invalid: `field_invalid`, it is of another type, out of bounds, or not in the enum.
    """
    converted = _converted(declared.type, value)
    if isinstance(converted, (int, float)) and not isinstance(converted, bool):
        if declared.min is not None and converted < declared.min:
            raise _wrong(f"{converted} is below the minimum {declared.min}")
        if declared.max is not None and converted > declared.max:
            raise _wrong(f"{converted} is above the maximum {declared.max}")
    if declared.enum is not None:
        allowed = [_converted(declared.type, each) for each in declared.enum]
        if not any(each == converted for each in allowed):
            listed = ", ".join(literal_text(each) for each in allowed)
            raise _wrong(f"{_shown(converted)} is none of: {listed}")
    return converted


def values_for(
    inputs: Mapping[str, ComponentInput],
    given: Mapping[str, Scalar | JobInput | None],
    where: str,
) -> tuple[dict[str, Scalar | JobInput], list[Finding]]:
    """Check values against declared inputs; return those that hold, defaults included.

    `given` may leave out (or give None for) what is optional or has a default. Findings name
    `WHERE.INPUT`, in the order of the inputs, then of what is unknown.
    """
    values: dict[str, Scalar | JobInput] = {}
    findings: list[Finding] = []
    for name, declared in inputs.items():
        place = f"{where}.{name}"
        value = given.get(name)
        value = declared.default if value is None else value
        if value is None:
            if not declared.optional:
                findings.append(
                    Finding(place, f"is missing; expected {expected(declared)}", "input_missing")
                )
            continue
        try:
            values[name] = _checked(declared, value, place)
        except Invalid as error:
            findings.append(Finding(place, error.message, error.code))
    findings.extend(
        Finding(f"{where}.{name}", unknown("input", name, inputs), "field_unknown")
        for name in given
        if name not in inputs
    )
    return values, findings


def _checked(declared: ComponentInput, value: Scalar | JobInput, place: str) -> Scalar | JobInput:
    if not isinstance(value, JobInput):
        if is_literal(declared.type):
            return literal_value(declared, value)
        told = f"expected {expected(declared)}, not the literal {_shown(value)}"
        # Whoever wrote a text most likely meant a path.
        meant = f"; data is given as {place}.path={value}" if isinstance(value, str) else ""
        raise _wrong(told + meant)
    if is_literal(declared.type):
        raise _wrong(f"expected {expected(declared)}, not a pointer to data ({value.type})")
    if not fits(value.type, declared.type):
        raise _wrong(f"expected {expected(declared)}, not a {value.type}")
    return value


def expected(declared: ComponentInput) -> str:
    """Say in words which values an input takes."""
    if not is_literal(declared.type):
        return f"data of type {declared.type}"
    words = _WORDS[declared.type]
    if declared.enum is not None:
        return f"{words}, one of: {', '.join(str(each) for each in declared.enum)}"
    bounds = [f"at least {declared.min}"] if declared.min is not None else []
    bounds += [f"at most {declared.max}"] if declared.max is not None else []
    return f"{words} of {' and '.join(bounds)}" if bounds else words


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """Say that there is no such input, output or step, and which there are."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no {what} {name!r}; did you mean {near[0]!r}?"
    if not known:
        return f"there is no {what} {name!r}, and no other one either"
    listed = ", ".join(sorted(known)[:10]) + (", …" if len(known) > 10 else "")
    return f"there is no {what} {name!r}; there are: {listed}"


def _converted(declared: LiteralType | DataType, value: Scalar) -> Scalar:
    if declared == "string":
        return literal_text(value)
    if declared == "boolean":
        return _boolean(value)
    return _integer(value) if declared == "integer" else _number(value)


def _boolean(value: Scalar) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    raise _not_a("boolean", value)


def _integer(value: Scalar) -> int:
    if isinstance(value, bool):
        raise _not_a("integer", value)
    if isinstance(value, str):
        if _INTEGER.fullmatch(value.strip()) is None:
            raise _not_a("integer", value)
        value = int(value.strip())
    elif isinstance(value, float):
        if not value.is_integer():
            raise _not_a("integer", value)
        value = int(value)
    if not -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
        raise _wrong("the whole number has more than 64 bits; give it as a string")
    return value


def _number(value: Scalar) -> int | float:
    if isinstance(value, bool):
        raise _not_a("number", value)
    if isinstance(value, str):
        text = value.strip()
        if _INTEGER.fullmatch(text):
            return _integer(text)
        if len(text) > 400 or _NUMBER.fullmatch(text) is None:
            raise _not_a("number", value)
        value = float(text)
    if isinstance(value, int):
        return _integer(value)
    if not math.isfinite(value):
        raise _wrong("expected a finite number")
    return value


def _not_a(declared: LiteralType, value: Scalar) -> Invalid:
    return _wrong(f"expected {_WORDS[declared]}, not {_shown(value)}")


def _shown(value: Scalar) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _wrong(message: str) -> Invalid:
    return Invalid(message, code="field_invalid")
