"""Settings: one TOML file, each key also an environment variable, everything documented.

The file is named by `BATCHPOINT_SETTINGS`, or is `settings.toml` in `BATCHPOINT_HOME`. A variable
`BATCHPOINT_<KEY>` (`BATCHPOINT_SERVE_PORT` for `port` in `[serve]`) wins over the file. An unknown
key is an error with file and line. docs/settings.md tells what each key does.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid

SETTINGS_BYTES_MAX = limits.YAML_BYTES_MAX
_PREFIX = "BATCHPOINT_"
# What these say is repeated nowhere, not even when it is wrong.
_SECRET = (("secrets_key",), ("webhook_url",), ("webhook_secret",))

Toml = dict[str, object]


def _expanded(path: Path) -> Path:
    """Make a path absolute, `~` being the user's home."""
    return path.expanduser().absolute()


def _checked_url(url: SecretStr) -> SecretStr:
    from batchpoint.core.webhook_target import target_of  # noqa: PLC0415  # seldom set

    target_of(url.get_secret_value(), "webhook_url")
    return url


def _checked_secret(secret: SecretStr) -> SecretStr:
    from batchpoint.core.webhook_event import signing_key  # noqa: PLC0415  # seldom set

    if not signing_key(secret.get_secret_value()):
        raise ValueError("is empty")
    return secret


LocalPath = Annotated[Path, AfterValidator(_expanded)]


class _Section(BaseModel):
    """Base of the settings' tables: frozen, unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServeSettings(_Section):
    """Where `batchpoint serve` listens."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)


class SupervisorSettings(_Section):
    """How long the supervisor of the embedded mode waits for work before it ends."""

    idle_seconds: float = Field(default=2.0, ge=0)


class EnvironmentSettings(_Section):
    """What environments are built from, and what this site puts in the place of what is asked for.

    `pythons`: version to interpreter (`"3.9" = "/usr/bin/python3.9"`), used before any other.
    `environment_map`: an image or registry environment (`*` matches) to "ignore" (only what is
    listed beside the image counts), "running" (the interpreter batchpoint runs on), or the path of
    an interpreter, conda file or requirement list. `python_map`: a Python version to another.
    `requirement_map`: a requirement as written or a package's name to the requirement to use; ""
    drops it. `lock_date`: packages published later are not used. `build_seconds_max`: how long
    resolving or installing may take.
    """

    pythons: dict[str, str] = Field(default_factory=dict)
    environment_map: dict[str, str] = Field(default_factory=dict)
    python_map: dict[str, str] = Field(default_factory=dict)
    requirement_map: dict[str, str] = Field(default_factory=dict)
    lock_date: str | None = Field(
        default=None, pattern=r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}Z)?$"
    )
    build_seconds_max: int = Field(default=3600, ge=1)


class StorageSettings(_Section):
    """How data is reached.

    `ambient_credentials`: whether URLs that lie in no datastore are opened with what the user that
    runs batchpoint may do (environment variables, instance roles); unset: yes in the embedded mode,
    no on a server, whose callers are not that user.
    """

    ambient_credentials: bool | None = None


class Settings(_Section):
    """Everything that can be set.

    `home`: where state, results and environments live. `url`: the server that commands and SDK talk
    to (unset: embedded, in this process). `outputs`: the folder or URI below which a job without
    `--output-path` publishes (unset: `home`/outputs). `log_level`, `log_format`: logs of server and
    supervisor; "auto" is "console" on a terminal and "json" otherwise. `webhook_url`: who is told
    of the end of jobs that name nobody; `webhook_secret` signs such messages. Whether they may go
    to this machine itself is `webhook_allow_private` (unset: only without a server).
    """

    home: LocalPath = Path("~/.batchpoint")
    url: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    outputs: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    secrets_key: SecretStr | None = None
    webhook_url: Annotated[SecretStr, AfterValidator(_checked_url)] | None = None
    webhook_secret: Annotated[SecretStr, AfterValidator(_checked_secret)] | None = None
    webhook_allow_private: bool | None = None
    serve: ServeSettings = ServeSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    storage: StorageSettings = StorageSettings()
    environments: EnvironmentSettings = EnvironmentSettings()

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings of a process from its environment variables and the file they name.

        Raises:
            Invalid: `settings_invalid`, naming file and line (or the variable), key and what is
                allowed; everything that is wrong at once.
        """
        path = _path_of(environ)
        values: Toml = {}
        text = ""
        if path is not None:
            text = _read(path)
            values = _parse(text, path)
            _resolve_paths(values, path.parent)
        variables = _from_variables(environ)
        for key, value in variables.items():
            _put(values, key, value)
        values.setdefault("home", "~/.batchpoint")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _invalid(error, path, text, variables) from error


def setting_keys() -> dict[tuple[str, ...], str]:
    """List every setting as path (`("serve", "port")`) and the variable that sets it."""
    return {keys: variable for variable, keys in _variables().items()}


def _leaves(model: type[BaseModel], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        below = info.annotation
        if isinstance(below, type) and issubclass(below, _Section):
            yield from _leaves(below, (*before, name))
        else:
            yield (*before, name)


def _variables() -> dict[str, tuple[str, ...]]:
    return {_PREFIX + "_".join(keys).upper(): keys for keys in _leaves(Settings)}


def _path_of(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("BATCHPOINT_SETTINGS")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise Invalid(
                f"BATCHPOINT_SETTINGS names {named!r}, where no file is", code="settings_invalid"
            )
        return path
    path = Path(environ.get("BATCHPOINT_HOME") or "~/.batchpoint").expanduser() / "settings.toml"
    try:
        return path if path.exists() else None
    except OSError:  # no path at all, such as a name that is too long: no home either, told later
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SETTINGS_BYTES_MAX + 1)
    except OSError as error:
        raise Invalid(
            f"cannot be read: {error.strerror}", code="settings_invalid", where=str(path)
        ) from error
    if len(data) > SETTINGS_BYTES_MAX:
        raise Invalid(
            f"is larger than {SETTINGS_BYTES_MAX:,} bytes", code="settings_invalid", where=str(path)
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("is not UTF-8 text", code="settings_invalid", where=str(path)) from error


def _parse(text: str, path: Path) -> Toml:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", said)
        where = f"{path}:{found[1]}:{found[2]}" if found else str(path)
        said = said[: found.start()] if found else said
        raise Invalid(f"is not TOML: {said}", code="settings_invalid", where=where) from error
    except RecursionError as error:
        raise Invalid("is nested too deeply", code="settings_invalid", where=str(path)) from error


def _resolve_paths(values: Toml, folder: Path) -> None:
    """Let relative paths in the file mean what its author sees: beside the file."""

    def beside(text: object) -> object:
        if not isinstance(text, str) or "://" in text or text.startswith("~"):
            return text
        return str(folder.absolute() / text)

    for key in ("home", "outputs"):
        if key in values:
            values[key] = beside(values[key])
    environments = values.get("environments")
    if not isinstance(environments, dict):
        return
    tables = cast("dict[str, object]", environments)
    for name in ("pythons", "environment_map"):
        table = tables.get(name)
        if isinstance(table, dict):
            entries = cast("dict[str, object]", table)
            tables[name] = {
                key: value if value in ("ignore", "running") else beside(value)
                for key, value in entries.items()
            }


def _from_variables(environ: Mapping[str, str]) -> dict[tuple[str, ...], object]:
    """Read `BATCHPOINT_<KEY>` variables; tables are written as TOML inline tables."""
    found: dict[tuple[str, ...], object] = {}
    for variable, keys in _variables().items():
        text = environ.get(variable)
        if not text:
            continue
        found[keys] = text
        if text.lstrip().startswith("{"):
            try:
                found[keys] = tomllib.loads(f"value = {text.strip()}")["value"]
            except tomllib.TOMLDecodeError as error:
                raise Invalid(
                    'expected a TOML inline table such as { "3.8" = "3.11" }',
                    code="settings_invalid",
                    where=variable,
                ) from error
    return found


def _put(values: Toml, keys: tuple[str, ...], value: object) -> None:
    here = values
    for key in keys[:-1]:
        below = here.setdefault(key, {})
        if not isinstance(below, dict):
            return  # the file's mistake; validation says it
        here = cast("Toml", below)
    here[keys[-1]] = value


def _invalid(
    error: ValidationError,
    path: Path | None,
    text: str,
    variables: Mapping[tuple[str, ...], object],
) -> Invalid:
    names = {keys: variable for variable, keys in _variables().items()}
    lines: list[str] = []
    for detail in error.errors(include_url=False):
        keys = tuple(str(step) for step in detail["loc"])
        key = ".".join(keys)
        if any(keys[: len(known)] == known for known in variables):
            known = next((k for k in names if keys[: len(k)] == k and k in variables), keys)
            where = names.get(known, key)
        else:
            where = f"{path}:{_line_of(text, keys)}: {key}"
        lines.append(f"{where}: {_sentence(detail['type'], keys, detail['msg'], detail['input'])}")
    return Invalid("\n".join(lines), code="settings_invalid")


def _sentence(kind: str, keys: tuple[str, ...], said: str, value: object) -> str:
    if kind == "extra_forbidden":
        known = [".".join(leaf) for leaf in _leaves(Settings)]
        siblings = [name for name in known if name.rpartition(".")[0] == ".".join(keys[:-1])]
        close = get_close_matches(".".join(keys), known, n=1)
        advice = (
            f"did you mean {close[0]!r}?" if close else f"known: {', '.join(siblings or known)}"
        )
        return f"unknown setting; {advice}"
    sentence = f"{said[:1].lower()}{said[1:]}".removeprefix("value error, ")
    if keys[-1:] in _SECRET:
        return sentence
    return f"{sentence}, got {json.dumps(value, default=str)[:60]}"


def _line_of(text: str, keys: tuple[str, ...]) -> int:
    """Find the line that sets a key (or opens the table it is in); 1 when it cannot be told."""
    table: tuple[str, ...] = ()
    best = 1
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?([^\]]+)\]", line)
        if header:
            table = tuple(_unquoted(part) for part in header[1].split("."))
            if table == keys[: len(table)]:
                best = number
            continue
        entry = re.match(r"\s*(\"[^\"]*\"|'[^']*'|[\w.-]+)\s*=", line)
        if entry is None:
            continue
        name = entry[1]
        parts = (_unquoted(name),) if name[0] in "\"'" else tuple(name.split("."))
        here = (*table, *parts)
        if here == keys:
            return number
        if here == keys[: len(here)]:
            best = number
    return best


def _unquoted(name: str) -> str:
    return name.strip().strip("\"'")
