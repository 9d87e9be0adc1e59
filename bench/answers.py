"""What a contender wrote, boiled down so that answers can be compared: nobody may cheat."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bench import places

if TYPE_CHECKING:
    import pandas as pd


class Answer(NamedTuple):
    """Number of rows, and a checksum over them that does not depend on their order."""

    rows: int
    checksum: str


def answer_of(folder: Path, columns: Sequence[int]) -> Answer:
    """Read all CSV, Parquet and text files below a folder; only the columns at these places count.

    Files whose names begin with `_` are batchpoint's receipt and list of failed items. A text file
    (W3) has one value a line. Happens in a process of its own: this one stays small, because what
    it starts to be measured begins with this one's peak memory.
    """
    command = [places.PYTHON, "-m", "bench.answers", str(folder), *map(str, columns)]
    done = subprocess.run(command, cwd=places.HERE.parent, check=True, stdout=subprocess.PIPE)
    return Answer(*json.loads(done.stdout))


def _boiled_down(folder: Path, columns: Sequence[int]) -> Answer:
    import pandas as pd
    from pandas.util import hash_pandas_object

    paths = [path for path in sorted(folder.rglob("[!_]*")) if path.is_file()]
    frames = [_read(path) for path in paths if path.stat().st_size]
    if not frames:
        return Answer(0, "")
    frames = [f.iloc[:, list(columns)].set_axis(range(len(columns)), axis=1) for f in frames]
    whole = pd.concat(frames, ignore_index=True)
    hashes = cast("Any", hash_pandas_object)(whole, index=False)
    return Answer(len(whole), f"{int(hashes.sum()) & (1 << 64) - 1:016x}")


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, header=None if path.suffix == ".txt" else 0)


if __name__ == "__main__":
    print(json.dumps(_boiled_down(Path(sys.argv[1]), [int(text) for text in sys.argv[2:]])))
