"""Bindings and placeholders: what the inputs of a step come from, and where commands use them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from batchpoint.core.shell_expansions import Reference
from batchpoint.core.shell_quoting import Quoted, quoted
from batchpoint.domain.component import Scalar
from batchpoint.domain.errors import Invalid
from batchpoint.domain.limits import LITERAL_BYTES_MAX

Kind = Literal["inputs", "outputs"]
Values = Mapping[tuple[Kind, str], str]
"""The texts of inputs and outputs, by kind and name; those without a value are absent."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_BINDING = re.compile(
    rf"\$\{{\{{\s*parent\.(?:inputs\.(?P<input>{_NAME})"
    rf"|jobs\.(?P<step>{_NAME})\.outputs\.(?P<output>{_NAME})"
    rf"|outputs\.(?P<parent_output>{_NAME}))\s*\}}\}}"
)
_PLACEHOLDER = re.compile(rf"\s*(?P<kind>inputs|outputs)\.(?P<name>{_NAME})\s*")
_OF_PLACE = re.compile(r"\$\{\{\s*(?P<word>name|default_datastore)\s*\}\}")
_BOUND = re.compile(r"\$\{\{(?P<inner>.*?)\}\}", re.DOTALL)
_SHOWN_CHARS_MAX = 100


class ParentInput(NamedTuple):
    """`${{parent.inputs.NAME}}`: an input of the pipeline."""

    name: str


class StepOutputRef(NamedTuple):
    """`${{parent.jobs.STEP.outputs.OUTPUT}}`: what another step of the pipeline writes."""

    step: str
    output: str


class ParentOutput(NamedTuple):
    """`${{parent.outputs.NAME}}`: an output of the pipeline."""

    name: str


Binding = ParentInput | StepOutputRef | ParentOutput


class Placeholder(NamedTuple):
    """`${{inputs.NAME}}` or `${{outputs.NAME}}`, perhaps inside of an optional section."""

    kind: Kind
    name: str
    optional_section: bool = False


class _Section(NamedTuple):
    """`$[[ … ]]`: emitted when everything in it has a value."""

    pieces: tuple[str | Placeholder, ...]


def read_binding(text: str) -> Binding | None:
    """Read what an input or output of a step is bound to; None for a plain literal text.

    Raises:
        Invalid: `binding_invalid`, a malformed `${{…}}`, or one with text around it.
    """
    if "${{" not in text:
        return None
    match = _BINDING.fullmatch(text.strip())
    if match is None:
        raise Invalid(_wrong_binding(text.strip()), code="binding_invalid")
    if (name := match["input"]) is not None:
        return ParentInput(name)
    if (name := match["parent_output"]) is not None:
        return ParentOutput(name)
    return StepOutputRef(match["step"], match["output"])


def read_target(text: str) -> Binding | None:
    """Read what an output of a step is bound to; None for a place, see `filled_place`.

    Raises:
        Invalid: as `read_binding`.
    """
    return read_binding(text) if "${{" in _OF_PLACE.sub("", text) else None


def filled_place(uri: str, *, name: str, default_datastore: str) -> str:
    """Put the job's name for `${{name}}` in the place of an output, and likewise the datastore."""
    words = {"name": name, "default_datastore": default_datastore}
    return _OF_PLACE.sub(lambda found: words[found["word"]], uri)


def _wrong_binding(text: str) -> str:
    forms = ("expected ${{parent.inputs.NAME}}, ${{parent.jobs.STEP.outputs.NAME}} or "
             "${{parent.outputs.NAME}}")  # fmt: skip
    if _BINDING.search(text):
        return (
            f"{_shown(text)} is a binding with text around it; a binding stands alone, so put the "
            "text into the component's command"
        )
    return f"{_shown(text)} is not a binding; {forms}"


def read_placeholder(text: str) -> Placeholder | None:
    """Read a text that is one placeholder and nothing else; None for a plain text.

    Raises:
        Invalid: `binding_invalid`, a malformed `${{…}}`, or one with text around it.
    """
    if "${{" not in text:
        return None
    match = _BOUND.fullmatch(text.strip())
    if match is None:
        raise Invalid(f"{_shown(text)}: expected ${{{{inputs.NAME}}}} or ${{{{outputs.NAME}}}} "
                      "and nothing else", code="binding_invalid")  # fmt: skip
    return _placeholder(match["inner"], in_section=False)


def placeholders(template: str) -> tuple[Placeholder, ...]:
    """Return all placeholders of a command or of `program_arguments`, in order.

    Raises:
        Invalid: `binding_invalid`, the template is malformed.
    """
    found: list[Placeholder] = []
    for piece in _parsed(template):
        inner = piece.pieces if isinstance(piece, _Section) else (piece,)
        found.extend(each for each in inner if isinstance(each, Placeholder))
    return tuple(found)


def evaluated_placeholders(template: str) -> tuple[Placeholder, ...]:
    """Return the placeholders of a command whose values the shell itself would take for code.

    Those in arithmetic, and in the words of `eval`, `bash -c` and the like. Values other than
    numbers, and texts that the component itself lists, have to be refused there.

    Raises:
        Invalid: `binding_invalid`, the template is malformed.
    """
    pieces: list[str | Placeholder] = []
    for piece in _parsed(template):
        pieces.extend(piece.pieces if isinstance(piece, _Section) else (piece,))
    found = _quoted(pieces).evaluated
    return tuple(
        piece
        for index, piece in enumerate(pieces)
        if isinstance(piece, Placeholder) and index in found
    )


def shell_text(template: str, given: Collection[str]) -> str:
    """Return the command for bash or sh: values stay out of it, in environment variables.

    `given` names the inputs that have a value. Each placeholder becomes a reference to its
    `variable_of`, quoted as its place asks, and expands there to exactly its value.

    Raises:
        Invalid: `binding_invalid`, the template is malformed, or needs a value that is not given.
    """
    return _quoted(_resolved(template, given)).text


def _quoted(pieces: list[str | Placeholder]) -> Quoted:
    items: list[str | Reference] = []
    for index, piece in enumerate(pieces):
        if isinstance(piece, Placeholder):
            items.append(Reference(variable_of(piece.kind, piece.name), index))
        else:
            items.extend(piece)
    return quoted(items)


def arguments(template: str, values: Values, given: Collection[str]) -> list[str]:
    """Return `program_arguments` as words: split as a shell would, values put into them after.

    `given` names the inputs that have a value; nothing in a value is special.

    Raises:
        Invalid: `binding_invalid`, the template is malformed (an open quote, too), or needs a
            value that is not given.
    """
    pieces = _resolved(template, given)
    marked = "".join(
        piece if isinstance(piece, str) else f"\0{index}\0" for index, piece in enumerate(pieces)
    )
    try:
        words = shlex.split(marked)
    except ValueError as error:
        reason = str(error)
        raise Invalid(f"the arguments cannot be split into words: {reason[:1].lower()}{reason[1:]}",
                      code="binding_invalid") from error  # fmt: skip
    return [_filled(word, pieces, values) for word in words]


def _filled(word: str, pieces: list[str | Placeholder], values: Values) -> str:
    parts = word.split("\0")
    for at in range(1, len(parts), 2):
        parts[at] = _value(pieces[int(parts[at])], values)
    return "".join(parts)


def _value(piece: str | Placeholder, values: Values) -> str:
    assert isinstance(piece, Placeholder)
    text = values.get((piece.kind, piece.name))
    if text is None:
        raise Invalid(f"{piece.kind}.{piece.name} has no value here", code="binding_invalid")
    return text


def shown_text(template: str, values: Values, given: Collection[str]) -> str:
    """Return the template with its values in it, quoted: for people, never to be run.

    Raises:
        Invalid: `binding_invalid`, the template is malformed, or needs a value that is not given.
    """
    return "".join(
        piece if isinstance(piece, str) else shlex.quote(_value(piece, values))
        for piece in _resolved(template, given)
    )


def variable_of(kind: Kind, name: str) -> str:
    """Return the environment variable in which a command finds the value of an input or output."""
    return f"BATCHPOINT_{'INPUT' if kind == 'inputs' else 'OUTPUT'}_{name}"


def literal_text(value: Scalar) -> str:
    """Return a literal as commands get it: `True`, `False`, numbers as Python writes them.

    Raises:
        Invalid: `field_invalid`, a text that no process can be given: with a NUL character, with
            half a character, or longer than LITERAL_BYTES_MAX.
    """
    if not isinstance(value, str):
        return str(value)
    if "\0" in value:
        raise Invalid("a NUL character cannot be passed to a command", code="field_invalid")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise Invalid("the text holds half of a character (a lone surrogate), which UTF-8 cannot "
                      "write", code="field_invalid") from error  # fmt: skip
    if size > LITERAL_BYTES_MAX:
        raise Invalid(
            f"the text has {size:,} bytes, literals may have {LITERAL_BYTES_MAX:,}; put it into a "
            "file and give that as a uri_file",
            code="field_invalid",
        )
    return value


# --- reading templates ----------------------------------------------------------------------


def _resolved(template: str, given: Collection[str]) -> list[str | Placeholder]:
    """Return the pieces of a template that are emitted when only `given` inputs have a value."""
    pieces: list[str | Placeholder] = []
    for piece in _parsed(template):
        if isinstance(piece, _Section):
            if all(_has_value(each, given) for each in piece.pieces):
                pieces.extend(piece.pieces)
            continue
        if not _has_value(piece, given):
            assert isinstance(piece, Placeholder)
            raise Invalid(
                f"input {piece.name!r} has no value and is used outside of $[[ … ]]",
                code="binding_invalid",
            )
        pieces.append(piece)
    return pieces


def _has_value(piece: str | Placeholder, given: Collection[str]) -> bool:
    return isinstance(piece, str) or piece.kind == "outputs" or piece.name in given


def _parsed(template: str) -> list[str | Placeholder | _Section]:
    if "\0" in template:
        raise Invalid("a NUL character cannot be part of a command", code="binding_invalid")
    pieces: list[str | Placeholder | _Section] = []
    at = 0
    while True:
        start = template.find("$[[", at)
        pieces.extend(_plain(template[at : start if start >= 0 else None], in_section=False))
        if start < 0:
            return pieces
        stop = template.find("]]", start)
        if stop < 0:
            raise Invalid(
                f"the optional section {_shown(template[start:])} has no end; close it with ]]",
                code="binding_invalid",
            )
        inner = template[start + 3 : stop]
        if "$[[" in inner:
            raise Invalid(f"the optional section {_shown(template[start:])} holds another one; "
                          "write one after the other", code="binding_invalid")  # fmt: skip
        pieces.append(_Section(tuple(_plain(inner, in_section=True))))
        at = stop + 2


def _plain(text: str, *, in_section: bool) -> list[str | Placeholder]:
    pieces: list[str | Placeholder] = []
    at = 0
    for match in _BOUND.finditer(text):
        if match.start() > at:
            pieces.append(text[at : match.start()])
        pieces.append(_placeholder(match["inner"], in_section=in_section))
        at = match.end()
    rest = text[at:]
    if "${{" in rest:
        open_at = rest.index("${{")
        raise Invalid(
            f"the placeholder {_shown(rest[open_at:])} has no end; close it with }}}}",
            code="binding_invalid",
        )
    if rest:
        pieces.append(rest)
    return pieces


def _placeholder(inner: str, *, in_section: bool) -> Placeholder:
    match = _PLACEHOLDER.fullmatch(inner)
    if match is None:
        raise Invalid(_wrong_placeholder(inner), code="binding_invalid")
    kind: Kind = "inputs" if match["kind"] == "inputs" else "outputs"
    return Placeholder(kind, match["name"], in_section)


def _wrong_placeholder(inner: str) -> str:
    told = _shown("${{" + inner + "}}")
    if re.fullmatch(rf"\s*(inputs|outputs)\.{_NAME}\..*", inner, re.DOTALL):
        stem = ".".join(inner.strip().split(".")[:2])
        return f"{told}: inputs and outputs have no parts; write ${{{{{stem}}}}}"
    if inner.strip().startswith("parent."):
        return (f"{told} belongs into the jobs of a pipeline; a component refers to its own "
                "${{inputs.NAME}} and ${{outputs.NAME}}")  # fmt: skip
    return (f"{told} is not a placeholder; expected ${{{{inputs.NAME}}}} or ${{{{outputs.NAME}}}}, "
            "names being letters, digits and _")  # fmt: skip


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}…")
