"""Starts a scoring worker by path, without putting anything of ours on the user's `sys.path`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

PACKAGE = "batchpoint_worker"


def find_package() -> None:
    """Make our package importable from its own folder, and take that folder off `sys.path`."""
    home = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.realpath(sys.path[0]) == os.path.realpath(home):
        del sys.path[0]  # else `import rows` of user code would find ours
    if PACKAGE in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(home, "__init__.py"), submodule_search_locations=[home]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


def main() -> int:
    """Run a worker on the file descriptors named by the arguments; returns the exit status.

    With `--repro ORDER [--debugger]` one mini-batch is scored in the foreground instead.
    """
    if sys.argv[1:2] == ["--repro"]:
        find_package()
        from batchpoint_worker import repro

        return repro.run(sys.argv[2], debugger="--debugger" in sys.argv[3:])
    parser = argparse.ArgumentParser(description="Scoring worker; started by a node agent.")
    for name in ("read", "write", "status"):
        parser.add_argument("--%s-fd" % name, type=int, required=True)
    for name in ("control", "lifeline"):
        parser.add_argument("--%s-fd" % name, type=int, default=-1)
    chosen = parser.parse_args()
    find_package()
    from batchpoint_worker import startup

    return startup.serve(
        (chosen.read_fd, chosen.write_fd, chosen.status_fd, chosen.lifeline_fd), chosen.control_fd
    )


if __name__ == "__main__":  # a process that user code spawns imports this file under another name
    sys.exit(main())
