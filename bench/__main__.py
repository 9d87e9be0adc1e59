"""Runs the bench: everything interleaved, medians and ratios, and `bench/latest.json`.

python -m bench                        all workloads, three rounds
python -m bench --only W1a,W3 --quick  batchpoint and what it is compared with, one round
python -m bench storage                object stores, next to obstore used by hand
python -m bench remote                 inputs in object stores (see remote_inputs.py)
python -m bench pipelines              graphs of steps, next to a pool of processes
"""

from __future__ import annotations

import argparse
import os
import sys

from bench import places, report
from bench.answers import answer_of
from bench.preparation import prepare
from bench.timed_process import ContenderFailed, peak_of_others, timed
from bench.workloads import Contender, Workload, all_workloads


def main() -> int:
    """Run what the command line asks for; 1 if a contender failed or gave a wrong answer."""
    if sys.argv[1:2] == ["storage"]:
        from bench import storage

        return storage.main(sys.argv[2:])
    if sys.argv[1:2] == ["remote"]:
        from bench import remote_inputs  # its servers are not needed for anything else

        return remote_inputs.main(sys.argv[2:])
    if sys.argv[1:2] == ["pipelines"]:
        from bench import pipelines

        return pipelines.main(sys.argv[2:])
    arguments = _arguments()
    workloads = all_workloads(arguments.images)
    chosen = [name for name in workloads if name in arguments.only] or list(workloads)
    for name, reason in prepare(chosen, arguments.images).items():
        print(f"{name} is left out: {reason}")
        chosen.remove(name)
    results = report.Results()
    for number in range(arguments.rounds):
        for name in chosen:
            workload = workloads[name]
            contenders = [c for c in workload.contenders if _takes_part(c, workload, arguments)]
            # Every other round backwards, so that nobody always comes after the same one.
            for contender in contenders if number % 2 == 0 else reversed(contenders):
                _measure(workload, contender, results)
    print()
    print(results.table(workloads))
    results.write(workloads, places.LATEST)
    print(f"\nwritten to {places.LATEST}")
    return int(results.has_problems)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", type=lambda text: text.split(","), metavar="W1a,W3")
    parser.add_argument("--contenders", default="", type=lambda text: text.split(";"))
    parser.add_argument("--rounds", type=int, default=0, help="3 unless --quick")
    parser.add_argument("--quick", action="store_true", help="one round, without the slow ones")
    parser.add_argument("--images", type=int, default=4_000, help="how many images W2 has")
    parsed = parser.parse_args()
    parsed.rounds = parsed.rounds or (1 if parsed.quick else 3)
    return parsed


def _takes_part(contender: Contender, workload: Workload, arguments: argparse.Namespace) -> bool:
    if any(arguments.contenders):
        return contender.name in arguments.contenders
    needed = contender.home is not None or contender.name == workload.limit
    return needed or not arguments.quick


def _measure(workload: Workload, contender: Contender, results: report.Results) -> None:
    output = places.emptied(places.OUTPUTS / f"{workload.name} {contender.name}")
    log = places.WORK / "contender.log"
    load = os.getloadavg()[0]
    try:
        with contender.surroundings() as environment:
            taken = timed(contender.command(output), environment, log)
            peak = taken.peak_bytes
            if contender.home is not None:
                peak = max(peak, peak_of_others(str(contender.home)))
        answer = answer_of(output, workload.answer_columns)
    except ContenderFailed as failure:
        results.failed(workload, contender.name, str(failure))
        return
    results.add(workload, contender.name, report.Run(taken.seconds, peak, load, answer))


if __name__ == "__main__":
    sys.exit(main())
