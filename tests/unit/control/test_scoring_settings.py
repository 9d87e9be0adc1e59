"""Defaults are the server's, overrides the caller's, and what excludes something else is said."""

from typing import Any

import pytest

from batchpoint.control.scoring_settings import effective, with_defaults
from batchpoint.domain.endpoint import ModelDeployment
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job import Overrides


def deployment(settings: dict[str, Any] | None = None, **fields: Any) -> ModelDeployment:
    return ModelDeployment.model_validate(
        {"name": "first", "endpoint_name": "heart", "model": "m:1", "settings": settings or {}}
        | fields
    )


SCRIPT = {"code": "upload:x/code", "scoring_script": "s.py"}


def test_unset_fields_get_the_servers_defaults() -> None:
    filled = with_defaults(deployment())
    assert filled.resources.instance_count == 1
    settings = effective(filled, Overrides())
    assert settings.model_dump() == {
        "instance_count": 1,
        "max_concurrency_per_instance": 1,
        "mini_batch_size": 10,
        "max_retries": 3,
        "timeout_seconds": None,
        "error_threshold": None,
        "logging_level": "info",
        "output_action": "append_row",
        "output_file_name": "predictions.csv",
        "output_format": "batchpoint",
        "environment_variables": {},
        "parameters": {},
        "split_files": True,
        "coalesce_files": True,
        "mini_batch_bytes": None,
        "mini_batch_error_threshold": None,
        "allowed_failed_percent": None,
    }
    assert with_defaults(filled) == filled


def test_scripts_get_whole_files_in_exact_mini_batches_unless_they_ask() -> None:
    scripted = with_defaults(deployment(code_configuration=SCRIPT))
    settings = effective(scripted, Overrides())
    assert (settings.split_files, settings.coalesce_files) == (False, False)
    asking = with_defaults(deployment({"split_files": True}, code_configuration=SCRIPT))
    assert effective(asking, Overrides()).split_files


def test_overrides_win_and_variables_are_merged() -> None:
    given = {
        "mini_batch_size": 5,
        "retry_settings": {"max_retries": 0, "timeout": "PT5M"},
        "error_threshold": 7,
        "environment_variables": {"A": "1", "B": "1"},
        "parameters": {"beams": 4, "mode": "fast"},
    }
    filled = with_defaults(deployment(given, resources={"instance_count": 2}))
    plain = effective(filled, Overrides())
    assert (plain.max_retries, plain.timeout_seconds, plain.error_threshold) == (0, 300, 7)
    assert plain.instance_count == 2
    overrides = Overrides(
        instance_count=4,
        mini_batch_size=1,
        max_retries=0,
        timeout=9,
        error_threshold=-1,
        output_file_name="out.jsonl",
        environment_variables={"B": "2"},
        parameters={"beams": "5", "top": 0.5},
        max_concurrency_per_instance=3,
    )
    changed = effective(filled, overrides)
    assert changed.model_dump(exclude={"logging_level", "output_action", "output_format"}) == {
        "instance_count": 4,
        "max_concurrency_per_instance": 3,
        "mini_batch_size": 1,
        "max_retries": 0,
        "timeout_seconds": 9,
        "error_threshold": -1,
        "output_file_name": "out.jsonl",
        "environment_variables": {"A": "1", "B": "2"},
        "parameters": {"beams": 5, "mode": "fast", "top": 0.5},
        "split_files": True,
        "coalesce_files": True,
        "mini_batch_bytes": None,
        "mini_batch_error_threshold": None,
        "allowed_failed_percent": None,
    }


@pytest.mark.parametrize(
    ("settings", "fields", "where"),
    [
        ({"instance_count": 2}, {"resources": {"instance_count": 2}}, "settings.instance_count"),
        (
            {"output_action": "summary_only", "output_file_name": "p.csv"},
            {},
            "settings.output_file_name",
        ),
        ({"output_file_name": "p.txt"}, {}, "settings.output_file_name"),
        ({"output_file_name": "predictions"}, {}, "settings.output_file_name"),
        ({"output_file_name": "../p.csv"}, {}, "settings.output_file_name"),
        ({"output_file_name": "a/p.csv"}, {}, "settings.output_file_name"),
        ({"output_file_name": "_receipt.csv"}, {}, "settings.output_file_name"),
        ({"output_file_name": ".."}, {}, "settings.output_file_name"),
        ({"environment_variables": {"A B": "1"}}, {}, "settings.environment_variables"),
        ({"environment_variables": {"": "1"}}, {}, "settings.environment_variables"),
        ({"parameters": {"--a": 1}}, {}, "settings.parameters"),
        ({"parameters": {"a b": 1}}, {}, "settings.parameters"),
        ({"parameters": {"": 1}}, {}, "settings.parameters"),
    ],
)
def test_what_does_not_go_together_is_refused(
    settings: dict[str, Any], fields: dict[str, Any], where: str
) -> None:
    with pytest.raises(Invalid) as caught:
        with_defaults(deployment(settings, **fields))
    assert (caught.value.code, caught.value.where) == ("field_invalid", where)


def test_any_name_goes_with_azures_format() -> None:
    filled = with_defaults(deployment({"output_file_name": "p.txt", "output_format": "azure"}))
    assert effective(filled, Overrides()).output_file_name == "p.txt"
    assert effective(filled, Overrides(output_file_name="q")).output_file_name == "q"


def test_overrides_are_checked_like_settings() -> None:
    filled = with_defaults(deployment())
    with pytest.raises(Invalid):
        effective(filled, Overrides(output_file_name="p.txt"))
    summary = with_defaults(deployment({"output_action": "SummaryOnly"}))
    with pytest.raises(Invalid, match="summary_only"):
        effective(summary, Overrides(output_file_name="p.csv"))
    assert effective(summary, Overrides()).output_action == "summary_only"
