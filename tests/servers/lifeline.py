"""Runs a command that ends when our standard input does: with whoever started us, however."""

from __future__ import annotations

import subprocess
import sys
import threading


def main() -> int:
    """Run `python lifeline.py COMMAND …` and end as the command does."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)

    def end() -> None:
        sys.stdin.buffer.read()
        process.kill()

    threading.Thread(target=end, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
