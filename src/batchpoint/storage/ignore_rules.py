"""Which files of a folder stay out of an upload: its `.amlignore`, or else its `.gitignore`.

`.amlignore` means what Azure's SDK makes of it: the last pattern that matches a file or any folder
above it decides, so that `*` with `!src/` keeps all of `src`. `.gitignore` means what git makes of
it: below a folder that is left out nothing can be kept. Only the file at the root of the upload
counts, and it is part of the upload itself unless it names itself, as with Azure.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from batchpoint.domain.errors import Invalid

if TYPE_CHECKING:  # most folders have no such file
    import re

NAMES = (".amlignore", ".gitignore")
"""The first one that is there counts."""

_BYTES_MAX = 1_000_000


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    leaves_out: bool
    folders_only: bool


class IgnoreRules:
    """The patterns of one ignore file; `name` is the file's name."""

    def __init__(self, name: str, lines: Iterable[str]) -> None:
        """Read patterns; lines that are none mean nothing, as for git."""
        self.name = name
        self._as_git = name == ".gitignore"
        self._rules = [
            rule for line in lines if (rule := _rule(line, as_git=self._as_git)) is not None
        ]
        self._keeps = any(not rule.leaves_out for rule in self._rules)

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether a file, or all of a folder, stays out; ask for folders from the top down.

        `path` is below the root, with `/` between names. A folder that is not left out may still
        come out empty.
        """
        if self._as_git:
            return self._decided(path, is_folder=is_folder)
        if is_folder:  # with something to be kept every file has to be looked at
            return not self._keeps and self._last(f"{path}/")
        return self._last(path)

    def _decided(self, path: str, *, is_folder: bool) -> bool:
        """Decide as git: what matches a folder above was decided there."""
        for rule in reversed(self._rules):
            if rule.folders_only and not is_folder:
                continue
            found = rule.pattern.search(path)
            if found is not None and found.groupdict().get("ps_d") is None:
                return rule.leaves_out
        return False

    def _last(self, path: str) -> bool:
        for rule in reversed(self._rules):
            if rule.pattern.search(path) is not None:
                return rule.leaves_out
        return False


def ignore_rules(folder: Path) -> IgnoreRules | None:
    """Read the ignore file of a folder; None when it has none.

    Raises: Invalid (`input_unreadable`) for one that is larger than any that people write; OSError.
    """
    for name in NAMES:
        path = folder / name
        if not path.is_file():
            continue
        with path.open("rb") as file:
            data = file.read(_BYTES_MAX + 1)
        if len(data) > _BYTES_MAX:
            raise Invalid(
                f"is larger than {_BYTES_MAX:,} bytes; is it a list of patterns?",
                code="input_unreadable",
                where=str(path),
            )
        # Bytes that are no UTF-8 come back as they do in the names that the system gives.
        text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
        return IgnoreRules(name, text.split("\n"))
    return None


def _rule(line: str, *, as_git: bool) -> _Rule | None:
    from pathspec.patterns.gitignore import GitIgnorePatternError  # noqa: PLC0415
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415

    text = line.removesuffix("\r")
    if not text.endswith("\\ "):
        text = text.rstrip(" ")
    folders_only = as_git and text.endswith("/")
    try:
        # `x/**/` leaves out folders below `x` only: git looks at the `/` and the rest apart.
        pattern = GitIgnoreSpecPattern(text.removesuffix("/") if folders_only else text)
    except GitIgnorePatternError:
        return None
    regex = cast("re.Pattern[str] | None", pattern.regex)  # pyright: ignore[reportUnknownMemberType]
    if pattern.include is None or regex is None:
        return None
    return _Rule(regex, pattern.include, folders_only)
