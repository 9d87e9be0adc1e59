"""Logs are one event a line, whoever writes them, and go where they were told."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from batchpoint.telemetry import configure_logs, log_of


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_of_ours_and_of_libraries() -> None:
    stream = io.StringIO()
    configure_logs(level="info", log_format="json", stream=stream)
    log_of("runner").bind(job="j").info("two\nlines", count=3)
    logging.getLogger("uvicorn").warning("hello %s", "you", extra={"color_message": "\x1b[1m"})
    log_of("runner").debug("not shown")
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert ours["event"] == "two\\nlines"
    assert (ours["job"], ours["count"], ours["level"]) == ("j", 3, "info")
    assert ours["logger"] == "batchpoint.runner"
    assert "color_message" not in theirs
    assert (theirs["event"], theirs["level"], theirs["logger"]) == (
        "hello you",
        "warning",
        "uvicorn",
    )
    assert ours["timestamp"].endswith("Z")


def test_an_exception_stays_on_its_line() -> None:
    stream = io.StringIO()
    configure_logs(level="error", log_format="auto", stream=stream)
    try:
        int("bad")
    except ValueError:
        log_of("api").exception("request failed")
    [line] = stream.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_values_of_variables_are_never_logged() -> None:
    import rich.traceback  # with it at hand structlog would show them

    assert rich.traceback
    stream = io.StringIO()
    configure_logs(level="error", log_format="console", stream=stream)
    account_key = "geh" + "eim"
    try:
        int("bad")
    except ValueError:
        log_of("api").exception("request failed")
    assert "ValueError: invalid literal" in stream.getvalue()
    assert account_key not in stream.getvalue()


def test_text_for_people() -> None:
    stream = io.StringIO()
    configure_logs(level="debug", log_format="console", stream=stream)
    log_of("api").debug("listening", port=1)
    assert "listening" in stream.getvalue()
    assert "port=1" in stream.getvalue()
