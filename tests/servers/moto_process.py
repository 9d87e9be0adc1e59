"""An S3 server (moto) in its own process: prints its port and serves until it is ended."""

from __future__ import annotations

import logging
import threading

from moto.server import ThreadedMotoServer


def main() -> None:
    """Serve for ever."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(f"serves at {server.get_host_and_port()[1]}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
