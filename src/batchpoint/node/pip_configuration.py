"""pip's own configuration in uv's words, so that a site's mirrors and wheel folders are found.

What is set for uv itself, in the environment or in `uv.toml`, wins over what is set for pip.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_TIMEOUT_SECONDS = 180  # of one read; uv's own 30 are short for a busy mirror


@dataclass(frozen=True)
class UvConfiguration:
    """Variables and arguments for uv; `notes` tell what was left out of pip's settings.

    `arguments` go to every command that fetches, `lock_arguments` only to the one that resolves.
    """

    variables: Mapping[str, str]
    arguments: tuple[str, ...]
    lock_arguments: tuple[str, ...]
    notes: tuple[str, ...]


def redacted(text: str) -> str:
    """Blot out user names and passwords in URLs."""
    return re.sub(r"(\w://)[^/@\s'\"`]+@", r"\1***@", text)


def uv_configuration(environ: Mapping[str, str], site: Path = Path(sys.prefix)) -> UvConfiguration:
    """Translate pip's files and `PIP_*` variables as found in `environ`; `site` is the venv."""
    options = pip_options(environ, site)
    notes: list[str] = []
    taken = _taken_by_uv(environ)
    variables: dict[str, str] = {}

    def put(variable: str, value: str, *rivals: str) -> None:
        if value and not any(name in taken for name in (variable, *rivals)):
            variables[variable] = value

    note = notes.append
    put("UV_DEFAULT_INDEX", _first(_present(options.get("index-url"), note)), "UV_INDEX_URL")
    extra = " ".join(_present(options.get("extra-index-url"), note))
    put("UV_INDEX", extra, "UV_EXTRA_INDEX_URL")
    put("UV_FIND_LINKS", ",".join(_present(options.get("find-links"), note, folder=True)))
    put("UV_INSECURE_HOST", " ".join(_words(options.get("trusted-host"))))
    put("SSL_CERT_FILE", options.get("cert", ""), "SSL_CERT_DIR", "UV_SYSTEM_CERTS")
    put("SSL_CLIENT_CERT", options.get("client-cert", ""))
    timeout = options.get("timeout") or options.get("default-timeout") or str(_TIMEOUT_SECONDS)
    put("UV_HTTP_TIMEOUT", timeout, "UV_REQUEST_TIMEOUT")
    put("UV_HTTP_RETRIES", options.get("retries", ""))
    if options.get("keyring-provider") == "subprocess":
        put("UV_KEYRING_PROVIDER", "subprocess")
    if not any(name.lower() in {"https_proxy", "http_proxy", "all_proxy"} for name in environ):
        put("ALL_PROXY", options.get("proxy", ""))
    # Requirement lists are written for pip, which takes the best version of all indexes.
    put("UV_INDEX_STRATEGY", "unsafe-best-match")
    # These have no variables; `--constraints` would hide UV_CONSTRAINT, so it is read here.
    constraints = _words(environ.get("UV_CONSTRAINT"))
    if not constraints:
        constraints = _present(options.get("constraint"), note, folder=True)
    own_index = taken & {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"}
    arguments = (
        *(["--no-index"] if _is_true(options.get("no-index")) and not own_index else []),
        *(f"--no-binary={name}" for name in _packages(options.get("no-binary"))),
        *(f"--only-binary={name}" for name in _packages(options.get("only-binary"))),
    )
    lock_arguments = (
        *(f"--constraints={path}" for path in constraints),
        *(["--prerelease=allow"] if _is_true(options.get("pre")) else []),
    )
    return UvConfiguration(variables, arguments, lock_arguments, tuple(notes))


def pip_options(environ: Mapping[str, str], site: Path) -> dict[str, str]:
    """Read the options that `pip install` would see: later files and then variables win."""
    options: dict[str, str] = {}
    for path in _files(environ, site):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip complains of its own files; they are not what was asked of us
        for section in ("global", "install"):
            if parser.has_section(section):
                options.update({_key(name): value for name, value in parser.items(section)})
    for section in ("PIP_", "PIP_INSTALL_"):
        for name, value in environ.items():
            if name.startswith(section) and value:
                options[_key(name.removeprefix(section))] = value
    return options


def _files(environ: Mapping[str, str], site: Path) -> Iterable[Path]:
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environ.get("HOME") or Path.home())
    for root in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(root, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    if not (named and Path(named).exists()):
        yield home / ".pip" / "pip.conf"
        if sys.platform == "darwin":
            yield home / "Library" / "Application Support" / "pip" / "pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    yield site / "pip.conf"
    if named:
        yield Path(named)


def _taken_by_uv(environ: Mapping[str, str]) -> set[str]:
    """Name the variables that the user has set, or whose meaning `uv.toml` has set."""
    taken = {name for name, value in environ.items() if value}
    home = environ.get("HOME", "")
    places = [environ.get("UV_CONFIG_FILE") or "", "/etc/uv/uv.toml"]
    places.append(f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/uv/uv.toml")
    for place in places:
        try:
            content = tomllib.loads(Path(place).read_text(encoding="utf-8")) if place else {}
        except (OSError, ValueError):
            continue  # uv itself says what is wrong with its file
        keys = set(content) | set(cast("dict[str, object]", content.get("pip", {})))
        if keys & {"index", "index-url", "extra-index-url"}:
            taken |= {"UV_DEFAULT_INDEX", "UV_INDEX"}
        taken |= {f"UV_{key.replace('-', '_').upper()}" for key in keys}
        if "allow-insecure-host" in keys:
            taken.add("UV_INSECURE_HOST")
    return taken


def _present(value: str | None, note: Callable[[str], None], *, folder: bool = False) -> list[str]:
    """Keep the addresses that can exist: uv stops at a missing folder where pip only warns."""
    kept: list[str] = []
    for word in _words(value):
        address = word
        if address.startswith("file:"):
            path = Path(unquote(urlsplit(address).path))
        elif folder and "://" not in address:
            path = Path(address).expanduser().absolute()
            address = str(path)
        else:
            kept.append(address)
            continue
        if path.exists():
            kept.append(address)
        else:
            note(f"{word} of pip's configuration is not there and is not used")
    return kept


def _words(value: str | None) -> list[str]:
    return (value or "").split()


def _packages(value: str | None) -> list[str]:
    return [name for name in re.split(r"[\s,]+", value or "") if name]


def _first(words: list[str]) -> str:
    return words[0] if words else ""


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in _TRUE


def _key(name: str) -> str:
    return name.lower().replace("_", "-")
