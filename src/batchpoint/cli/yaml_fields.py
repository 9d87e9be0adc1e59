"""Turns a YAML tree into a noun, or says everything that is wrong with it, each with its place."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from batchpoint.cli.yaml_nodes import ListNode, MapNode, Mark, Node, kind_of, plain
from batchpoint.domain.errors import Invalid

_BOUND_NOT_WORTH_SAYING = 2**31 - 1

N = TypeVar("N", bound=BaseModel)


class Problem(NamedTuple):
    """One thing that is wrong with a file."""

    mark: Mark
    field: str
    sentence: str
    code: str = "field_invalid"

    def __str__(self) -> str:
        told = self.field and str(self.mark) != f"--set {self.field}"  # which would say it twice
        return f"{self.field}: {self.sentence}" if told else self.sentence


class FieldErrors(Invalid):
    """Everything that is wrong with a file, at once; `problems` in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        """Build from at least one problem; the code is that of the first."""
        self.problems = sorted(problems, key=_place_of)
        first = self.problems[0]
        lines = [f"{problem.mark}: {problem}" for problem in self.problems[1:]]
        super().__init__("\n".join([str(first), *lines]), code=first.code, where=str(first.mark))


def _place_of(problem: Problem) -> tuple[bool, str, int, int]:
    """Order by place: what the command line says, then file by file."""
    source, line, column = problem.mark
    return line > 0, source if line else "", line, column


def checked(
    model: type[N],
    tree: MapNode,
    problems: list[Problem],
    *,
    shown: str = "",
    built: Mapping[int, object] | None = None,
) -> N | None:
    """Build `model` from a part of a file; None when something of it was added to `problems`.

    `shown` stands before the names of fields; `built` holds nouns that nodes (by `id`) are already.
    """
    try:
        return model.model_validate(plain(tree, written=True, built=built))
    except ValidationError as error:
        problems += [
            found._replace(field=f"{shown}{found.field}".rstrip("."))
            for found in _problems(model, tree, error)
        ]
        return None


def validated(model: type[N], tree: MapNode, problems: list[Problem] | None = None) -> N:
    """Build `model` from the tree.

    Args:
        model: The noun to build.
        tree: What the file says, in the noun's own layout.
        problems: What was found wrong before (unsupported keys, ...), reported with the rest.

    Raises:
        FieldErrors: With all problems, those found before included.
    """
    found = list(problems or ())
    noun = checked(model, tree, found)
    if noun is None or found:
        raise FieldErrors(found)
    return noun


def _problems(model: type[BaseModel], tree: MapNode, error: ValidationError) -> list[Problem]:
    """Translate pydantic's findings; those of union branches nobody meant are left out."""
    found: dict[tuple[Mark, str], Problem] = {}
    not_meant: list[_Place] = []
    for detail in error.errors(include_url=False):
        place = _locate(model, tree, detail["loc"])
        if not place.meant:
            not_meant.append(place)
            continue
        problem = _problem(place, detail["type"], detail.get("ctx") or {})
        found.setdefault((problem.mark, problem.field), problem)
    for place in not_meant:  # a value that fits no branch at all
        if not any(_within(problem.field, place.field) for problem in found.values()):
            problem = _problem(place, "", {})
            found[problem.mark, problem.field] = problem
    return list(found.values())


def _within(field: str, parent: str) -> bool:
    return field == parent or field.startswith(f"{parent}.")


class _Place(NamedTuple):
    """Where a finding belongs: the node (None: a missing key), and what was expected there.

    `meant` is false for a finding of a union's branch that the value was not meant for.
    """

    mark: Mark
    key: Mark
    field: str
    node: Node | None
    annotation: object
    metadata: tuple[object, ...]
    owner: type[BaseModel] | None
    meant: bool = True


def _locate(model: type[BaseModel], tree: MapNode, loc: tuple[int | str, ...]) -> _Place:
    """Walk pydantic's location through tree and model."""
    node: Node | None = tree
    mark = key = tree.mark
    owner: type[BaseModel] | None = model
    annotation: object = model
    metadata: tuple[object, ...] = ()
    names: list[str] = []
    for step in loc:
        if (item := _item_at(node, step)) is not None:
            node, annotation = item, _item_type(annotation)
            mark, metadata = node.mark, ()
            names.append(str(step))
            owner = _model_in(annotation)
        elif (
            isinstance(step, str)
            and isinstance(node, MapNode)
            and (step in node.items or (owner is not None and step in owner.model_fields))
        ):
            names.append(step)
            info = owner.model_fields.get(step) if owner is not None else None
            annotation, metadata = _declared(info) if info else (_item_type(annotation), ())
            parent = node
            node = parent.items.get(step)
            mark = node.mark if node is not None else parent.mark
            key = parent.keys.get(step, parent.mark)
            owner = owner if owner is not None and info is None else _model_in(annotation)
        elif not _branch_meant(str(step), node):
            return _Place(
                mark, key, ".".join(names), node, annotation, metadata, owner, meant=False
            )
    return _Place(mark, key, ".".join(names), node, annotation, metadata, owner)


def _item_at(node: Node | None, step: int | str) -> Node | None:
    """Give the item of a list at an index; None when it is not about a list."""
    if isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


def _branch_meant(branch: str, node: Node | None) -> bool:
    """Tell whether a union's branch (`str`, `Model`, ...) fits the kind of value that was given."""
    if isinstance(node, MapNode):
        return branch[:1].isupper() or branch.startswith("dict")
    if isinstance(node, ListNode):
        return branch.startswith(("list", "tuple"))
    return not (branch[:1].isupper() or branch.startswith(("dict", "list")))


def _problem(place: _Place, kind: str, context: Mapping[str, Any]) -> Problem:
    if kind == "missing":
        return Problem(place.mark, place.field, f"is missing; expected {_expected(place)}")
    if kind == "extra_forbidden":
        return _unknown(place)
    got = kind_of(place.node) if place.node is not None else "nothing"
    cause = context.get("error")
    if kind == "value_error" and isinstance(cause, Invalid):  # others say less than we know here
        return Problem(place.mark, place.field, cause.message, cause.code)
    if kind == "string_too_long":
        return Problem(
            place.mark, place.field, f"is longer than {context['max_length']:,} characters"
        )
    return Problem(place.mark, place.field, f"expected {_expected(place)}, got {got}")


def _unknown(place: _Place) -> Problem:
    """Report a key that the noun does not have, with the key that was probably meant."""
    key = place.field.rpartition(".")[2]
    advice = closest(key, place.owner.model_fields if place.owner is not None else ())
    return Problem(place.key, place.field, f"unknown field; {advice}", "field_unknown")


def closest(key: str, known: Iterable[str]) -> str:
    """Advise on an unknown key: the one that was probably meant, or all that there are."""
    names = sorted(known)
    close = get_close_matches(key, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(names)}" if names else "remove it"


def _declared(info: FieldInfo) -> tuple[object, tuple[object, ...]]:
    return info.annotation, tuple(info.metadata)


def _flat(annotation: object) -> Iterator[tuple[object, tuple[object, ...]]]:
    """Yield the members of a (nested, annotated) union with their constraints."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        for member, below in _flat(inner):
            constraints: list[object] = []
            for item in metadata:
                constraints += item.metadata if isinstance(item, FieldInfo) else [item]
            yield member, (*below, *constraints)
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _flat(member)
    elif annotation is not type(None):
        yield annotation, ()


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Find the noun in an annotation, if there is one."""
    for member, _ in _flat(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def _item_type(annotation: object) -> object:
    """Find what a list or mapping holds."""
    for member, _ in _flat(annotation):
        if get_origin(member) in (list, dict, tuple):
            return get_args(member)[-1]
    return object


def _expected(place: _Place) -> str:
    words: list[str] = []
    for member, constraints in _flat(place.annotation):
        word = _describe(member, (*place.metadata, *constraints))
        if word not in words:
            words.append(word)
    return " or ".join(words) or "another value"


_WORDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    object: "a value",
}


def _describe(member: object, constraints: tuple[object, ...]) -> str:
    if get_origin(member) is Literal:
        options = [str(option) for option in get_args(member)]
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    if get_origin(member) is list:
        return f"a list of {_describe(get_args(member)[0], ())}"
    if isinstance(member, type) and issubclass(member, BaseModel):
        needed = [name for name, info in member.model_fields.items() if info.is_required()]
        return f"a mapping with {', '.join(needed)}" if needed else "a mapping"
    word = next((w for t, w in _WORDS.items() if t in (member, get_origin(member))), "a value")
    low = next((item.ge for item in constraints if isinstance(item, Ge)), None)
    high = next((item.le for item in constraints if isinstance(item, Le)), None)
    longest = next((item.max_length for item in constraints if isinstance(item, MaxLen)), None)
    if longest is not None:
        return f"{word} of at most {longest:,} characters"
    if low is not None and isinstance(high, int) and high < _BOUND_NOT_WORTH_SAYING:
        return f"{word} from {low} to {high:,}"
    return word if low is None else f"{word} >= {low}"


def refused(mark: Mark, field: str, sentence: str) -> Problem:
    """Report a key of Azure's that cannot be honoured here, and what to do instead."""
    return Problem(mark, field, sentence, "field_unsupported")


def type_problem(mark: Mark, field: str, expected: str, node: Node) -> Problem:
    """Report a value of the wrong kind where no noun describes the field."""
    return Problem(mark, field, f"expected {expected}, got {kind_of(node)}")
