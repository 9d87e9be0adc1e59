"""URLs are well-formed, and no caller makes the server talk to itself or to its cloud."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.core.webhook_target import Target, is_private, target_of
from batchpoint.domain.errors import Invalid
from batchpoint.domain.webhook import masked


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("example.com", 443)),
        ("HTTP://example.com/a?b#c", Target("example.com", 80)),
        ("https://u:p@example.com:8443/x", Target("example.com", 8443)),
        ("http://[::1]:9/x", Target("::1", 9)),
        ("https://bücher.example/", Target("xn--bcher-kva.example", 443)),
    ],
)
def test_targets(url: str, target: Target) -> None:
    assert target_of(url, "webhook_url") == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/x",
        "ftp://example.com",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://example.com/a b",
        "https://example.com/\r\nhost: x",
        "https://[::1",
        "https://example.com/" + "x" * 2048,
        "https://" + "ü" * 80 + "/",
    ],
)
def test_what_is_no_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        target_of(url, "webhook_url")
    assert (caught.value.code, caught.value.where) == ("field_invalid", "webhook_url")
    assert len(url) < 10 or url not in caught.value.message


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        target = target_of(f"https://{text}", "webhook_url")
    except Invalid:
        return
    assert target.host
    assert 0 < target.port < 65_536


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "100.100.100.200",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
def test_addresses_of_the_machine_itself(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "192.168.0.7", "172.16.0.1", "93.184.216.34", "2606:2800:220:1::1"]
)
def test_addresses_of_others(address: str) -> None:
    assert not is_private(address)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a", "https://example.com/a"),
        ("https://user:pass@example.com:1/a?key=k#f", "https://***@example.com:1/a?***"),
        ("https://token@example.com", "https://***@example.com"),
    ],
)
def test_what_may_be_secret_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
