"""Structured logs of server, supervisor and runner processes: JSON lines, or text for people."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["auto", "json", "console"]
_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logs(*, level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send all logs of this process, those of the standard library included, to one stream.

    Args:
        level: "debug", "info", "warning" or "error"; what is below it is not written.
        log_format: "json" (one object a line), "console", or "auto": console on a terminal.
        stream: Where to write; stderr unless given.
    """
    target = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not target.isatty())
    last: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if as_json
        # Where rich is installed the default shows the values of variables: credentials, too.
        else [
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(), _without_colors],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _one_line,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def log_of(room: str) -> structlog.stdlib.BoundLogger:
    """Give the logger of a room (`runner`, `api`); bind what all its lines share with `.bind`."""
    return structlog.stdlib.get_logger(f"batchpoint.{room}")


def _without_colors(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop the second form of uvicorn's messages, which is full of escape sequences."""
    event.pop("color_message", None)
    return event


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep one event on one line: what user code says may hold anything."""
    said = event.get("event")
    if isinstance(said, str) and "\n" in said:
        event["event"] = said.replace("\n", "\\n")
    return event
