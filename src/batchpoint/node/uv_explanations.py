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
            parts = {key: value or "" for key, value in found.groupdict().items()}
            message = sentence.format(**parts, minor=minor)
            if newest and pattern is _NO_VERSION:
                message += f"; the newest for Python {minor} is {newest}"
            return _short(message)
    return _short(_first_error(text))


def missing_version(output: str) -> str | None:
    """Name the package of which only the version asked for does not exist."""
    found = _NO_VERSION.search(_flattened(output))
    return re.split(r"[\[=<>!~]", found["asked"], maxsplit=1)[0] if found else None


_NO_VERSION = re.compile(r"there (?:is|are) no versions? of (?P<asked>\S+?)(?: and|,|\.? )")

_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"No space left on device"),
        "the disk is full",
    ),
    (
        re.compile(r"Because (?P<name>\S+) was not found in the cache"),
        "{name} is not in the cache and uv is offline (UV_OFFLINE)",
    ),
    (
        re.compile(
            r"(?P<name>\S+) was not found in the (?:package registry|provided package locations)"
        ),
        "{name} is not found in the package index or the wheel folders",
    ),
    (
        re.compile(
            r"(?P<what>\S+) has no wheels with a matching (?:Python ABI|Python implementation|"
            r"Python version|platform) tag"
        ),
        "{what} has no build for Python {minor} on this machine; another version may have one",
    ),
    (
        re.compile(r"requested Python version .*?does not satisfy (?P<range>Python\S+)"),
        "a package needs {range}, and this is Python {minor}",
    ),
    (_NO_VERSION, "there is no {asked} in the package index or the wheel folders"),
    (
        re.compile(
            r"Because (?P<one>\S+) depends on (?P<other>.+?) and you require (?P<asked>[^,]+?), "
            r"we can conclude that you require (?P<needed>\S+?)\. And because you require "
            r"(?P<conflict>.+?), we can"
        ),
        "{one} needs {needed}, and {conflict} is asked for as well",
    ),
    (
        re.compile(r"Failed to (?:build|download and build) [`'\"]?(?P<what>[^`'\"\s]+)"),
        "{what} has no wheel for Python {minor} here, and building it from source failed",
    ),
    (
        re.compile(
            r"(?:Failed to fetch|Could not connect|Request failed)[^:]*: [`'\"]?(?P<url>\S+?)"
            r"[`'\"]?(?:\s|$).*?(?:cause: )?(?P<reason>[^:`]*)$"
        ),
        "the package index does not answer at {url} ({reason})",
    ),
    (
        re.compile(r"Hash mismatch for [`'\"]?(?P<what>[^`'\"\s]+)"),
        "the file of {what} is not the one that was locked (its hash differs)",
    ),
)


def _flattened(output: str) -> str:
    """Join uv's wrapped and decorated lines to one, from the error on."""
    start = output.find("error:")
    text = output[start:] if start >= 0 else output
    text = re.sub(r"[×╰─▶│├]+", " ", text)
    text = re.sub(r"\s+", " ", text)
    # `numpy{python_full_version < '3.14'}>=2.0` reads better without the marker.
    return re.sub(r"(\w)\{[^}]*\}", r"\1", text).strip()


def _first_error(text: str) -> str:
    stripped = re.sub(r"^(error|cause): ", "", text).split(" hint:")[0]
    parts = stripped.split(" cause: ")
    return (": ".join(dict.fromkeys(part.strip() for part in parts[:3])) or "uv failed").rstrip(".")


def _short(text: str) -> str:
    if len(text) <= _SENTENCE_CHARS_MAX:
        return text
    return text[: _SENTENCE_CHARS_MAX - 1] + "…"
