"""Why a command failed, in the words people read: its own last ones first, then how it ended."""

from __future__ import annotations

import re
import signal
from itertools import chain
from typing import NamedTuple

from batchpoint.domain import limits
from batchpoint.domain.job import ErrorInfo
from batchpoint.node.exit_words import explain

_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_BY_SIGNAL = 128
_LAST_LINES = 5
# What is followed by more than that was not the end of it.
_AFTER_LINES_MAX = 30
_MESSAGE_CHARS_MAX = 1_000
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'  (?:\| )*File "(?P<file>.*)", line (?P<line>\d+)(?:, in .*)?')
_EXCEPTION = re.compile(r"(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?")
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python", "<frozen ")


class Raised(NamedTuple):
    """The last exception that a log tells of: its own line, and where user code was."""

    type: str
    told: str
    traceback: str
    line: str


def failed(status: int, tail: str, *, log: str, path: str, out_of_memory: bool) -> ErrorInfo:
    """Tell why a command failed.

    Args:
        status: its exit code, or the negative number of the signal that ended it.
        tail: the last that it printed.
        log: where all of that is, relative to the job's folder.
        path: its PATH.
        out_of_memory: the kernel has just killed a process for want of memory.
    """
    text = readable_lines(tail)
    number = -status if status < 0 else status - _BY_SIGNAL
    if status < 0 or (number in {int(each) for each in signal.valid_signals()} and number > 0):
        told = _by_signal(number, out_of_memory=out_of_memory)
        raised = None if number == signal.SIGKILL else last_exception(text)
    else:
        told = f"the command exited with code {status}"
        raised = last_exception(text)
    last = _last_lines(text)
    if status == _NOT_FOUND and raised is None:
        told = f"a program that the command calls was not found (exit code 127); PATH is {path}"
    elif status == _NOT_EXECUTABLE and raised is None:
        told = (
            "a program that the command calls cannot be run (exit code 126): it is not marked "
            "executable (`chmod +x`, or call it as `bash FILE` or `python FILE`), or not made for "
            "this machine"
        )
    if raised is not None:
        message = f"{raised.told} ({told})"
    elif last and status >= 0:
        message = f"{last[-1]} ({told})"
    else:
        message = f"{told}; its last words: {last[-1]}" if last else f"{told}, and printed nothing"
    return ErrorInfo(
        origin="user",
        code="command_failed",
        message=_short(message, limits.ERROR_TEXT_CHARS_MAX),
        type=raised.type if raised is not None else None,
        traceback=(raised.traceback if raised is not None else "\n".join(last)) or None,
        line=raised.line or None if raised is not None else None,
        log=log if text else None,
    )


def timed_out(seconds: float, tail: str, *, log: str) -> ErrorInfo:
    """Tell that an attempt took longer than it may."""
    last = _last_lines(readable_lines(tail))
    words = f"; its last words: {last[-1]}" if last else ", and printed nothing"
    return ErrorInfo(
        origin="user",
        code="command_timed_out",
        message=f"the command took longer than {seconds:g} s and was stopped{words}",
        traceback="\n".join(last) or None,
        log=log if last else None,
    )


def _by_signal(number: int, *, out_of_memory: bool) -> str:
    if number == signal.SIGKILL:
        if out_of_memory:
            return "the command ran out of memory and was killed by the kernel (SIGKILL)"
        return "the command was killed by SIGKILL, often for lack of memory"
    words = explain(-number, out_of_memory=False).words
    return words.replace("the worker", "the command")


def readable_lines(tail: str) -> list[str]:
    """Return what was printed as lines that are not empty, as a terminal would show them.

    Colours are left out, and of a line that was written over (progress bars) only its last state
    counts.
    """
    text = _ANSI.sub("", tail).replace("\r\n", "\n").replace("\0", "")
    lines = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return [line for line in lines if line.strip()]


def _last_lines(lines: list[str]) -> list[str]:
    return [_short(line, _MESSAGE_CHARS_MAX) for line in lines[-_LAST_LINES:]]


def last_exception(lines: list[str]) -> Raised | None:
    """Find the last traceback of Python among lines, and what it ends with."""
    starts = [place for place, line in enumerate(lines) if line.strip(" |+-") == _TRACEBACK]
    for start in reversed(starts):
        indent = len(lines[start]) - len(lines[start].lstrip(" |+-"))
        end = start + 1
        while end < len(lines) and lines[end][indent : indent + 1] in (" ", "+", "|"):
            end += 1
        if end == len(lines) or len(lines) - end > _AFTER_LINES_MAX:
            continue
        found = _EXCEPTION.fullmatch(lines[end][indent:])
        if found is None or (not found["message"] and not _is_exception(found["type"])):
            continue
        frames = _frames(lines[start + 1 : end])
        own = [frame for frame in frames if not _is_of_library(frame[0])] or frames
        place = _FRAME.match(own[-1][0]) if own else None
        return Raised(
            type=found["type"].rpartition(".")[2],
            told=_short(lines[end][indent:], _MESSAGE_CHARS_MAX),
            traceback=_cut("\n".join((_TRACEBACK, *chain(*own), lines[end][indent:]))),
            line=f"{place['file'].rpartition('/')[2]}:{place['line']}" if place else "",
        )
    return None


def _frames(lines: list[str]) -> list[list[str]]:
    frames: list[list[str]] = []
    for line in lines:
        if _FRAME.match(line):
            frames.append([line])
        elif frames:
            frames[-1].append(line)
    return frames


def _is_of_library(frame: str) -> bool:
    return any(sign in frame for sign in _LIBRARIES)


def _is_exception(name: str) -> bool:
    """Whether a lone word is an exception without a message, and not just a word."""
    last = name.rpartition(".")[2]
    return last.endswith(("Error", "Exception", "Interrupt", "Exit", "Warning", "Iteration"))


def _cut(traceback: str) -> str:
    return traceback[-limits.TRACEBACK_CHARS_MAX :]


def _short(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
