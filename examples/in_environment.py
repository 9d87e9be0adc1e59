"""Runs a script in the environment of a conda file: the one that a deployment with it scores in.

    python in_environment.py CONDA_FILE SCRIPT [ARGUMENT …]

You train in an environment of your own and bring the weights. The examples make theirs on the spot,
and do so in the environment that is going to score: batchpoint builds it anyway when the deployment
is created, finds it built already, and nothing is downloaded twice.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from batchpoint.domain.asset import Environment
from batchpoint.domain.errors import BatchpointError
from batchpoint.node.requirement_lists import wish_of_file
from batchpoint.settings import Settings
from batchpoint.wiring import environment_builder


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    conda_file = Path(sys.argv[1])
    wish = wish_of_file(conda_file)
    environment = Environment(
        name=conda_file.stem, python_version=wish.python, requirements=[*wish.requirements]
    )
    print(f"Making the environment of {conda_file} (once) …", file=sys.stderr, flush=True)
    try:
        resolved = environment_builder(Settings.load(os.environ)).resolve(None, environment)
    except BatchpointError as error:
        raise SystemExit(f"{conda_file}: {error}") from error
    # Threads of OpenMP that wait for one another by spinning stand still on a busy machine.
    environ = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    # Only one process for what follows: the script takes the place of this one.
    os.execve(resolved.python, [resolved.python, *sys.argv[2:]], environ)


if __name__ == "__main__":
    main()
