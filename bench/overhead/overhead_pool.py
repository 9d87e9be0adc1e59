"""W3 with a bare `multiprocessing.Pool`, or as forks that were told everything beforehand.

python overhead_pool.py pool|limit INPUT OUTPUT WORKERS MINI_BATCH_SIZE
"""

# Written as people write such programs:
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import multiprocessing
import os
import sys

from do_nothing import run


def with_pool(batches, output, workers):
    with (
        multiprocessing.Pool(workers) as pool,
        open(os.path.join(output, "predictions.txt"), "w") as out,
    ):
        out.writelines("\n".join(names) + "\n" for names in pool.imap_unordered(run, batches))


def with_forks(batches, output, workers):
    children = []
    for worker in range(workers):
        child = os.fork()
        if child == 0:
            with open(os.path.join(output, f"part-{worker}.txt"), "w") as out:
                mine = batches[worker::workers]
                out.writelines("\n".join(run(batch)) + "\n" for batch in mine)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    how, folder, output, workers, size = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
    paths = sorted(entry.path for entry in os.scandir(folder))
    batches = [paths[at : at + size] for at in range(0, len(paths), size)]
    {"pool": with_pool, "limit": with_forks}[how](batches, output, workers)
