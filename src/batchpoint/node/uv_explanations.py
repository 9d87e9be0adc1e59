"""One sentence for people out of what uv prints when it cannot resolve or install."""

from __future__ import annotations

import re

from batchpoint.node.pip_configuration import redacted

_SENTENCE_CHARS_MAX = 400


def explained(output: str, python: str, newest: str | None = None) -> str:
    """Say in a sentence part what package cannot be had and why, from uv's error output.

    `python` is the interpreter's version; `newest` the newest version that can be had of the
    package `missing_version` names, when the caller has looked.
    """
    text = redacted(_flattened(output))
    minor = ".".join(python.split(".")[:2])
    for pattern, sentence in _KNOWN:
        found = pattern.search(text)
        if found:
            parts = {key: (value or "").strip() for key, value in found.groupdict().items()}
            message = sentence.format(**parts, minor=minor)
            if newest and pattern is _NO_VERSION:
                message += f"; the newest for Python {minor} is {newest}"
            return _short(message)
    return _short(_first_error(text))


def missing_version(output: str) -> str | None:
    """Name the package of which only the version asked for does not exist."""
    found = _NO_VERSION.search(_flattened(output))
    if found is None:
        return None
    return re.split(r"[\[=<>!~]", found["asked"] or found["wanted"], maxsplit=1)[0]


_QUOTED = r"[`'\"]?(?P<what>[^`'\"]+)"
_NO_VERSION = re.compile(
    r"(?:there (?:is|are) no versions? of (?P<asked>\S+?)(?: and|,|\.? )"
    r"|only (?P<have>\S+) is available and you require (?P<wanted>\S+),)"
)

# The first that matches explains; later ones are consequences of earlier ones in uv's chains.
_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"No space left on device"), "the disk is full"),
    (
        re.compile(r"Because (?P<name>\S+) was not found in the cache"),
        "{name} is not in the cache, and uv is offline (UV_OFFLINE)",
    ),
    (
        re.compile(
            r"Python version \([^)]*\) does not satisfy (?P<range>Python\S+) and "
            r"(?:all of: )?(?P<what>[\w.-]+\S*)"
        ),
        "{what} needs {range}, and this is Python {minor}",
    ),
    (
        re.compile(
            r"(?P<what>\S+) has no wheels with a matching (?:Python ABI|Python implementation|"
            r"Python version|platform) tag"
        ),
        "{what} has no build for Python {minor} on this machine; another version may have one",
    ),
    (
        re.compile(
            r"(?P<name>\S+) was not found in the (?:package registry|provided package locations)"
        ),
        "{name} is not found in the package index or the wheel folders",
    ),
    (_NO_VERSION, "there is no {asked}{wanted} in the package index or the wheel folders"),
    (
        re.compile(
            r"Because (?P<one>\S+) depends on (?P<other>.+?) and you require (?P<asked>[^,]+?), "
            r"we can conclude that you require (?P<needed>\S+?)\. And because you require "
            r"(?P<conflict>.+?), we can"
        ),
        "{one} needs {needed}, and {conflict} is asked for as well",
    ),
    (
        re.compile(r"Failed to fetch: [`'\"]?(?P<url>[^\s`'\"]+).*?(?P<reason>[^:]+)$"),
        "{url} does not answer ({reason})",
    ),
    (
        re.compile(rf"Failed to download and build {_QUOTED}.*?Git operation failed"),
        "the repository of {what} cannot be fetched",
    ),
    (
        re.compile(rf"Failed to (?:build|download and build) {_QUOTED}"),
        "{what} has no wheel for Python {minor} here, and building it from source failed",
    ),
    (
        re.compile(rf"Hash mismatch for {_QUOTED}"),
        "the file of {what} is not the one that was locked (its hash differs)",
    ),
)


def _flattened(output: str) -> str:
    """Join uv's wrapped and decorated lines to one, from the error on."""
    start = output.find("error:")
    text = (output[start:] if start >= 0 else output).split("\nhint:")[0]
    text = re.sub(r"[×╰─▶│├]+", " ", text)
    text = re.sub(r"\s+", " ", text)
    # `numpy{python_full_version < '3.14'}>=2.0` reads better without the marker.
    return re.sub(r"(\w)\{[^}]*\}", r"\1", text).strip()


def _first_error(text: str) -> str:
    stripped = re.sub(r"^(error|cause): ", "", text)
    parts = stripped.split(" cause: ")
    return (": ".join(dict.fromkeys(part.strip() for part in parts[:3])) or "uv failed").rstrip(".")


def _short(text: str) -> str:
    if len(text) <= _SENTENCE_CHARS_MAX:
        return text
    return text[: _SENTENCE_CHARS_MAX - 1] + "…"
