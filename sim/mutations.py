"""Plants bugs into the decisions and checks that the simulation finds each one.

    python -m sim.mutations

A simulation that is silent proves nothing until it is shown to speak.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from batchpoint.core.messages import Record, Recovered
from sim.campaign import DispatchType, run_seed
from sim.referee import Violation

SEEDS_MAX = 2_000

# In the order in which they import each other.
_MODULES = ("isolation", "retry", "accounting", "backlog", "roster", "dispatch")


class Bug(NamedTuple):
    """A bug: in `module` of the core, `code` is replaced by `wrong`."""

    name: str
    module: str
    code: str
    wrong: str


BUGS: tuple[Bug, ...] = (
    Bug("threshold off by one", "dispatch", "0 <= threshold < self", "0 <= threshold <= self"),
    Bug("threshold too late", "dispatch", "0 <= threshold < self", "0 <= threshold + 1 < self"),
    Bug("minus one is a threshold", "dispatch", "0 <= threshold < self", "threshold < self"),
    Bug("one retry too many", "retry", "charged <= max_retries", "charged <= max_retries + 1"),
    Bug("one retry too few", "retry", "charged <= max_retries", "charged < max_retries"),
    Bug("no confirming attempt", "retry", "not whole and charged < 2", "False"),
    Bug("losses are charged", "retry", '        self._note("lost", seconds)\n        self.lost',
        '        self.charged += 1\n        self._note("lost", seconds)\n        self.lost'),
    Bug("losses are never capped", "dispatch", "attempts.lost_in_a_row < cap", "True"),
    Bug("late reports count", "dispatch", "!= result.attempt", "is None"),
    Bug("reports of strangers count twice", "dispatch", "            del node.held[result.task]\n",
        ""),
    Bug("a lost node keeps its tasks", "dispatch", "for task in reversed(tasks):",
        "for task in reversed(tasks[1:]):"),
    Bug("a silent node keeps its tasks", "dispatch", "node.held and node.deadline <= now", "False"),
    Bug("the alarm is not set again", "dispatch", "            self._arm(min(waking))",
        "            pass"),
    Bug("hungry nodes are not fed", "dispatch", "while hungry and blocked",
        "while False and blocked"),
    Bug("pieces forget a slice", "isolation", "task._replace(start=middle)",
        "task._replace(start=min(middle + 1, task.stop - 1))"),
    Bug("pieces overlap", "isolation", "task._replace(stop=middle), task",
        "task._replace(stop=min(middle + 1, task.stop - 1)), task"),
    Bug("row pieces overlap", "isolation", "task._replace(row_start=middle)",
        "task._replace(row_start=middle - 1)"),
    Bug("rows are not told apart", "retry", "row_count(task, slice_rows) > 1", "False"),
    Bug("resume cuts anywhere", "isolation", "middle = (start + stop) // 2", "middle = start + 1"),
    Bug("resume forgets row gaps", "isolation", "if task.row_start > row:", "if False:"),
    Bug("resume repeats what is done", "backlog", "self._states[index] = _DONE\n            elif",
        "pass\n            elif"),
    Bug("resume forgets failed items", "accounting",
        "recovered.failed_items.update(record.failed_items)", "pass"),
    Bug("resume forgets unnamed failures", "accounting",
        "recovered.unattributed += record.unattributed", "pass"),
    Bug("resume forgets what succeeded", "dispatch",
        "recovered.scored_items > 0 or recovered.rows > 0", "False"),
    Bug("failed items count per slice", "accounting", "if flag != _FAILED:", "if True:"),
    Bug("a short lone item is not named", "dispatch", "if unattributed and is_lone(task):",
        "if False:"),
    Bug("unnamed failures are forgotten", "dispatch", "self._unnamed_failures += unattributed",
        "pass"),
    Bug("done although pieces are open", "backlog", "self._open_pieces.get(index, 1) - 1", "0"),
    Bug("completed before the listing ended", "dispatch", "elif self._sealed and self._b",
        "elif self._b"),
    Bug("nothing scored is a success", "dispatch", "elif not self._scored:", "elif False:"),
    Bug("systemic after the first item", "retry",
        "len(self._mini_batches) >= limits.SYSTEMIC_FAILURES_MIN", "self._verdicts >= 1"),
    Bug("systemic although others run", "dispatch",
        "self._probation.verdict_due and not self._roster.held", "self._probation.verdict_due"),
    Bug("a second kind does not matter", "retry", "self.over or self._kind == error.kind",
        "self.over or self._kind is not None"),
    Bug("success does not end the probation", "dispatch",
        "        self._probation.over = True\n        self._backlog.unpark()", "        pass"),
    Bug("parked pieces are forgotten", "backlog", "self._urgent.extend(sorted(self._parked))",
        "pass"),
    Bug("one broken node fails the job", "dispatch", "if self._init_failures >= allowed and every",
        "if self._init_failures >= allowed or every"),
    Bug("init may fail for ever", "dispatch", "self._init_failures >= allowed and everywhere",
        "False"),
    Bug("a broken node keeps its work", "dispatch", "elif node.init_failures >= allowed:",
        "elif False:"),
    Bug("cancel does not abort", "dispatch", 'if outcome != "completed":',
        'if outcome == "failed":'),
    Bug("nodes beyond the count", "dispatch", "        self._provisioned = count\n",
        "        self._provisioned = count\n        count += 1\n"),
    Bug("lost nodes are not replaced", "dispatch", "if len(self._roster) < wanted:", "if False:"),
    Bug("a fixed timeout is not obeyed", "retry", "if self._fixed is not None:", "if False:"),
)  # fmt: skip


def plant(bug: Bug) -> tuple[DispatchType, Callable[[Iterable[Record]], Recovered]]:
    """Load a copy of the core with a bug in it; return its `Dispatch` and `recover`.

    Raises:
        ValueError: the code to be replaced is not there exactly once.
    """
    names = {name: f"batchpoint.core.{name}" for name in _MODULES}
    sound = {full: sys.modules[full] for full in names.values()}
    copies: dict[str, types.ModuleType] = {}
    try:
        for name, full in names.items():
            spec = find_spec(full)
            assert spec is not None
            assert spec.origin is not None
            source = Path(spec.origin).read_text(encoding="utf-8")
            if name == bug.module:
                if source.count(bug.code) != 1:
                    raise ValueError(f"{bug.name}: not once in {name}.py: {bug.code!r}")
                source = source.replace(bug.code, bug.wrong)
            copies[name] = sys.modules[full] = types.ModuleType(full)
            exec(compile(source, f"<{name} with a bug>", "exec"), copies[name].__dict__)
    finally:
        sys.modules.update(sound)
    return copies["dispatch"].Dispatch, copies["accounting"].recover


def found_by(bug: Bug, seeds: Iterable[int]) -> str | None:
    """Return the first violation that a planted bug leads to; None when none is seen."""
    make, resume = plant(bug)
    for seed in seeds:
        try:
            run_seed(seed, make, resume)
        except Violation as violation:
            return str(violation)
    return None


def main() -> int:
    """Plant every bug; exit code 1 when one is not found."""
    missed = 0
    for bug in BUGS:
        violation = found_by(bug, range(SEEDS_MAX))
        missed += violation is None
        print(f"{bug.name:40} {(violation or 'NOT FOUND')[:110]}", flush=True)
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs found within {SEEDS_MAX} seeds each")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
