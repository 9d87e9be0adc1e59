"""An S3 server that does nearly nothing: what is measured through it is the client.

python s3_stub.py KEYS BYTES [MILLISECONDS]   KEYS objects of BYTES bytes in any bucket, a page of
the listing in MILLISECONDS (0: at once); prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 1_000
_ETAG = '"0123456789abcdef0123456789abcdef"'


class Stub(asyncio.Protocol):
    """One connection."""

    pages: tuple[bytes, ...] = ()
    answer = b""
    head = b""
    page_seconds = 0.0

    def __init__(self) -> None:
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            request, self._rest = self._rest.split(b"\r\n\r\n", 1)
            method, target = request.split(b" ", 2)[:2]
            if b"list-type=2" in target:
                loop = asyncio.get_running_loop()
                page = self._page(target.decode())
                loop.call_later(self.page_seconds, self._transport.write, page)
            else:
                self._transport.write(self.head if method == b"HEAD" else self.answer)

    def _page(self, target: str) -> bytes:
        token = parse_qs(urlsplit(target).query).get("continuation-token", ["0"])[0]
        return self.pages[int(unquote(token))]


def key(number: int) -> str:
    """Name an object; names are in order of their numbers."""
    return f"data/{number:09d}.csv"


def _page(first: int, stop: int, keys: int, size: int) -> bytes:
    entries = "".join(
        f"<Contents><Key>{key(number)}</Key><LastModified>2026-01-31T12:00:00.000Z</LastModified>"
        f"<ETag>{_ETAG}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(first, stop)
    )
    more = stop < keys
    token = f"<NextContinuationToken>{stop // PAGE}</NextContinuationToken>" if more else ""
    body = (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>b</Name><Prefix/>"
        f"<KeyCount>{stop - first}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
    )
    return _answer(body.encode(), "application/xml")


def _answer(body: bytes, kind: str) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nETag: {_ETAG}\r\n"
        f"Last-Modified: Sat, 31 Jan 2026 12:00:00 GMT\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def main(keys: int, size: int, page_milliseconds: int = 0) -> None:
    """Serve for ever."""
    Stub.page_seconds = page_milliseconds / 1_000
    firsts = range(0, keys, PAGE)
    Stub.pages = tuple(_page(first, min(first + PAGE, keys), keys, size) for first in firsts)
    Stub.answer = _answer(b"x" * size, "text/csv")
    Stub.head = Stub.answer[:-size]
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
