"""What an environment asks for, read from conda files, requirement lists and MLflow folders.

Reading decides nothing: what cannot be had, and what the site's settings put in its place, is found
out later. Every error is `Invalid` with the code `environment_invalid` and names file and entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from batchpoint.domain import limits
from batchpoint.domain.asset import Environment
from batchpoint.domain.errors import Invalid

# Conda needs these to be listed; every environment built here has its own ways for them.
_CONDA_NO_OPS = frozenset({"pip", "setuptools", "wheel"})
_INCLUDE_DEPTH_MAX = 10

_CONDA_ENTRY = re.compile(r"(?:[\w./-]+::)?([A-Za-z0-9][\w.-]*)\s*(.*)", re.DOTALL)
_DIRECT = re.compile(r"(?:git\+|hg\+|svn\+|bzr\+|https?:|file:|\.{0,2}/)")
_OPTION = re.compile(r"(--?[a-zA-Z][\w-]*)(?:[ =]\s*(.*))?")

# pip's spelling -> does it take a value; the rest of pip's options make no sense in a list.
_INDEX_OPTIONS = {
    "--index-url": True,
    "--extra-index-url": True,
    "--find-links": True,
    "--no-index": False,
    "--no-binary": True,
    "--only-binary": True,
    "--trusted-host": True,
    "--pre": False,
}
_SHORT_OPTIONS = {
    "-i": "--index-url",
    "-f": "--find-links",
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
}
_IGNORED_OPTIONS = frozenset({"--prefer-binary", "--require-hashes", "--use-pep517"})


@dataclass(frozen=True)
class EnvironmentWish:
    """What is asked for, as written: nothing is substituted or looked up yet.

    `origin` names the source for messages. `python` is a version ("3.8", "3.8.13") or a range
    (">=3.9,<3.12"). `requirements` are PEP 508 lines, or URLs and absolute paths. `options` are
    index options in pip's long spelling. `conda_packages` are entries only conda could install.
    """

    origin: str
    image: str | None = None
    python: str | None = None
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    conda_packages: tuple[str, ...] = ()

    def together_with(self, other: EnvironmentWish) -> EnvironmentWish:
        """Ask for both; where both name a Python or an image, `self` wins."""
        return replace(
            self,
            image=self.image or other.image,
            python=self.python or other.python,
            requirements=_unique((*self.requirements, *other.requirements)),
            constraints=_unique((*self.constraints, *other.constraints)),
            options=_unique((*self.options, *other.options)),
            conda_packages=_unique((*self.conda_packages, *other.conda_packages)),
        )


def wish_of_environment(environment: Environment) -> EnvironmentWish:
    """Read an environment asset; its `conda_file` holds the file's content, not a path."""
    origin = f"environment {environment.name!r}" if environment.name else "the environment"
    wish = EnvironmentWish(origin, image=environment.image, python=environment.python_version)
    if environment.conda_file is not None:
        content = environment.conda_file
        if isinstance(content, str):
            content = _conda_text(content, f"conda_file of {origin}")
        wish = wish.together_with(wish_of_conda(content, f"conda_file of {origin}", None))
    if environment.requirements is not None:
        listed = wish_of_lines(environment.requirements, f"requirements of {origin}", None)
        wish = wish.together_with(listed)
    if wish == EnvironmentWish(origin):
        raise _invalid(
            f"{origin} asks for nothing: give it conda_file, requirements or python_version"
        )
    return wish


def wish_of_model(folder: Path) -> EnvironmentWish | None:
    """Read what an MLflow model folder asks for: `None` when it is not one or lists nothing.

    `python_env.yaml` with `requirements.txt` is preferred, then `conda.yaml`, then
    `requirements.txt` alone: each in the way MLflow itself reads them.
    """
    if not (folder / "MLmodel").is_file():
        return None
    described = _yaml_mapping(folder / "MLmodel")
    flavour = _mapping(_mapping(described.get("flavors")).get("python_function"))
    named = flavour.get("env")
    files = _mapping(named)
    conda = named if isinstance(named, str) else files.get("conda")
    python_env = _inside(folder, files.get("virtualenv"), "python_env.yaml")
    conda_yaml = _inside(folder, conda, "conda.yaml")
    requirements = folder / "requirements.txt"
    version = flavour.get("python_version")
    trained_with = version if isinstance(version, str) else None
    if python_env.is_file():
        return _wish_of_python_env(python_env)
    if conda_yaml.is_file():
        return wish_of_conda(_yaml_mapping(conda_yaml), f"{conda_yaml.name} of the model", folder)
    if requirements.is_file():
        return replace(wish_of_file(requirements), python=trained_with)
    if trained_with:
        return EnvironmentWish("MLmodel", python=trained_with)
    return None


def wish_of_file(path: Path) -> EnvironmentWish:
    """Read a conda file (`.yml`, `.yaml`) or else a requirement list."""
    if path.suffix in {".yml", ".yaml"}:
        return wish_of_conda(_yaml_mapping(path), path.name, path.parent)
    return wish_of_lines(_text(path).splitlines(), path.name, path.parent)


def wish_of_conda(
    content: Mapping[str, object], origin: str, folder: Path | None
) -> EnvironmentWish:
    """Read a conda file's content: `dependencies` with Python, packages and one `pip:` list."""
    entries = content.get("dependencies", [])
    if not isinstance(entries, list):
        raise _invalid(f"{origin}: `dependencies` is {_kind(entries)}, expected a list")
    python: str | None = None
    packages: list[str] = []
    wish = EnvironmentWish(origin)
    for entry in cast("list[object]", entries):
        if isinstance(entry, Mapping):
            wish = wish.together_with(
                _pip_part(cast("Mapping[str, object]", entry), origin, folder)
            )
            continue
        if not isinstance(entry, str) or (matched := _CONDA_ENTRY.fullmatch(entry.strip())) is None:
            raise _invalid(f"{origin}: an entry of `dependencies` is {_kind(entry)}, expected text")
        name, version = matched.groups()
        if name.lower() == "python":
            python = _conda_version(version)
        elif name.lower() not in _CONDA_NO_OPS:
            packages.append(entry.strip())
    return replace(wish, python=python, conda_packages=tuple(packages))


def wish_of_lines(
    lines: Iterable[object], origin: str, folder: Path | None, depth: int = 0
) -> EnvironmentWish:
    """Read the lines of a requirement list; files it includes are looked for below `folder`."""
    wish = EnvironmentWish(origin)
    for line in _logical_lines(lines, origin):
        if line.startswith("-"):
            wish = wish.together_with(_option_line(line, origin, folder, depth))
        else:
            written = _checked_requirement(line, origin, folder)
            wish = replace(wish, requirements=_unique((*wish.requirements, written)))
    return wish


def parsed_requirement(line: str) -> Requirement | None:
    """Parse a line by PEP 508, its `--hash` options left out; `None` for a bare URL or path."""
    if _DIRECT.match(line):
        return None
    return Requirement(re.split(r"\s--", line, maxsplit=1)[0])


def _wish_of_python_env(path: Path) -> EnvironmentWish:
    content = _yaml_mapping(path)
    python = content.get("python")
    lines = content.get("dependencies", [])
    if python is not None and not isinstance(python, str):
        raise _invalid(
            f'{path.name}: `python` is {_kind(python)}, expected text such as "3.11" in quotes'
        )
    if not isinstance(lines, list):
        raise _invalid(f"{path.name}: `dependencies` is {_kind(lines)}, expected a list")
    # MLflow names pip, setuptools and wheel as build dependencies; uv builds without them.
    wish = wish_of_lines(cast("list[object]", lines), f"{path.name} of the model", path.parent)
    return replace(wish, python=python)


def _pip_part(entry: Mapping[str, object], origin: str, folder: Path | None) -> EnvironmentWish:
    if set(entry) != {"pip"}:
        keys = ", ".join(sorted(str(key)[:50] for key in entry))
        raise _invalid(f"{origin}: `dependencies` has a mapping with {keys}, expected only `pip:`")
    lines = entry["pip"]
    if lines is None:
        return EnvironmentWish(origin)
    if not isinstance(lines, list):
        raise _invalid(f"{origin}: `pip:` is {_kind(lines)}, expected a list")
    return wish_of_lines(cast("list[object]", lines), origin, folder)


def _option_line(line: str, origin: str, folder: Path | None, depth: int) -> EnvironmentWish:
    matched = _OPTION.fullmatch(line)
    name, value = (matched[1], (matched[2] or "").strip()) if matched else (line, "")
    if len(name) > 2 and not name.startswith("--"):  # `-rother.txt`
        name, value = name[:2], name[2:] + value
    name = _SHORT_OPTIONS.get(name, name)
    nothing = EnvironmentWish(origin)
    if name in _IGNORED_OPTIONS:
        return nothing
    if name in {"--requirement", "--constraint"}:
        return _included(name, value, origin, folder, depth)
    if name == "--editable":
        raise _invalid(
            f"{origin}: {line!r} is an editable install, which no other machine could repeat: "
            "build a wheel and list its path, or put the code into the deployment's code folder"
        )
    if name not in _INDEX_OPTIONS:
        raise _invalid(f"{origin}: the option {name!r} is not known in a requirement list")
    if _INDEX_OPTIONS[name] != bool(value):
        raise _invalid(
            f"{origin}: {name} {'needs' if _INDEX_OPTIONS[name] else 'does not take'} a value"
        )
    if name == "--find-links" and folder is not None and "://" not in value:
        value = str((folder / value).resolve())
    return replace(nothing, options=(f"{name} {value}".strip(),))


def _included(
    name: str, value: str, origin: str, folder: Path | None, depth: int
) -> EnvironmentWish:
    if folder is None:
        raise _invalid(
            f"{origin}: {name} {value} names a file, which a list in YAML cannot include"
        )
    path = (folder / value).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise _invalid(f"{origin}: {name} {value} is not a file below the folder of the list")
    if depth >= _INCLUDE_DEPTH_MAX:
        raise _invalid(f"{origin}: more than {_INCLUDE_DEPTH_MAX} lists include one another")
    wish = wish_of_lines(_text(path).splitlines(), path.name, path.parent, depth + 1)
    if name == "--requirement":
        return wish
    return replace(wish, requirements=(), constraints=(*wish.constraints, *wish.requirements))


def _checked_requirement(line: str, origin: str, folder: Path | None) -> str:
    looks_local = line.startswith((".", "/")) or line.partition(" ")[0].endswith(".whl")
    if looks_local and "@" not in line and "://" not in line:
        path = Path(line) if folder is None else folder / line
        if not path.is_absolute() or not path.exists():
            raise _invalid(f"{origin}: {line!r} is not there; give the path of a wheel")
        return str(path.resolve())
    try:
        parsed_requirement(line)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise _invalid(
            f"{origin}: {line[:200]!r} is not a requirement ({reason}): expected one such as "
            "'pandas==2.2.3'"
        ) from error
    return line


def _logical_lines(lines: Iterable[object], origin: str) -> Iterable[str]:
    pending = ""
    for line in lines:
        if not isinstance(line, str):
            raise _invalid(f"{origin}: a requirement is {_kind(line)}, expected text")
        text = pending + re.sub(r"(^|\s)#.*$", "", line).strip()
        if text.endswith("\\"):
            pending = text[:-1].rstrip() + " "
            continue
        pending = ""
        if text:
            yield text
    if pending.strip():
        yield pending.strip()


def _conda_version(text: str) -> str | None:
    """Turn conda's `=3.8`, `==3.8.5`, `=3.8=build`, ` 3.8.*` into a version, keep a range."""
    stripped = text.strip()
    if not stripped:
        return None
    if stripped[0] in "<>!~" or "," in stripped:
        return stripped
    return re.split(r"[= ]", stripped.lstrip("= "))[0].removesuffix(".*")


def _conda_text(text: str, origin: str) -> Mapping[str, object]:
    if "\n" not in text and ":" not in text:
        raise _invalid(
            f"{origin}: the file {text[:200]!r} was not read; expected its content at this point"
        )
    return _mapping_of(_parsed_yaml(text, origin), origin)


def _yaml_mapping(path: Path) -> Mapping[str, object]:
    return _mapping_of(_parsed_yaml(_text(path), path.name), path.name)


def _mapping_of(content: object, origin: str) -> Mapping[str, object]:
    if not isinstance(content, dict):
        raise _invalid(f"{origin} holds {_kind(content)}, expected a mapping")
    return cast("dict[str, object]", content)


def _parsed_yaml(text: str, origin: str) -> object:
    try:
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506 -- a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise _invalid(f"{origin} is not YAML: {reason}") from error


class _TextLoader(yaml.SafeLoader):
    """Reads every scalar as text, so that `python: 3.10` stays 3.10 and does not become 3.1."""


_TextLoader.yaml_implicit_resolvers = {
    first: [
        pair for pair in pairs if pair[0] in {"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"}
    ]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()[: limits.YAML_BYTES_MAX + 1]
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(f"{path} cannot be read as text: {error}") from error
    if len(data) > limits.YAML_BYTES_MAX:
        raise _invalid(f"{path} has more than {limits.YAML_BYTES_MAX} bytes")
    return text


def _inside(folder: Path, named: object, usual: str) -> Path:
    path = folder / (named if isinstance(named, str) else usual)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _invalid(f"MLmodel names {named!r}, which is outside the model's folder")
    return path


def _mapping(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _kind(value: object) -> str:
    """Say what came without printing it: a hostile file may hold a value that never ends."""
    if value is None:
        return "nothing"
    name = value.__class__.__name__
    return {"dict": "a mapping", "str": "text"}.get(name, f"a {name}")


def _unique(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))


def _invalid(message: str) -> Invalid:
    return Invalid(message, code="environment_invalid")
