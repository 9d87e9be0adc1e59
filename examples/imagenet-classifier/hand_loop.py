"""Classifies a folder without batchpoint: the loop that benchmark.py compares a job with.

    python hand_loop.py FOLDER ANSWER_JSON

Says "ready" once the network is loaded, classifies the folder for each line that it reads, and says
how many seconds that took. At the end of its input it writes the answer: whether a GPU was used,
and the class of each picture.
"""
# pyright: reportMissingImports=false
# The modules of code/ are found when it runs.

from __future__ import annotations

import json
import sys
import time
from collections import deque
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "code"))

from network import Network, Started  # noqa: E402
from pictures import decoded_batches, decoding_threads  # noqa: E402


def classified(network: Network, paths: list[Path]) -> list[str]:
    classes: list[str] = []
    started: deque[Started] = deque()
    with decoding_threads() as threads:
        for batch in decoded_batches(paths, network.batch_size, threads):
            started.append(network.start(batch))
            if len(started) > 2:
                classes += [network.labels[best] for best in started.popleft().fetch()[0]]
        for last in started:
            classes += [network.labels[best] for best in last.fetch()[0]]
    return classes


def main() -> None:
    folder, answer = Path(sys.argv[1]), Path(sys.argv[2])
    network = Network(HERE / "model")
    paths, classes = sorted(folder.glob("*.jpg")), list[str]()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        classes = classified(network, paths)
        print(time.perf_counter() - began, flush=True)
    names = [path.name for path in paths]
    told = {"on_gpu": network.on_gpu, "classes": dict(zip(names, classes, strict=True))}
    answer.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
