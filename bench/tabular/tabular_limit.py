"""The limit of W1: the tightest program one would write by hand for exactly this job.

    python tabular_limit.py pyfunc|raw MODEL INPUT OUTPUT WORKERS

One parent imports and loads the model and forks one process per core. Input is assigned beforehand,
read by pyarrow, about 100,000 rows go into one `predict`, and each process writes one CSV file of
`file,row,prediction`. `pyfunc` loads through MLflow, `raw` unpickles the pipeline. It survives
nothing: no retry, no failed row, no resume.
"""

# Written as people write such programs:
# ruff: noqa: PTH118, PTH119, PTH123, PTH202

from __future__ import annotations

import gc
import itertools
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"  # a fork would hang with OpenMP's threads around

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

ROWS_PER_PREDICT = 100_000
RANGE_BYTES = 4_000_000

HOW, MODEL, INPUT, OUTPUT, WORKERS = *sys.argv[1:5], int(sys.argv[5])


def loaded():
    if HOW == "raw":
        import cloudpickle

        with open(os.path.join(MODEL, "model.pkl"), "rb") as file:
            return cloudpickle.load(file).predict
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(MODEL).predict


pa.set_cpu_count(1)
pa.set_io_thread_count(1)
predict = loaded()


class Output:
    """One process's CSV file."""

    def __init__(self, worker):
        self.path = os.path.join(OUTPUT, f"part-{worker}.csv")
        self.writer = None

    def write(self, files, counts, rows, frame):
        table = pa.table(
            {
                "file": pa.DictionaryArray.from_arrays(
                    np.repeat(np.arange(len(files), dtype=np.int32), counts), files
                ),
                "row": rows,
                "prediction": np.asarray(predict(frame)),
            }
        )
        if self.writer is None:
            self.writer = pa_csv.CSVWriter(
                self.path, table.schema, write_options=pa_csv.WriteOptions(quoting_style="none")
            )
        self.writer.write_table(table)

    def close(self):
        if self.writer is not None:
            self.writer.close()


def read(path):
    if path.endswith(".parquet"):
        return pa_parquet.read_table(path, use_threads=False)
    return pa_csv.read_csv(path, read_options=pa_csv.ReadOptions(use_threads=False))


def score_files(paths, output):
    tables, names, waiting = [], [], 0

    def flush():
        counts = np.array([table.num_rows for table in tables])
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
        rows = np.arange(counts.sum()) - np.repeat(begins, counts)
        output.write(names, counts, rows, pa.concat_tables(tables).to_pandas())

    for path in paths:
        tables.append(read(path))
        names.append(os.path.basename(path))
        waiting += tables[-1].num_rows
        if waiting >= ROWS_PER_PREDICT:
            flush()
            tables, names, waiting = [], [], 0
    if tables:
        flush()


def cut(path):
    """Ranges of whole lines, about 4 MB each."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        cuts = [len(file.readline())]
        while cuts[-1] < size:
            file.seek(cuts[-1] + RANGE_BYTES)
            file.readline()
            cuts.append(min(file.tell(), size))
    return list(itertools.pairwise(cuts))


def score_ranges(path, ranges, output):
    if not ranges:
        return
    with open(path, "rb") as file:
        header = file.readline()
        names = [name.strip('"') for name in header.decode().strip().split(",")]
        row, at = 0, len(header)
        while at < ranges[0][0]:  # which row is our first?
            data = os.pread(file.fileno(), min(1 << 24, ranges[0][0] - at), at)
            row += data.count(b"\n")
            at += len(data)
        for start, stop in ranges:
            table = pa_csv.read_csv(
                pa.BufferReader(os.pread(file.fileno(), stop - start, start)),
                read_options=pa_csv.ReadOptions(use_threads=False, column_names=names),
            )
            count = table.num_rows
            rows = np.arange(row, row + count)
            output.write([os.path.basename(path)], [count], rows, table.to_pandas())
            row += count


def share(everything, worker):
    count = len(everything)
    return everything[worker * count // WORKERS : (worker + 1) * count // WORKERS]


paths = sorted(entry.path for entry in os.scandir(INPUT))
ranges = cut(paths[0]) if len(paths) == 1 and paths[0].endswith(".csv") else None


def work(worker):
    gc.freeze()
    output = Output(worker)
    if ranges is None:
        score_files(share(paths, worker), output)
    else:
        score_ranges(paths[0], share(ranges, worker), output)
    output.close()


children = []
for number in range(WORKERS):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(number)
            status = 0
        finally:
            os._exit(status)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
os._exit(int(any(ends)))
