"""Components that contradict themselves are refused, with the field named."""

import pytest
from pydantic import TypeAdapter

from batchpoint.core.graph import check_component
from batchpoint.domain.component import Component
from batchpoint.domain.limits import COMMAND_BYTES_MAX

_COMPONENT: TypeAdapter[Component] = TypeAdapter(Component)


def wrong_at(body: dict[str, object]) -> list[tuple[str, str]]:
    return [(each.where, each.code) for each in check_component(_COMPONENT.validate_python(body))]


def with_input(command: str = "run", **declared: object) -> dict[str, object]:
    return {"command": command, "inputs": {"x": declared}, "outputs": {"o": {}}}


def parallel(**changes: object) -> dict[str, object]:
    task = {"code": "./src", "entry_script": "score.py", **dict(changes.pop("task", {}))}  # type: ignore[call-overload]
    return {
        "inputs": {"x": {"type": "uri_folder"}, "n": {"type": "integer", "optional": True}},
        "outputs": {"o": {}},
        "input_data": "${{inputs.x}}",
        "task": task,
        **changes,
    }


@pytest.mark.parametrize(
    "body",
    [
        with_input("a ${{inputs.x}} > ${{outputs.o}}", type="string"),
        with_input("a $[[--x ${{inputs.x}}]]", type="string", optional=True),
        with_input("a ${{inputs.x}}", type="string", optional=True, default="b"),
        with_input("a $[[inputs.x]]", type="integer", min=1, max=3, default=2, enum=[1, 2]),
        with_input("a $(( ${{inputs.x}} + 1 ))", type="integer"),
        with_input("bash -c 'a ${{inputs.x}}'", type="string", enum=["a", "b"]),
        with_input("[[ ${{inputs.x}} == True ]]", type="boolean", default="true"),
        with_input(type="number", default=1, min=0.5),
        with_input(type="uri_folder", mode="download", optional=True),
        parallel(),
        parallel(task={"append_row_to": "${{outputs.o}}",
                       "program_arguments": "--o ${{outputs.o}} $[[--n ${{inputs.n}}]] 'a b'"}),
        parallel(task={"type": "model", "model": "azureml:m:1", "code": None,
                       "entry_script": None}),
    ],
)  # fmt: skip
def test_sound_components(body: dict[str, object]) -> None:
    assert wrong_at(body) == []


@pytest.mark.parametrize(
    ("body", "where", "code"),
    [
        (with_input("  \n", type="string"), "command", "component_invalid"),
        (with_input("x" * (COMMAND_BYTES_MAX + 1), type="string"), "command", "component_invalid"),
        (with_input("a ${{inputs.y}}", type="string"), "command", "component_invalid"),
        (with_input("a ${{outputs.y}}", type="string"), "command", "component_invalid"),
        (with_input("a ${{inputs.x}", type="string"), "command", "binding_invalid"),
        (with_input("a ${{inputs.x.path}}", type="string"), "command", "binding_invalid"),
        (with_input("a ${{inputs.x}}", type="string", optional=True), "command",
         "component_invalid"),
        (with_input("a $(( ${{inputs.x}} ))", type="string"), "command", "binding_invalid"),
        (with_input("eval ${{inputs.x}}", type="uri_file"), "command", "binding_invalid"),
        (with_input("bash -c 'a > ${{outputs.o}}'", type="string"), "command", "binding_invalid"),
        (with_input(type="integer", default="many"), "inputs.x.default", "component_invalid"),
        (with_input(type="integer", default=0, min=1), "inputs.x.default", "component_invalid"),
        (with_input(type="integer", min=3, max=1), "inputs.x.min", "component_invalid"),
        (with_input(type="string", min=3), "inputs.x.min", "component_invalid"),
        (with_input(type="string", enum=[]), "inputs.x.enum", "component_invalid"),
        (with_input(type="integer", enum=["a"]), "inputs.x.enum", "component_invalid"),
        (with_input(type="string", enum=["a"], default="b"), "inputs.x.default",
         "component_invalid"),
        (with_input(type="string", mode="download"), "inputs.x.mode", "component_invalid"),
        (with_input(type="uri_file", default="./x"), "inputs.x.default", "component_invalid"),
        (with_input(type="uri_file", enum=["./x"]), "inputs.x.enum", "component_invalid"),
        ({"command": "a", "name": "../a"}, "name", "field_invalid"),
        ({"command": "a", "outputs": {"a-b": {}}}, "outputs.a-b", "component_invalid"),
        ({"command": "a", "resources": {"instance_count": 2}}, "resources.instance_count",
         "field_unsupported"),
        ({"command": "a", "environment_variables": {"BATCHPOINT_INPUT_x": "1"}},
         "environment_variables.BATCHPOINT_INPUT_x", "component_invalid"),
        ({"command": "a", "environment_variables": {"A=B": "1"}},
         "environment_variables.A=B", "component_invalid"),
        ({"command": "a", "environment_variables": {"A": "${{inputs.x}}"}},
         "environment_variables.A", "binding_invalid"),
        (parallel(input_data="x"), "input_data", "binding_invalid"),
        (parallel(input_data="${{outputs.o}}"), "input_data", "binding_invalid"),
        (parallel(input_data="${{inputs.y}}"), "input_data", "component_invalid"),
        (parallel(input_data="${{inputs.n}}"), "input_data", "component_invalid"),
        (parallel(inputs={"x": {"type": "uri_folder", "optional": True}}), "input_data",
         "component_invalid"),
        (parallel(task={"append_row_to": "${{inputs.x}}"}), "task.append_row_to",
         "binding_invalid"),
        (parallel(task={"append_row_to": "${{outputs.y}}"}), "task.append_row_to",
         "component_invalid"),
        (parallel(task={"program_arguments": "--n ${{inputs.n}}"}), "task.program_arguments",
         "component_invalid"),
        (parallel(task={"program_arguments": "'open"}), "task.program_arguments",
         "binding_invalid"),
        (parallel(task={"entry_script": None}), "task.entry_script", "component_invalid"),
        (parallel(task={"type": "model"}), "task.model", "component_invalid"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_with_its_field(
    body: dict[str, object], where: str, code: str
) -> None:
    assert wrong_at(body) == [(where, code)]
