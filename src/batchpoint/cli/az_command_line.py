"""Reads a command line written for `az` and says what it is here; pure, runs nothing.

Covers what scripts around batch endpoints use: `az ml NOUN VERB`, `az account`, `az configure` and
the like. Options that only tell Azure where the workspace is are dropped: a server, or a
BATCHPOINT_HOME, is one workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from batchpoint.cli.output_forms import OutputForm
from batchpoint.domain.errors import Invalid

Shape = Literal["as_is", "job", "jobs", "resource", "resources", "stream", "nothing"]

# Options of every az command, and whether a value follows.
_GLOBAL = {
    "--resource-group": True,
    "-g": True,
    "--workspace-name": True,
    "-w": True,
    "--subscription": True,
    "--only-show-errors": False,
    "--no-wait": False,
    "--verbose": False,
    "--debug": False,
}
_FORMS = {
    "json": OutputForm.JSON,
    "jsonc": OutputForm.JSON,
    "yaml": OutputForm.YAML,
    "yamlc": OutputForm.YAML,
    "table": OutputForm.TABLE,
    "tsv": OutputForm.TSV,
    "none": OutputForm.NONE,
}
# Commands that set the az command line up, which needs nothing of the kind here.
_SET_UP = frozenset({"login", "logout", "configure", "config", "extension", "cloud", "upgrade"})
_NOUNS = frozenset(
    {
        "batch-endpoint",
        "batch-deployment",
        "model",
        "environment",
        "data",
        "datastore",
        "component",
        "compute",
        "job",
    }
)
_SILENT_VERBS = frozenset({"delete", "archive", "restore"})


@dataclass(frozen=True, slots=True)
class AzCommand:
    """What an az command line comes to.

    `arguments` is the command line of ours, without `-o` and `--query`; empty when nothing is to
    be run and `answer` is all there is to print. `shape` says how the result is to be reshaped to
    what az prints, `web` whether the address of the job's page was asked for.
    """

    arguments: tuple[str, ...]
    shape: Shape
    form: OutputForm
    query: str | None
    web: bool = False
    answer: object = None


def read_az(argv: Sequence[str], default_form: str = "json") -> AzCommand:
    """Read the words after `az`.

    Args:
        argv: The command line without the program's name.
        default_form: What `-o` is without being given (AZURE_CORE_OUTPUT).

    Raises:
        Invalid: a command or a form that has no counterpart here (`field_unsupported`).
    """
    words, form, query, web = _common(argv, default_form)
    if not words:
        raise Invalid("which command? This az knows `az ml …`, `az account …` and `az configure`")
    head, rest = words[0], words[1:]
    if head in _SET_UP:
        return AzCommand((), "nothing", form, query)
    if head == "account":
        return AzCommand((), "as_is", form, query, answer=_account(rest))
    if head == "version":
        return AzCommand((), "as_is", form, query, answer={"azure-cli": "batchpoint"})
    if head != "ml" or len(rest) < 2:
        raise Invalid(
            f"az {' '.join(words[:2])} has no counterpart in batchpoint; this az knows `az ml NOUN "
            "VERB`, `az account` and `az configure`",
            code="field_unsupported",
        )
    noun, verb, options = rest[0], rest[1], rest[2:]
    if noun == "endpoint":
        noun, options = "batch-endpoint", _legacy(verb, options)
    if noun not in _NOUNS:
        raise Invalid(
            f"az ml {noun} has no counterpart in batchpoint; it has: {', '.join(sorted(_NOUNS))}",
            code="field_unsupported",
        )
    options = _spread_sets(options)
    return AzCommand((noun, verb, *options), _shape(noun, verb), form, query, web=web)


def _common(
    argv: Sequence[str], default_form: str
) -> tuple[list[str], OutputForm, str | None, bool]:
    """Take out what every az command has; return the other words."""
    words: list[str] = []
    form, query, web = default_form, None, False
    pending = list(argv)
    while pending:
        word = pending.pop(0)
        name, equals, value = word.partition("=")
        takes = _GLOBAL.get(_written_out(name))
        if takes is not None:
            if takes and not equals:
                _value(name, pending)
        elif name in ("-o", "--output", "--query"):
            text = value if equals else _value(name, pending)
            if name == "--query":
                query = text
            else:
                form = text
        elif name == "--web":
            web = True
        else:
            words.append(word)
    if form not in _FORMS:
        raise Invalid(f"-o {form} is not one of {', '.join(_FORMS)}", code="field_invalid")
    return words, _FORMS[form], query, web


def _written_out(name: str) -> str:
    """Complete an abbreviated global option; az allows every unique prefix."""
    if not name.startswith("--") or len(name) < len("--sub"):
        return name
    fitting = [option for option in _GLOBAL if option.startswith(name)]
    return fitting[0] if len(fitting) == 1 else name


def _value(name: str, pending: list[str]) -> str:
    if not pending:
        raise Invalid(f"{name} needs a value")
    return pending.pop(0)


def _spread_sets(options: Sequence[str]) -> list[str]:
    """Write `--set a=1 b=2` as `--set a=1 --set b=2`; refuse az's other generic updates."""
    spread: list[str] = []
    after_set = False
    for word in options:
        if word in ("--add", "--remove", "--force-string"):
            raise Invalid(f"{word} is not supported; use --set KEY=VALUE", code="field_unsupported")
        if word.startswith("-"):
            after_set = word == "--set"
            if not after_set:
                spread.append(word)
        elif after_set:
            spread += ["--set", word]
        else:
            spread.append(word)
    return spread


def _legacy(verb: str, options: Sequence[str]) -> list[str]:
    """Bring `az ml endpoint VERB --type batch` to today's options."""
    kept: list[str] = []
    given: dict[str, str] = {}
    pending = list(options)
    old = ("--type", "-t", "--input-path", "--input-data", "--input-datastore")
    while pending:
        word = pending.pop(0)
        if word in (*old, "--output-datastore", "--output-path"):
            given[word] = _value(word, pending)
        else:
            kept.append(word)
    kind = given.get("--type") or given.get("-t")
    if kind not in (None, "batch"):
        raise Invalid(f"az ml endpoint {verb} --type {kind}: only batch endpoints are known here")
    source = given.get("--input-data") or given.get("--input-path")
    if source is not None:
        kept += ["--input", _in_datastore(given.get("--input-datastore"), source)]
    if "--output-path" in given:
        output = _in_datastore(given.get("--output-datastore"), given["--output-path"])
        kept += ["--output-path", output]
    return kept


def _in_datastore(datastore: str | None, path: str) -> str:
    if datastore is None:
        return path
    return f"azureml://datastores/{datastore.removeprefix('azureml:')}/paths/{path.lstrip('/')}"


def _shape(noun: str, verb: str) -> Shape:
    if verb == "list-jobs" or (noun, verb) == ("job", "list"):
        return "jobs"
    if (noun, verb) == ("job", "stream"):
        return "stream"
    if (noun, verb) == ("job", "download"):
        return "as_is"
    if noun == "job" or verb == "invoke":
        return "job"
    if verb in _SILENT_VERBS:
        return "nothing"
    return "resources" if verb == "list" else "resource"


def _account(rest: Sequence[str]) -> object:
    """Answer `az account`: there is one workspace, and no sign-in that az could keep."""
    verb = rest[0] if rest else ""
    if verb == "get-access-token":
        return {"accessToken": "none", "tokenType": "Bearer", "subscription": "local"}
    account = {"id": "local", "name": "batchpoint", "tenantId": "local", "isDefault": True}
    if verb == "list":
        return [account]
    return account if verb == "show" else None
