import shlex
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.binding import (
    Kind,
    ParentInput,
    ParentOutput,
    Placeholder,
    StepOutputRef,
    arguments,
    literal_text,
    placeholders,
    read_binding,
    read_placeholder,
    shell_text,
    shown_text,
    variable_of,
)
from batchpoint.domain.errors import Invalid
from batchpoint.domain.limits import LITERAL_BYTES_MAX


@pytest.mark.parametrize(
    ("text", "binding"),
    [
        ("${{parent.inputs.x}}", ParentInput("x")),
        ("${{ parent.inputs.x }}", ParentInput("x")),
        (" ${{\tparent.inputs.x\n}} ", ParentInput("x")),
        ("${{parent.jobs.prep_1.outputs.data}}", StepOutputRef("prep_1", "data")),
        ("${{parent.outputs.scores}}", ParentOutput("scores")),
        ("plain", None),
        ("", None),
        ("$HOME ${x} {{parent.inputs.x}}", None),
    ],
)
def test_bindings_in_every_spelling(text: str, binding: object) -> None:
    assert read_binding(text) == binding


@pytest.mark.parametrize(
    "text",
    [
        "${{inputs.x}}",
        "${{parent.inputs}}",
        "${{parent.inputs.}}",
        "${{parent.inputs.a-b}}",
        "${{parent.inputs.1a}}",
        "${{parent.inputs.x.path}}",
        "${{parent.inputs.x}",
        "${{parent.jobs.a.inputs.x}}",
        "${{parent.jobs.a.outputs}}",
        "${{parent.jobs..outputs.x}}",
        "${{Parent.inputs.x}}",
        "${{parent.inputs.x}}${{parent.inputs.y}}",
        "a ${{parent.inputs.x}} b",
        "${{}}",
        "${{",
        "${{parent.inputs.x; rm -rf /}}",
        "${{parent.inputs.é}}",
        "${{parent.inputs.x\0}}",
    ],
)
def test_malformed_bindings_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_binding(text)
    assert caught.value.code == "binding_invalid"


def test_a_text_around_a_binding_is_told_as_such() -> None:
    with pytest.raises(Invalid, match="text around it"):
        read_binding("a ${{parent.inputs.x}} b")


@pytest.mark.parametrize(
    ("template", "advice"),
    [
        ("${{inputs.x.path}}", r"have no parts; write \$\{\{inputs.x\}\}"),
        ("${{parent.inputs.x}}", "its own"),
        ("${{search_space.x}}", "expected"),
        ("${{inputs.a-b}}", "letters, digits"),
        ("${{inputs.x}", "has no end"),
        ("$[[--a ${{inputs.x}}", "close it with"),
        ("$[[--a $[[b]] ]]", "holds another"),
        ("$[[ ${{inputs.x ]] }}", "has no end"),
        ("a\0b", "NUL"),
    ],
)
def test_malformed_templates_are_refused_with_advice(template: str, advice: str) -> None:
    for read in (placeholders, lambda text: shell_text(text, {"x"})):
        with pytest.raises(Invalid, match=advice) as caught:
            read(template)
        assert caught.value.code == "binding_invalid"


def test_placeholders_tell_kind_and_section() -> None:
    template = "a ${{inputs.x}} $[[--n ${{ inputs.n }} ${{outputs.o}}]] $[[text]] ${{outputs.o}}"
    assert placeholders(template) == (
        Placeholder("inputs", "x", optional_section=False),
        Placeholder("inputs", "n", optional_section=True),
        Placeholder("outputs", "o", optional_section=True),
        Placeholder("outputs", "o", optional_section=False),
    )


def test_one_placeholder_and_nothing_else() -> None:
    assert read_placeholder(" ${{ inputs.x }} ") == Placeholder("inputs", "x")
    assert read_placeholder("./data") is None
    for text in ("a ${{inputs.x}}", "${{inputs.x}}${{inputs.y}}", "${{x}}", "${{inputs.x"):
        with pytest.raises(Invalid):
            read_placeholder(text)


# --- optional sections ------------------------------------------------------------------------

TEMPLATE = "a$[[ --n ${{inputs.n}}]]$[[ --p ${{inputs.p}} ${{inputs.n}}]]$[[ literal]] b"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (set(), "a literal b"),
        ({"n"}, "a --n {n} literal b"),
        ({"p"}, "a literal b"),
        ({"n", "p"}, "a --n {n} --p {p} {n} literal b"),
    ],
)
def test_sections_are_emitted_when_all_in_them_has_a_value(given: set[str], expected: str) -> None:
    references = {name: f'"${{{variable_of("inputs", name)}}}"' for name in "np"}
    assert shell_text(TEMPLATE, given) == expected.format(**references)
    values: dict[tuple[Kind, str], str] = {("inputs", name): f"<{name}>" for name in given}
    shown = expected.format(**{name: f"'<{name}>'" for name in "np"})
    assert shown_text(TEMPLATE, values, given) == shown
    assert arguments(TEMPLATE, values, given) == expected.format(n="<n>", p="<p>").split()


def test_a_section_without_a_placeholder_is_its_text() -> None:
    command = "train --registered_model_name $[[inputs.registered_model_name]]"
    assert (
        shell_text(command, set()) == "train --registered_model_name inputs.registered_model_name"
    )
    assert not placeholders(command)


def test_outputs_always_have_a_value_in_sections() -> None:
    assert "OUTPUT_o" in shell_text("$[[--o ${{outputs.o}}]]", set())


def test_a_placeholder_without_a_value_is_an_error_outside_of_sections() -> None:
    for read in (shell_text, lambda text, given: arguments(text, {}, given)):
        with pytest.raises(Invalid, match="'x' has no value"):
            read("a ${{inputs.x}}", set())


# --- program_arguments ------------------------------------------------------------------------


@given(value=st.text(st.characters(exclude_categories=("Cs",))))
def test_values_in_arguments_are_never_split_or_read(value: str) -> None:
    values: dict[tuple[Kind, str], str] = {("inputs", "x"): value, ("outputs", "o"): value + "!"}
    template = "--a ${{ inputs.x }} '${{inputs.x}} b' \"c ${{outputs.o}}\" d${{inputs.x}}e\\ f"
    assert arguments(template, values, {"x"}) == [
        "--a",
        value,
        f"{value} b",
        f"c {value}!",
        f"d{value}e f",
    ]


def test_values_that_look_like_marks_change_nothing() -> None:
    values: dict[tuple[Kind, str], str] = {
        ("inputs", "x"): "\x001\x00",
        ("inputs", "y"): "${{inputs.x}}",
    }
    assert arguments("${{inputs.x}} ${{inputs.y}}", values, {"x", "y"}) == [
        "\x001\x00",
        "${{inputs.x}}",
    ]


@given(text=st.text(st.sampled_from("ab '\"\\\t\n"), max_size=20))
def test_arguments_are_split_as_a_shell_would(text: str) -> None:
    try:
        expected = shlex.split(text)
    except ValueError:
        with pytest.raises(Invalid, match="cannot be split"):
            arguments(text, {}, set())
    else:
        assert arguments(text, {}, set()) == expected


# --- literals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "True"), (False, "False"), (3, "3"), (-1, "-1"), (0.3, "0.3"), (1e-07, "1e-07"),
     (3.0, "3.0"), ("", ""), ("a b", "a b"), ("true", "true")],
)  # fmt: skip
def test_literals_are_written_as_python_does(value: str | float, text: str) -> None:
    assert literal_text(value) == text


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * (LITERAL_BYTES_MAX + 1), "é" * 40_000])
def test_texts_that_no_process_can_be_given_are_refused(value: str) -> None:
    with pytest.raises(Invalid) as caught:
        literal_text(value)
    assert caught.value.code == "field_invalid"
    assert len(caught.value.message) < 300


def test_a_literal_at_the_limit_is_fine() -> None:
    assert len(literal_text("x" * LITERAL_BYTES_MAX)) == LITERAL_BYTES_MAX


@given(template=st.text(st.sampled_from(list("$[]{} .xinputsoa'\"`\\(\n")), max_size=60))
def test_any_template_is_read_or_refused_in_one_way(template: str) -> None:
    def code_of(read: Callable[[], object]) -> str:
        try:
            read()
        except Invalid as error:
            return error.code
        return ""

    given = {"x", "i", "o", "a"}
    assert code_of(lambda: placeholders(template)) in {"", "binding_invalid"}
    assert code_of(lambda: shell_text(template, given)) in {"", "binding_invalid"}
    if code_of(lambda: placeholders(template)):
        assert code_of(lambda: shell_text(template, given))
