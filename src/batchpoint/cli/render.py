"""Puts a result on stdout in the form that was asked for: text, table, JSON, YAML, TSV, nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from pydantic import BaseModel

from batchpoint.cli.output_forms import OutputForm
from batchpoint.cli.text_tables import one_line, table
from batchpoint.domain.errors import Invalid


def terminal_width() -> int:
    """Give the width to lay text out for (COLUMNS wins over the terminal's own)."""
    return max(shutil.get_terminal_size((100, 24)).columns, 40)


def is_coloured() -> bool:
    """Tell whether text on stdout may be coloured: on terminals, unless NO_COLOR is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def plain_data(value: object) -> object:
    """Turn nouns (in lists, too) into JSON's types."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [plain_data(item) for item in cast("Sequence[object]", value)]
    return value


def emit(
    value: object,
    *,
    form: OutputForm | None,
    query: str | None,
    text: Callable[[], str],
    text_is_table: bool = False,
) -> None:
    """Print `value`; without a form and a query, what `text` gives.

    Where `text_is_table`, it is also what `-o table` prints: the fields that matter of a noun.

    Raises:
        Invalid: `query_invalid` when the query is not JMESPath or does not fit the value.
    """
    if query is None and (form is None or (text_is_table and form == OutputForm.TABLE)):
        shown = text()
    else:
        data = plain_data(value)
        if query is not None:
            data = queried(data, query)
        shown = formatted(data, form or OutputForm.JSON)
    if shown:
        sys.stdout.write(shown if shown.endswith("\n") else f"{shown}\n")
        sys.stdout.flush()


def queried(data: object, query: str) -> object:
    """Apply a JMESPath query."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return cast("object", jmespath.search(query, data))
    except JMESPathError as error:
        said = " ".join(str(error).split())
        raise Invalid(f"--query {query!r} is not valid: {said}", code="query_invalid") from error


def formatted(data: object, form: OutputForm) -> str:
    """Write JSON data in a form."""
    if form == OutputForm.NONE:
        return ""
    if form == OutputForm.JSON:
        return json.dumps(data, indent=2, ensure_ascii=False)
    if form == OutputForm.YAML:
        import yaml

        # PyYAML folds these line ends wrongly unless they are written as escapes.
        plain = not any(char in json.dumps(data, ensure_ascii=False) for char in "\x85\u2028\u2029")
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=plain)
    return _tsv(data) if form == OutputForm.TSV else _any_table(data, terminal_width())


def _tsv(data: object) -> str:
    """Write values in lines and columns for scripts: no headers, no quotes; null is empty."""
    if isinstance(data, Mapping):
        return "\t".join(_cell(item) for item in cast("Mapping[str, object]", data).values())
    if isinstance(data, list):
        return "\n".join(
            "\t".join(_cell(cell) for cell in cast("list[object]", item))
            if isinstance(item, list)
            else _tsv(item)
            for item in cast("list[object]", data)
        )
    return _cell(data)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.replace("\t", " ").replace("\n", " ")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _any_table(data: object, width: int) -> str:
    """Lay out any JSON data: a list of objects by their simple fields, an object by line."""
    if isinstance(data, Mapping):
        lines = [[key, _cell(item)] for key, item in _flat(cast("Mapping[str, object]", data))]
        return table(["field", "value"], lines, width, whole=["field"], wrap_last=True)
    if not isinstance(data, list):
        return one_line(_cell(data))
    items = cast("list[object]", data)
    if not items:
        return ""
    if all(isinstance(item, Mapping) for item in items):
        objects = cast("list[Mapping[str, object]]", items)
        fields = [
            key
            for key in dict.fromkeys(key for item in objects for key in item)
            if any(_simple(item.get(key)) for item in objects)
        ]
        if "name" in fields and "id" in fields:
            fields.remove("id")  # it is long, and says the name again
        lines = [[_cell(item.get(key)) for key in fields] for item in objects]
        return table(fields, lines, width, whole=["name"])
    rows = [
        [_cell(cell) for cell in cast("list[object]", item)]
        if isinstance(item, list)
        else [_cell(item)]
        for item in items
    ]
    columns = max(1, *(len(row) for row in rows))
    headers = [f"column{index + 1}" for index in range(columns)] if columns > 1 else ["value"]
    return table(headers, [row + [""] * (columns - len(row)) for row in rows], width)


def _flat(data: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Give the fields of an object and, with dotted keys, of those in it, but for empty ones."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, object]", value), f"{above}{key}.")
        elif value not in (None, []):
            yield f"{above}{key}", value


def _simple(value: object) -> bool:
    return value is not None and not isinstance(value, (Mapping, list))
