"""An S3 server that lists keys and nothing else, a page in the time that a store nearby takes."""

from __future__ import annotations

import http.server
import sys
import time
from urllib.parse import parse_qs, urlsplit

PAGE = 1_000
PAGE_SECONDS = 0.02


def page_of(first: int, count: int) -> bytes:
    """Return the answer to ListObjectsV2 from the `first` of `count` keys on."""
    stop = min(first + PAGE, count)
    entries = "".join(
        f"<Contents><Key>in/{number // 1000:04d}/{number:07d}.csv</Key>"
        "<LastModified>2026-05-04T12:00:00.000Z</LastModified>"
        f'<ETag>"{number:032x}"</ETag><Size>4096</Size></Contents>'
        for number in range(first, stop)
    )
    more = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < count else ""
    return (
        '<?xml version="1.0"?><ListBucketResult><Name>bench</Name>'
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{entries}"
        "</ListBucketResult>"
    ).encode()


def main() -> None:
    """Serve `count` keys on a free port, which is printed."""
    count = int(sys.argv[1])
    pages = [page_of(first, count) for first in range(0, count, PAGE)]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            time.sleep(PAGE_SECONDS)
            body = pages[int(asked.get("continuation-token", ["0"])[0]) // PAGE]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
