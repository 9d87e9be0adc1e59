"""Pointers of jobs: to the data they read, and to where their results appear."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from batchpoint.domain import limits
from batchpoint.domain.component import DataType, InputMode, OutputMode, type_word
from batchpoint.domain.datastore_urls import without_query
from batchpoint.domain.errors import Invalid
from batchpoint.domain.model_shape import Noun, Text

InputType = Annotated[DataType, BeforeValidator(type_word)]


class JobInput(Noun):
    """A pointer to data: a file, a folder, or several of them in the order given (`uris`).

    A folder is every file below it, in UTF-8 order of the path. `pattern` keeps only items whose
    path below the folder matches a glob (`**/*.csv`). `asset` is the data asset that was named,
    once it is resolved to where its data lies. What is scored is of type uri_file or uri_folder;
    steps of pipelines take the other types, too, and `mode` says how they get it.
    """

    type: InputType
    uri: str | None = None
    uris: tuple[str, ...] = Field(default=(), max_length=limits.INPUT_URIS_MAX)
    pattern: str | None = None
    mode: InputMode | None = None
    # Set by the server.
    asset: str | None = None

    @model_validator(mode="after")
    def _points_somewhere(self) -> Self:
        if (self.uri is None) == (not self.uris):
            raise Invalid("give either uri, or several as uris", code="field_invalid")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """All that is pointed at, in order."""
        return (self.uri,) if self.uri is not None else self.uris

    @property
    def shown(self) -> str:
        """What is pointed at, in a few words for people."""
        more = len(self.sources) - 1
        told = without_query(self.sources[0]) + (
            f" (pattern {self.pattern})" if self.pattern else ""
        )
        return f"{told} and {more} more" if more else told


class JobOutput(Noun):
    """Where results appear when complete: the URI of a folder."""

    uri: str


class PipelineOutput(Noun):
    """One named output of a pipeline: where it appears, and as what it is registered.

    `uri` names a folder, or the file itself for a uri_file; left out, a place is chosen. `name`
    registers what was written as a model or data asset of that name when its step is done.
    """

    type: Annotated[DataType, BeforeValidator(type_word)] | None = None
    uri: str | None = None
    mode: OutputMode | None = None
    name: str | None = None
    version: Text | None = None
