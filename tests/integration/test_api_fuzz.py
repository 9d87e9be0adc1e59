"""Schemathesis over the whole API of a server: 0 server errors, 0 answers other than described.

All its checks are on but some. `ignored_auth`: there is nothing to authenticate with yet.
`ensure_resource_availability` is off for the newest version of an asset: archiving hides it.
`use_after_free` is off where something is built in: deleting that brings it back as it was.
`positive_data_acceptance` is on only where nothing is sent: whether a body is accepted depends on
what it refers to and on what its path says, which no schema can tell. A 503 is a right answer where
a body names a store that cannot be reached.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from batchpoint import wiring
from batchpoint.domain import limits
from batchpoint.runner.supervisor_link import SupervisorLink
from batchpoint.settings import Settings
from tests.api_world import fenced, populate

_REMOTE = re.compile(r"(?i)(s3|gs|abfss?|wasbs?|https?)://")
_HERE = "azureml://datastores/lake/paths/more"
_VERSIONED = "models|environments|data|codes|components"
_CASES_MIN = {"coverage": 2_000, "fuzzing": 200, "stateful": 50}
# Random bodies seldom fit what is there; so many operations have to succeed nevertheless.
_DONE_MIN = {"coverage": 0.6, "fuzzing": 0.6, "stateful": 0.0}


@dataclass
class Outcome:
    """What came out: cases by operation and status, and each failed check with its request."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return sum(self.answers.values())

    @property
    def done(self) -> float:
        """The part of the operations that succeeded at least once: of others little is seen."""
        succeeded = {label for label, status in self.answers if status < 300}
        return len(succeeded) / len({label for label, _ in self.answers})


def configuration(
    seed: int, examples: int, phase: str, words: dict[str, list[str]]
) -> SchemathesisConfig:
    """Let every run of a seed send the same; nothing is written to the working folder.

    `words`: what `populate` returns; most parameters take one of theirs.
    """
    off, on = {"enabled": False}, {"enabled": True}
    bound: dict[str, dict[str, Any]] = {}
    for place in words:
        routes, _, parameter = place.rpartition(" ")
        if phase != "coverage":
            bound.setdefault(routes, {})[parameter] = {"dictionary": place, "probability": 0.7}
        elif parameter.startswith("path."):  # this phase knows no dictionaries
            bound.setdefault(routes, {})[parameter] = words[place][0]
    all_phases = ("examples", "coverage", "fuzzing", "stateful")
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "cache": off,
            "continue-on-failure": True,
            "request-timeout": 60,
            "phases": {name: (on if name == phase else off) for name in all_phases},
            "dictionaries": {place: {"values": values} for place, values in words.items()},
            "parameters": bound.pop(""),
            "generation": {
                "max-examples": examples,
                "deterministic": True,
                "no-shrink": True,
                "database": "none",
            },
            "checks": {
                "ignored_auth": off,
                "positive_data_acceptance": off,
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503]},
            },
            "operations": [
                *(
                    {"include-method": method, "checks": {"positive_data_acceptance": on}}
                    for method in ("GET", "DELETE")
                ),
                {
                    "include-method": "GET",
                    "include-path-regex": rf"^/({_VERSIONED})/\{{name\}}$",
                    "checks": {"ensure_resource_availability": off},
                },
                {
                    "include-path-regex": r"^/(computes|datastores)/\{name\}",
                    "checks": {"use_after_free": off},
                },
                *(
                    {"include-path-regex": f"^{re.escape(routes)}", "parameters": parameters}
                    for routes, parameters in bound.items()
                ),
            ],
        }
    )


def fuzz(app: FastAPI, config: SchemathesisConfig) -> Outcome:
    """Run the phases of a configuration over all operations."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    outcome = Outcome()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            outcome.errors.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            _take(event, outcome)
    return outcome


@schemathesis.hook("before_call")  # pyright: ignore[reportUntypedFunctionDecorator]
def keep_here(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Point what a body refers to at this machine: no store elsewhere is ever asked.

    And shorten waits that are allowed: nothing here will change.
    """
    case.body = _kept(case.body)
    wait = (case.query or {}).get("wait_seconds")
    if isinstance(wait, int | float) and 0 < wait <= limits.LONG_POLL_SECONDS_MAX:
        case.query["wait_seconds"] = 0.01
    if "/datastores" in case.operation.path and isinstance(case.body, dict):
        kind = case.body.get("type", "local")
        if kind != "local":
            case.body["endpoint"] = "http://"  # refused, after all else has been looked at


def _kept(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: v if k == "webhook_url" else _kept(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_kept(child) for child in node]
    return _HERE if isinstance(node, str) and _REMOTE.match(node) else node


def _take(event: events.ScenarioFinished, outcome: Outcome) -> None:
    recorder = event.recorder
    before: list[str] = []  # what a sequence did until then
    for identity, node in recorder.cases.items():
        exchange = recorder.interactions.get(identity)
        if exchange is None or exchange.response is None:
            continue
        label = node.value.operation.label
        outcome.answers[label, exchange.response.status_code] += 1
        request = exchange.request
        before.append(f"{request.method} {request.uri}: {exchange.response.status_code}")
        for check in recorder.checks.get(identity, []):
            if check.failure_info is not None:
                failure = check.failure_info.failure
                sent, got = exchange.request, exchange.response
                outcome.failures[check.name, label] = (
                    f"{check.name}: {failure.title}: {failure.message}\n"
                    f"{sent.method} {sent.uri}\n{(sent.body or b'')[:2000]!r}\n"
                    f"{got.status_code} {got.content[:1000]!r}\nafter " + "; ".join(before[-10:-1])
                )


class Server(NamedTuple):
    app: FastAPI
    words: dict[str, list[str]]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that may write below its own folder only, and can reach nobody."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    settings = Settings.load({"BATCHPOINT_HOME": str(tmp_path / "home")})
    app = wiring.server_app(settings, None)
    words = populate(app, tmp_path)
    with fenced(tmp_path):
        yield Server(app, words)
    assert SupervisorLink(tmp_path / "home").ask("status") is None, "nothing started one"


def verdict(outcome: Outcome) -> None:
    """Fail with every failed check and the request that shows it."""
    print(f"{outcome.cases} cases, {outcome.done:.0%} of operations done", file=sys.stderr)
    assert not outcome.failures, "\n\n".join(outcome.failures.values())
    assert not outcome.errors


@pytest.mark.parametrize(
    ("phase", "seed", "examples"),
    # Some seeds lead to a few short sequences only.
    [("coverage", 1, 1), ("fuzzing", 1, 4), ("stateful", 3, 30)],
)
def test_every_operation_answers_as_described(
    server: Server, phase: str, seed: int, examples: int
) -> None:
    outcome = fuzz(server.app, configuration(seed, examples, phase, server.words))
    verdict(outcome)
    assert outcome.cases > _CASES_MIN[phase]
    assert outcome.done >= _DONE_MIN[phase]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 6))
def test_thousands_of_requests_answer_as_described(server: Server, seed: int) -> None:
    outcome = fuzz(server.app, configuration(seed, 160, "fuzzing", server.words))
    verdict(outcome)
    assert outcome.cases > 10_000  # four seeds: 50,000 cases with what `make test` runs
    assert outcome.done >= _DONE_MIN["fuzzing"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sequences_of_requests_answer_as_described(server: Server) -> None:
    cases = 0
    for seed in range(100, 130):  # some seeds lead to a few short sequences only
        outcome = fuzz(server.app, configuration(seed, 50, "stateful", server.words))
        verdict(outcome)
        cases += outcome.cases
    assert cases > 1_500
