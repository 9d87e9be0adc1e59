"""Where messages may be sent: well-formed URLs, and no addresses that only this machine can see."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from batchpoint.domain.errors import Invalid

URL_CHARS_MAX = 2_048

# Services of clouds that give their machines' credentials to whoever asks from there, beside
# 169.254.169.254, which is link-local.
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "fd00:ec2::254")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HTTP_PORTS = {"http": 80, "https": 443}


class Target(NamedTuple):
    """The host and port of a URL, as they are looked up."""

    host: str
    port: int


def target_of(url: str, where: str) -> Target:
    """Return whom a URL reaches. Raises: Invalid (`field_invalid`), without repeating the URL."""
    try:
        if len(url) > URL_CHARS_MAX:
            raise _invalid(where, f"has more than {URL_CHARS_MAX:,} characters")
        if any(ord(char) <= 32 or ord(char) == 127 for char in url):
            raise _invalid(where, "holds spaces or control characters; percent-encode them")
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        default = _HTTP_PORTS.get(parts.scheme.lower())
        if default is None or not host or port == 0:
            raise _invalid(where, "expected a URL that begins with https:// or http://")
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise _invalid(where, "has a host name that is none") from error
    except ValueError as error:
        if isinstance(error, Invalid):
            raise
        raise _invalid(where, "is not a URL") from error
    return Target(host, port or default)


def is_private(address: str) -> bool:
    """Tell an address that only this machine, its link or its cloud answers at.

    Loopback, link-local, metadata services, multicast and what is no address of a host; networks
    of one's own (10.0.0.0/8 and the like) are where receivers usually live.
    """
    found = _reached(address)
    return (
        found.is_loopback
        or found.is_unspecified
        or found.is_multicast
        or found.is_reserved
        or (found.version == 4 and found in ipaddress.ip_network("0.0.0.0/8"))
        or tells_identity(address)
    )


def tells_identity(address: str) -> bool:
    """Tell an address at which clouds tell a machine's own credentials: link-local ones and some.

    Raises: ValueError when it is no IP address.
    """
    found = _reached(address)
    return found.is_link_local or found in _METADATA


def _reached(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address; one of IPv6 that stands for one of IPv4 is that."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        if inner is not None:
            return inner
    return found


def _invalid(where: str, sentence: str) -> Invalid:
    return Invalid(sentence, code="field_invalid", where=where)
