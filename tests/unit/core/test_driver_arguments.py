"""Arguments of Azure's driver: found in what was written, never in a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.driver_arguments import driver_arguments, script_arguments
from batchpoint.domain.errors import Invalid

NAMES = ("label", "model")


@pytest.mark.parametrize(
    ("template", "script", "driver"),
    [
        ("", [], {}),
        ("--label x", ["--label", "x"], {}),
        ("--error_threshold 5 --label x", ["--label", "x"], {"error_threshold": "5"}),
        ("--error_threshold -1 rest", ["rest"], {"error_threshold": "-1"}),
        ("--allowed_failed_percent=30", [], {"allowed_failed_percent": "30"}),
        ("--copy_logs_to_parent --label x", ["--label", "x"], {"copy_logs_to_parent": ""}),
        ("a --metrics_name_prefix 'p q' b", ["a", "b"], {"metrics_name_prefix": "p q"}),
        ("--error_thresholds 5", ["--error_thresholds", "5"], {}),
        ("--task_overhead_timeout", [], {"task_overhead_timeout": ""}),
        (
            "--progress_update_timeout ${{inputs.label}} --first_task_creation_timeout=1",
            [],
            {"progress_update_timeout": "${{inputs.label}}", "first_task_creation_timeout": "1"},
        ),
        ("x${{ inputs.label }}y", ["x${{inputs.label}}y"], {}),
    ],
)
def test_as_written(template: str, script: list[str], driver: dict[str, str]) -> None:
    assert driver_arguments(template) == (script, driver)


@given(st.text(), st.text())
def test_values_are_one_word_each_and_never_the_drivers(label: str, model: str) -> None:
    found = script_arguments(
        "--label ${{inputs.label}} --error_threshold 3 --m=${{inputs.model}}!",
        {("inputs", "label"): label, ("inputs", "model"): model},
        NAMES,
    )
    assert found == (["--label", label, f"--m={model}!"], {"error_threshold": "3"})


def test_a_value_that_looks_like_a_driver_argument_stays() -> None:
    found = script_arguments(
        "${{inputs.label}} ${{inputs.model}}",
        {("inputs", "label"): "--error_threshold", ("inputs", "model"): "0"},
        NAMES,
    )
    assert found == (["--error_threshold", "0"], {})


def test_sections_without_a_value_are_left_out() -> None:
    template = "$[[--label ${{inputs.label}}]] --m ${{inputs.model}}"
    found = script_arguments(template, {("inputs", "model"): "x"}, ("model",))
    assert found.script == ["--m", "x"]


@pytest.mark.parametrize("template", ["'open", "${{inputs.label", "${{parent.inputs.x}}"])
def test_malformed_templates_are_refused(template: str) -> None:
    with pytest.raises(Invalid) as refused:
        driver_arguments(template)
    assert refused.value.code == "binding_invalid"
