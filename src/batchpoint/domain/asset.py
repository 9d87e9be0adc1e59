"""Assets: registered, versioned, immutable models, data, code and environments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import Flag, Moment, Noun, Text, TextMap, snake


def model_type(value: object) -> object:
    """Read the type of a model in any spelling; refuse by name the one that cannot be scored."""
    found = snake(value)
    if found == "triton_model":
        raise Invalid(
            "type triton_model is not supported: save the model in MLflow format, or register its "
            "files as custom_model and score them with a script",
            code="field_unsupported",
        )
    return found


class Model(Noun):
    """A model: a file or folder (on the server an uploaded tree, `upload:HASH/NAME`)."""

    name: str | None = None
    version: Text | None = None
    type: Annotated[Literal["custom_model", "mlflow_model"], BeforeValidator(model_type)] = (
        "custom_model"
    )
    path: str
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    # Set by the server.
    archived: Flag = False
    created_at: Moment | None = None


class Data(Noun):
    """A data asset: a name and a version for where data lies.

    `path` is a URI, or an uploaded tree. The asset points at data and copies nothing but uploads.
    """

    name: str | None = None
    version: Text | None = None
    type: Annotated[Literal["uri_folder", "uri_file", "mltable"], BeforeValidator(snake)] = (
        "uri_folder"
    )
    path: str
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    # Set by the server.
    archived: Flag = False
    created_at: Moment | None = None


class Code(Noun):
    """A folder of scoring code, registered so that deployments can share it by reference."""

    name: str | None = None
    version: Text | None = None
    path: str
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    # Set by the server.
    archived: Flag = False
    created_at: Moment | None = None


class Environment(Noun):
    """What user code runs in: conda or pip requirements, built by uv and found by content hash.

    `conda_file` holds the file's parsed content once loaded (a path only in YAML);
    `requirements` is ours: requirement lines. An `image` is refused unless the settings map it.
    """

    name: str | None = None
    version: Text | None = None
    image: str | None = None
    conda_file: str | dict[str, object] | None = None
    requirements: list[str] | None = None
    python_version: Text | None = None
    description: str | None = Field(default=None, max_length=limits.DESCRIPTION_LENGTH_MAX)
    tags: TextMap = Field(default_factory=dict)
    properties: TextMap = Field(default_factory=dict)
    os_type: Annotated[Literal["linux"], BeforeValidator(snake)] | None = None
    # Set by the server.
    archived: Flag = False
    created_at: Moment | None = None
