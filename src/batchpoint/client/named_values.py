"""Inputs and outputs of an invocation by name: what callers may give, and what is sent of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchpoint.client.pointers import data_uri, job_input
from batchpoint.domain.component import DATA_TYPES, ComponentInput, DataType, InputMode, Scalar
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_pointers import JobInput, PipelineOutput

Pointer = str | os.PathLike[str]


@dataclass(frozen=True)
class Input:
    """A pointer to data, and whether it is one file or a folder.

    `path`: a local path (wildcards stand for files, `data/*.csv`), a URI, a data asset
    (`azureml:NAME:VERSION`, `azureml:NAME@latest`), or several of them. A type that is left out is
    found by looking; inputs of pipelines may also be of type mltable, mlflow_model or custom_model.
    `pattern` takes only those items of a folder whose path matches (`**/*.csv`). `mode` says how a
    step gets it: ro_mount, download or direct.
    """

    path: Pointer | Sequence[Pointer]
    type: DataType | None = None
    pattern: str | None = None
    mode: InputMode | None = None

    def resolved(self) -> JobInput:
        """Return the input with absolute paths. Raises: Invalid (`reference_invalid`, …)."""
        several = [self.path] if isinstance(self.path, str | os.PathLike) else list(self.path)
        if not several:
            raise Invalid("is empty: point at some data", code="field_invalid", where="input")
        texts = [os.fspath(path) for path in several]
        found = job_input(texts, Path.cwd(), kind=self.type, pattern=self.pattern)
        return found if self.mode is None else found.model_copy(update={"mode": self.mode})


Value = Input | JobInput | os.PathLike[str] | Sequence[Pointer] | Scalar | None
"""What a named input may be: data, or a literal. A text is what the component declares."""


class NamedInputs:
    """Reads named inputs.

    `declared` gives the inputs of the component that is invoked, and is asked for only where that
    matters; `typed` gives an input the type that the data assets in it have.
    """

    def __init__(
        self,
        declared: Callable[[], Mapping[str, ComponentInput]],
        typed: Callable[[JobInput], JobInput],
    ) -> None:
        """Nothing is asked yet."""
        self._declared = declared
        self._typed = typed

    def read(self, given: Mapping[str, Value]) -> dict[str, Scalar | JobInput | None]:
        """Return inputs as they are sent. Raises: Invalid, naming the input."""
        return {name: self._read(name, value) for name, value in given.items()}

    def _read(self, name: str, value: Value) -> Scalar | JobInput | None:
        if value is None or isinstance(value, JobInput | bool | int | float):
            return value
        if isinstance(value, str) and self._data_type(name) is None:
            return value
        source = value if isinstance(value, Input) else Input(value)
        kind = source.type or self._data_type(name)
        try:
            found = Input(source.path, kind, source.pattern, source.mode).resolved()
            return found if kind is not None else self._typed(found)
        except Invalid as error:
            where = f"inputs.{name}"
            raise Invalid(error.message, code=error.code, where=where) from error

    def _data_type(self, name: str) -> DataType | None:
        known = self._declared().get(name)
        return next((kind for kind in DATA_TYPES if known is not None and known.type == kind), None)


def named_outputs(
    given: Mapping[str, Pointer | PipelineOutput],
) -> dict[str, PipelineOutput | None]:
    """Return outputs as they are sent, local paths made absolute."""
    return {
        name: place if isinstance(place, PipelineOutput) else PipelineOutput(uri=absolute(place))
        for name, place in given.items()
    }


def absolute(path: Pointer) -> str:
    """Bring a pointer to its canonical form, from this process's folder on."""
    return data_uri(os.fspath(path), Path.cwd())
