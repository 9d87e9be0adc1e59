"""The noun `component`."""

from __future__ import annotations

from typing import Any

from batchpoint.cli.resource_nouns import FieldFlag, ResourceNoun, new_noun


def _row(found: Any) -> list[str]:
    from batchpoint.cli.text_tables import moment

    hidden = "yes" if found.archived else ""
    shown = found.display_name or found.description or ""
    return [found.name or "", found.version or "", found.type, moment(found.created_at), hidden,
            shown]  # fmt: skip


component = new_noun(
    ResourceNoun(
        name="component",
        a_name="a component",
        names="components",
        summary="Manage components: steps of pipelines, and pipelines: numbered and immutable.",
        collection="components",
        module="yaml_component",
        load="load_component",
        create="Register a component with all that its file mentions: a new version unless one is "
        "given.",
        columns="component,version,type,created,archived,shown as",
        row=_row,
        flags=(FieldFlag("description", ("--description",), "Description.", changes=True),),
        delete="Delete a version of a component (all without --version); who uses it goes on.",
    )
)
