"""Which jobs are wanted, as the options of `job list` say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import JobState
from batchpoint.domain.model_shape import snake

JobType = Literal["score", "command", "pipeline"]
_TYPES: dict[str, JobType] = {"score": "score", "command": "command", "pipeline": "pipeline"}


class Asked(TypedDict):
    """Keywords of `client.jobs.list`."""

    parent: str | None
    states: tuple[JobState, ...]
    tags: dict[str, str | None]
    type: JobType | None


@dataclass(frozen=True)
class JobFilters:
    """What jobs have to be like; `states`, `tags` (`KEY` or `KEY=VALUE`) and `type` as typed."""

    endpoint: str | None = None
    deployment: str | None = None
    parent: str | None = None
    states: Sequence[str] = ()
    tags: Sequence[str] = ()
    type: str | None = None

    def asked(self) -> Asked:
        """Give the filters as the SDK takes them. Raises: Invalid (`field_invalid`)."""
        states = {str(snake(state.value)): state for state in JobState}
        found: list[JobState] = []
        for text in self.states:
            state = states.get(str(snake(text)))
            if state is None:
                raise _invalid("--status", text, [state.value for state in JobState])
            found.append(state)
        kind = None if self.type is None else _TYPES.get(str(snake(self.type)))
        if self.type is not None and kind is None:
            raise _invalid("--type", self.type, list(_TYPES))
        tags: dict[str, str | None] = {}
        for text in self.tags:
            key, equals, value = text.partition("=")
            if not key:
                raise Invalid(
                    f"--tag {text!r} names no tag: expected KEY or KEY=VALUE", code="field_invalid"
                )
            tags[key] = value if equals else None
        return {"parent": self.parent, "states": tuple(found), "tags": tags, "type": kind}


def _invalid(option: str, text: str, known: Sequence[str]) -> Invalid:
    return Invalid(f"{option} {text!r} is not one of {', '.join(known)}", code="field_invalid")
