"""Everything that is wrong with a request, collected before anything is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from batchpoint.domain.errors import BatchpointError, Finding, Unavailable, error_from
from batchpoint.domain.findings import all_of

_Result = TypeVar("_Result")


class CollectedFindings:
    """What was found wrong so far, each once, in the order in which it was found."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._found: dict[tuple[str, str], Finding] = {}

    def __bool__(self) -> bool:
        """Tell whether anything is wrong."""
        return bool(self._found)

    @property
    def all(self) -> tuple[Finding, ...]:
        """What was found, in order."""
        return tuple(self._found.values())

    def add(self, where: str, message: str, code: str) -> None:
        """Add one finding at a field."""
        self._found.setdefault((where, message), Finding(where, message, code))

    def extend(self, findings: Iterable[Finding], below: str = "") -> None:
        """Add findings whose fields lie below `below`."""
        for found in findings:
            self.add(joined(below, found.where), found.message, found.code)

    def take(self, error: BatchpointError, where: str, *, inside: bool = False) -> None:
        """Add what an error says as findings at `where`.

        `inside`: the error's own place is one below `where`; else it is another name for `where`,
        unless it names a field of `where` in full.
        """
        if error.findings:
            self.extend(error.findings, where)
            return
        own = error.where or ""
        if where and own.startswith(f"{where}."):
            where = own
        elif inside and own != where.rpartition(".")[2]:
            where = joined(where, own)
        self.add(where, error.message, error.code)

    def tried(
        self, where: str, attempt: Callable[[], _Result], *, inside: bool = False
    ) -> _Result | None:
        """Return what an attempt returns; None when it raises, which is then a finding.

        Raises: Unavailable: that is nobody's mistake.
        """
        try:
            return attempt()
        except Unavailable:
            raise
        except BatchpointError as error:
            self.take(error, where, inside=inside)
            return None

    def raise_any(self) -> None:
        """Raise all that was found as one error; a lone finding keeps the family of its code."""
        findings = self.all
        if len(findings) > 1:
            raise all_of(findings)
        for only in findings:
            error = error_from(only.code, only.message, only.where or None)
            error.findings = (only,)
            raise error


def joined(above: str, below: str) -> str:
    """Return the path of a field below another one; either may be empty."""
    return f"{above}.{below}" if above and below else above or below
