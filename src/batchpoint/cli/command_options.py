"""Options and arguments that many commands share, spelled as the `az ml` command line does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchpoint.cli.output_forms import OutputForm

File = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="YAML file.", show_default=False, metavar="FILE"),
]
Name = Annotated[
    str | None, typer.Option("--name", "-n", help="The name.", show_default=False, metavar="NAME")
]
NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", show_default=False)]
Version = Annotated[
    str | None,
    typer.Option("--version", "-v", help="Version; the newest unless given.", show_default=False),
]
NewVersion = Annotated[
    str | None,
    typer.Option("--version", "-v", help="Version; the next one unless given.", show_default=False),
]
OneVersion = Annotated[
    str | None, typer.Option("--version", "-v", help="Only this version.", show_default=False)
]
Label = Annotated[
    str | None,
    typer.Option("--label", "-l", help="latest: the newest version.", show_default=False),
]
IncludeArchived = Annotated[
    bool, typer.Option("--include-archived", help="Also those that are archived.")
]
ArchivedOnly = Annotated[
    bool, typer.Option("--archived-only", help="Only those that are archived.")
]
SkipValidation = Annotated[
    bool, typer.Option("--skip-validation", help="Register it without trying it out.")
]
EndpointName = Annotated[
    str | None,
    typer.Option("--endpoint-name", "-e", help="Endpoint.", show_default=False, metavar="NAME"),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Replace one value of the file: dotted key, YAML value; may be given often.",
        show_default=False,
        metavar="KEY=VALUE",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", help="Also when it is in use.")]
Query = Annotated[
    str | None,
    typer.Option("--query", help="JMESPath over the JSON form.", show_default=False),
]
Form = Annotated[
    OutputForm | None,
    typer.Option("--output", "-o", help="Form of the result; text for people unless given."),
]
Description = Annotated[
    str | None, typer.Option("--description", help="Description.", show_default=False)
]
MaxResults = Annotated[
    int, typer.Option("--max-results", "-r", min=1, help="How many to list at most.")
]
SWITCHES = (IncludeArchived, ArchivedOnly, SkipValidation, Yes, Force)
"""Options that are false unless given."""
