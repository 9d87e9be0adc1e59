"""Documents have a limit, and what is over it is refused before it is all in memory."""

from collections.abc import Iterator

import httpx
import pytest

from batchpoint.domain import limits


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b" " * 1_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_BYTES_MAX", 10_000)


@pytest.mark.parametrize("path", ["/endpoints/heart", "/computes/some"])
def test_a_body_over_the_limit_is_refused(http: httpx.Client, path: str) -> None:
    answer = http.put(path, content=chunks(11))
    assert answer.status_code == 413
    assert answer.json()["code"] == "invalid"
    assert "10,000 bytes" in answer.json()["detail"]


def test_a_body_of_just_the_limit_is_read(http: httpx.Client) -> None:
    body = b'{"name": "heart"}'.ljust(10_000)
    answer = http.put(
        "/endpoints/heart", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (200, 201), answer.text
