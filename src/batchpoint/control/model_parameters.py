"""Literal parameters: merged by name, and typed as a model with no code declares them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid

Value = str | int | float | bool

WHERE = "overrides.parameters"
DEPLOYMENT_WHERE = "settings.parameters"
_NAME = re.compile(r"[A-Za-z0-9_]{1,255}")
_SHOWN = 60
_INT_BITS = {"integer": 32, "long": 64}
_MODEL_FILE = "MLmodel"


class DeclaredParameter(NamedTuple):
    """One entry of `params` in a model's signature; `type` is MLflow's name for it."""

    type: str
    is_list: bool


def check_names(parameters: Mapping[str, Value], where: str) -> None:
    """Refuse names that no script could read. Raises: Invalid (`field_invalid`)."""
    for name in parameters:
        if _NAME.fullmatch(name) is None:
            raise Invalid(
                f"{name[:_SHOWN]!r} is not the name of a parameter: expected letters, digits and "
                "'_'",
                code="field_invalid",
                where=where,
            )


def merged(defaults: Mapping[str, Value], given: Mapping[str, Value]) -> dict[str, Value]:
    """Merge by name what a job gives into what its deployment says.

    Text given for a default that is a number or a truth value is read as one: on Azure's wire all
    literals are strings. Raises: Invalid (`field_invalid`) naming the parameter.
    """
    check_names(given, WHERE)
    together = dict(defaults)
    for name, value in given.items():
        default = defaults.get(name)
        if isinstance(value, str) and default is not None and not isinstance(default, str):
            kind = "boolean" if isinstance(default, bool) else "double"
            if isinstance(default, int) and not isinstance(default, bool):
                kind = "long"
            together[name] = _typed(name, value, kind, WHERE)
        else:
            together[name] = value
    if len(together) > limits.PARAMETERS_MAX:
        raise Invalid(
            f"makes {len(together)} parameters together with the deployment's, and "
            f"{limits.PARAMETERS_MAX} is the most",
            code="field_invalid",
            where=WHERE,
        )
    return together


def fitted(
    parameters: Mapping[str, Value], model_path: Path, where: str = WHERE
) -> dict[str, Value]:
    """Return parameters as the signature of a model in MLflow format types them.

    Raises: Invalid (`field_invalid`) naming the parameter that the model does not have or whose
    value is of another type, or saying that the model takes none.
    """
    if not parameters:
        return {}
    declared = declared_parameters(model_path)
    if not declared:
        raise Invalid(
            f"{', '.join(sorted(parameters))} cannot be given: the signature of the model has no "
            "params, and a model scored with no code takes only those; save it with params in its "
            "signature, or deploy it with a scoring script",
            code="field_invalid",
            where=where,
        )
    typed: dict[str, Value] = {}
    for name, value in parameters.items():
        wanted = declared.get(name)
        if wanted is None:
            raise Invalid(
                f"the model has no parameter {name!r}; its signature has "
                f"{', '.join(sorted(declared))}",
                code="field_invalid",
                where=f"{where}.{name}",
            )
        if wanted.is_list or wanted.type not in _READERS:
            shape = "a list" if wanted.is_list else f"of type {wanted.type}"
            raise Invalid(
                f"is {shape} in the model's signature, and parameters are single texts, numbers or "
                "truth values; leave it out, so that its default counts",
                code="field_invalid",
                where=f"{where}.{name}",
            )
        typed[name] = _typed(name, value, wanted.type, where)
    return typed


def declared_parameters(model_path: Path) -> dict[str, DeclaredParameter]:
    """Return the `params` of a model's signature by name; empty when it declares none.

    Raises: Invalid (`model_invalid`) when the MLmodel file cannot be read.
    """
    import yaml  # noqa: PLC0415  # few jobs have parameters

    path = _model_file(model_path)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content: object = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506  # safe ones
        signature = _mapping(_mapping(content).get("signature"))
        listed = signature.get("params")
        specs: object = json.loads(listed) if isinstance(listed, str) else listed
        return {
            str(spec["name"]): DeclaredParameter(
                str(spec.get("type") or spec.get("dtype")), spec.get("shape") is not None
            )
            for spec in cast("list[dict[str, object]]", specs or [])
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise Invalid(
            f"{path.name} of the model cannot be read, so that its parameters are not known; save "
            "the model again with MLflow's save_model",
            code="model_invalid",
            where=WHERE,
        ) from error


def _model_file(model: Path) -> Path:
    if not (model / _MODEL_FILE).is_file() and model.is_dir():
        below = [path for path in sorted(model.iterdir()) if (path / _MODEL_FILE).is_file()]
        if len(below) == 1:
            return below[0] / _MODEL_FILE
    return model / _MODEL_FILE


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _typed(name: str, value: Value, kind: str, where: str) -> Value:
    read, expected = _READERS[kind]
    try:
        return read(value)
    except (ValueError, OverflowError):
        raise _wrong(where, name, f"expected {expected}", value) from None


def _wrong(where: str, name: str, expected: str, value: Value) -> Invalid:
    shown = json.dumps(value)[:_SHOWN]
    return Invalid(f"{expected}, got {shown}", code="field_invalid", where=f"{where}.{name}")


def _boolean(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError(value)


def _whole(bits: int) -> Callable[[Value], int]:
    def read(value: Value) -> int:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError(value)
        number = int(value)
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise ValueError(value)
        return number

    return read


def _number(value: Value) -> float:
    if isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004  # one error for all that is not of the type
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004  # one error for all that is not of the type
    return value


_READERS: dict[str, tuple[Callable[[Value], Value], str]] = {
    "boolean": (_boolean, "true or false"),
    "integer": (_whole(_INT_BITS["integer"]), "a whole number of 32 bits"),
    "long": (_whole(_INT_BITS["long"]), "a whole number of 64 bits"),
    "float": (_number, "a number"),
    "double": (_number, "a number"),
    "string": (_text, "a text"),
}
