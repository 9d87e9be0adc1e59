"""What the errors of obstore mean, told without the secrets that their texts may hold."""

from __future__ import annotations

import re

from batchpoint.domain.errors import BatchpointError, Invalid, Unavailable

# The second form is that of one refused part of a request for many.
_STATUS = re.compile(r"(?:status code: |\(code: )(\d{3})")
_STATUS_WORDS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z-]+)*)")
_STORE_CODE = re.compile(r"<Code>(\w{1,80})</Code>")
_OAUTH_CODE = re.compile(r'\\?"error\\?":\s*\\?"(\w{1,80})')
_TRANSIENT = frozenset({408, 409, 425, 429})
# What a connection may die of; the words are those of the libraries below obstore.
_REASONS = (
    ("refused", ("onnection refused", "ConnectionRefused")),
    ("timed out", ("timed out", "TimedOut", "timeout")),
    ("unknown host", ("dns error", "failed to lookup", "Name or service not known")),
    ("cannot be trusted (its certificate)", ("certificate", "UnknownIssuer")),
    ("broke off", ("reset by peer", "ConnectionReset", "IncompleteMessage", "UnexpectedEof")),
    ("broke off", ("broken pipe", "BrokenPipe", "end of file", "connection closed")),
)


def error_of(error: Exception, url: str, doing: str) -> BatchpointError:
    """Tell people what an error of obstore means; raise it `from None`, as its text holds URLs.

    Args:
        error: what obstore raised.
        url: where the object or the container is, without credentials.
        doing: "read", "written", "listed" or "deleted".

    Returns:
        Invalid (`input_unreadable`, `input_changed`, `storage_denied`, `uri_invalid`) for what
        stays as it is, Unavailable (`storage_unavailable`) for what may pass.
    """
    from obstore import exceptions as kinds  # noqa: PLC0415  # costs an import of 20 ms

    text = str(error)
    status = status_of(error)
    told: BatchpointError
    if isinstance(error, FileNotFoundError) or status == 404:
        told = gone(url)
    elif isinstance(error, kinds.PreconditionError) or status in (412, 416):
        told = changed(url)
    elif isinstance(error, (kinds.InvalidPathError, ValueError)):
        told = Invalid(
            f"{url} cannot be {doing}: a name there has an empty step, '.', '..' or a control "
            "character, which not every store can hold; rename it",
            code="uri_invalid",
        )
    elif "without LOCATION" in text:
        told = Invalid(
            f"{url} cannot be {doing}: the bucket lies in another region; give `region` in its "
            "datastore",
            code="storage_denied",
        )
    elif isinstance(error, (kinds.PermissionDeniedError, kinds.UnauthenticatedError)) or (
        status in range(400, 500) and status not in _TRANSIENT
    ):
        told = Invalid(
            f"{url} cannot be {doing} with these credentials ({_reason(text)}); check the "
            "credentials of its datastore and what they allow",
            code="storage_denied",
        )
    else:
        told = Unavailable(
            f"{url} cannot be {doing} now: {_reason(text)}; check the store and try again",
            code="storage_unavailable",
        )
    return told


def gone(url: str) -> Invalid:
    """Build the error for an object or container that is not there."""
    return Invalid(
        f"{url} is not there (any more); check its name, and that nobody deletes data while a "
        "job reads it",
        code="input_unreadable",
    )


def changed(url: str) -> Invalid:
    """Build the error for an object whose content is not the one that was found."""
    return Invalid(
        f"{url} has changed since it was listed; invoke again when the data stays as it is",
        code="input_changed",
    )


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that a store answered with, where that was the trouble."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _reason(text: str) -> str:
    """Pick the harmless words out of an error's text, which may hold a signed URL."""
    status = _STATUS_WORDS.search(text)
    code = _STORE_CODE.search(text) or _OAUTH_CODE.search(text)
    if status:
        return f"{status[1]}, {code[1]}" if code else status[1]
    for words, signs in _REASONS:
        if any(sign in text for sign in signs):
            return f"the connection {words}" if words != "unknown host" else "its host is unknown"
    return "the connection failed"
