"""What user code did wrong, told to the user: trimmed traceback, own file and line, bounded."""

from __future__ import annotations

import contextlib
import os
import traceback
from types import TracebackType
from typing import List, Optional, Tuple

from batchpoint_worker.scorer import Error, TaskFailed

MESSAGE_CHARS_MAX = 4_000
TRACEBACK_CHARS_MAX = 16_000
CHAIN_LENGTH_MAX = 5
FRAMES_MAX = 30

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_IMPORTER = os.path.join(os.path.dirname(os.path.abspath(traceback.__file__)), "importlib")
_LIBRARIES = ("%ssite-packages%s" % (os.sep, os.sep), "%sdist-packages%s" % (os.sep, os.sep))
_STANDARD = os.path.dirname(os.path.abspath(traceback.__file__)) + os.sep

Frame = Tuple[str, int, str]
"""File, line, name of the function."""


def error_of(exception: BaseException, origin: str = "user", doing: str = "run()") -> Error:
    """Describe an exception that came out of user code.

    Args:
        exception: what was caught; TaskFailed carries its own description.
        origin: whose fault it is: "user", "environment", "input".
        doing: the function that was called, for exceptions that are no errors (sys.exit).
    """
    if isinstance(exception, TaskFailed):
        return exception.error
    frames = _frames(exception.__traceback__)
    file, line = _own_place(frames)
    if isinstance(exception, SyntaxError) and exception.filename and _is_own(exception.filename):
        file, line = exception.filename, exception.lineno or 0
    return {
        "origin": origin,
        "type": _type_name(exception),
        "message": bounded(_message(exception, doing), MESSAGE_CHARS_MAX),
        "traceback": bounded(_traceback(exception), TRACEBACK_CHARS_MAX),
        "file": file,
        "line": line,
    }


def plain_error(kind: str, message: str, origin: str = "user") -> Error:
    """Describe a failure that is told by a sentence alone, without a traceback."""
    return {
        "origin": origin,
        "type": kind,
        "message": bounded(message, MESSAGE_CHARS_MAX),
        "traceback": "",
        "file": "",
        "line": 0,
    }


def bounded(text: str, chars_max: int) -> str:
    """Return text of at most `chars_max` characters: begin and end of what is longer."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= chars_max:
        return text
    head = chars_max // 3
    mark = "\n[... %d characters left out ...]\n" % (len(text) - chars_max)
    return text[:head] + mark + text[head + len(mark) - chars_max :]


def _type_name(exception: BaseException) -> str:
    kind = type(exception)
    if kind.__module__ in ("builtins", "__main__", "exceptions"):
        return kind.__name__
    return "%s.%s" % (kind.__module__, kind.__name__)


def _message(exception: BaseException, doing: str) -> str:
    if isinstance(exception, SystemExit):
        code = exception.code
        return "%s called sys.exit(%s); return rows or raise an exception instead" % (
            doing,
            "" if code is None else _shown(code),
        )
    if isinstance(exception, KeyboardInterrupt):
        return "%s raised KeyboardInterrupt" % doing
    return _text(exception)


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException as inner:  # noqa: BLE001 - user code again, in the middle of a report
        return "(its message cannot be shown: __str__ raised %s)" % type(inner).__name__


def _shown(value: object) -> str:
    try:
        return repr(value)
    except BaseException:  # noqa: BLE001 - the same
        return "..."


def _is_own(file: str) -> bool:
    """Tell whether a file is the user's own: not ours, not a library's, not generated."""
    return not file.startswith((_OURS, _STANDARD, "<")) and not any(
        mark in file for mark in _LIBRARIES
    )


def _frames(trace: Optional[TracebackType]) -> List[Frame]:
    """Return the frames from outermost to innermost without ours and those of the importer."""
    frames: List[Frame] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith((_OURS, _IMPORTER, "<frozen ")):
            frames.append((code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    return frames


def _own_place(frames: List[Frame]) -> Tuple[str, int]:
    for file, line, _ in reversed(frames):
        if _is_own(file):
            return file, line
    return (frames[-1][0], frames[-1][1]) if frames else ("", 0)


def _traceback(exception: BaseException) -> str:
    """Return the traceback with its chain of causes, oldest first, as Python prints it."""
    parts: List[str] = []
    seen: List[int] = []
    current = exception
    while id(current) not in seen:
        seen.append(id(current))
        if len(seen) > CHAIN_LENGTH_MAX:
            parts.append("[... earlier causes left out ...]\n")
            break
        parts.append(_one_traceback(current))
        if current.__cause__ is not None:
            link = "The above exception was the direct cause of the following exception:"
            following = current.__cause__
        elif current.__context__ is not None and not current.__suppress_context__:
            link = "During handling of the above exception, another exception occurred:"
            following = current.__context__
        else:
            break
        parts.append("\n%s\n\n" % link)
        current = following
    return "".join(reversed(parts))


def _one_traceback(exception: BaseException) -> str:
    import linecache

    lines: List[str] = []
    frames = _frames(exception.__traceback__)
    if frames:
        lines.append("Traceback (most recent call last):\n")
    half = FRAMES_MAX // 2
    shown = frames if len(frames) <= FRAMES_MAX else frames[:half] + frames[-half:]
    for number, (file, line, name) in enumerate(shown):
        if number == half and len(frames) > FRAMES_MAX:
            lines.append("  [... %d frames left out ...]\n" % (len(frames) - FRAMES_MAX))
        lines.append('  File "%s", line %d, in %s\n' % (file, line, name))
        source = linecache.getline(file, line).strip()
        if source:
            lines.append("    %s\n" % bounded(source, 500))
    if isinstance(exception, SyntaxError):
        # Its attributes are user data and may be anything.
        with contextlib.suppress(Exception):
            lines += traceback.format_exception_only(type(exception), exception)
            return "".join(lines)
    text = bounded(_text(exception), MESSAGE_CHARS_MAX)
    lines.append(
        "%s: %s\n" % (_type_name(exception), text) if text else _type_name(exception) + "\n"
    )
    return "".join(lines)
