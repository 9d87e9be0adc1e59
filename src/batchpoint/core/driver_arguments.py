"""Arguments of Azure's parallel driver among those of a script: taken out, and told apart."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from batchpoint.core.binding import Kind, Values, arguments, placeholders

HONOURED = ("error_threshold", "allowed_failed_count", "allowed_failed_percent")
"""Driver arguments that mean something here."""

IGNORED = (
    "task_overhead_timeout",
    "progress_update_timeout",
    "first_task_creation_timeout",
    "copy_logs_to_parent",
    "metrics_name_prefix",
    "push_metrics_to_parent",
    "resource_monitor_interval",
    "append_row_dataframe_header",
)
"""Driver arguments about machinery that is not here: they have no effect."""

# No template holds a NUL character: between two of them stands what a value will replace.
_MARK = re.compile(r"\0(inputs|outputs)\.([^\0]*)\0")


class Arguments(NamedTuple):
    """Arguments of a script, and those that the driver would have taken: name to text."""

    script: list[str]
    driver: dict[str, str]


def script_arguments(template: str, values: Values, given: Collection[str]) -> Arguments:
    """Return what a script gets on its command line, and what was meant for the driver.

    Driver arguments are looked for before values are put in, so that no value is ever taken for
    one. A driver argument that stands without a value has an empty text.

    Raises:
        Invalid: `binding_invalid`, as `core.binding.arguments`.
    """
    words, driver = _split(template, given)
    return Arguments([_filled(word, values) for word in words], driver)


def driver_arguments(template: str) -> Arguments:
    """Return the arguments as they are written, every optional section included.

    Values stand in them as `${{inputs.NAME}}`.

    Raises:
        Invalid: `binding_invalid`, the template is malformed.
    """
    words, driver = _split(template, {each.name for each in placeholders(template)})
    return Arguments(
        [_shown(word) for word in words], {name: _shown(text) for name, text in driver.items()}
    )


def _split(template: str, given: Collection[str]) -> tuple[list[str], dict[str, str]]:
    marks: dict[tuple[Kind, str], str] = {
        (each.kind, each.name): f"\0{each.kind}.{each.name}\0" for each in placeholders(template)
    }
    words: list[str] = []
    driver: dict[str, str] = {}
    name = ""  # of the driver argument whose value may come next
    for word in arguments(template, marks, given):
        if name and not word.startswith("--"):
            driver[name], name = word, ""
            continue
        flag, equals, text = word.partition("=")
        name = flag[2:] if flag.startswith("--") and flag[2:] in (*HONOURED, *IGNORED) else ""
        if not name:
            words.append(word)
        else:
            driver[name] = text
            name = "" if equals else name
    return words, driver


def _filled(word: str, values: Values) -> str:
    def value(found: re.Match[str]) -> str:
        kind: Kind = "inputs" if found[1] == "inputs" else "outputs"
        return values[kind, found[2]]

    return _MARK.sub(value, word)


def _shown(word: str) -> str:
    return _MARK.sub(lambda found: f"${{{{{found[1]}.{found[2]}}}}}", word)
