"""A real worker process and the scoring-script contract."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.worker_driver import MAIN, Driver, lines

Start = Callable[..., Driver]


def interpreters() -> list[str]:
    """This interpreter, and of the oldest, a middle and a new one those that are installed."""
    found = [sys.executable]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in ("3.8", "3.10", "3.13"):
        installed = sorted(pyenv.glob(f"{version}.*/bin/python"))
        path = shutil.which(f"python{version}")
        if installed:
            found.append(str(installed[-1]))
        elif path and "shims" not in path:
            found.append(path)
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    drivers: list[Driver] = []

    def make(**options) -> Driver:
        folder = tmp_path / str(len(drivers))
        folder.mkdir()
        drivers.append(Driver(folder, **options))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.end()


ALL = """
    import argparse, logging, os, subprocess, sys
    import helpers_of_mine

    def init():
        global log
        log = logging.getLogger("mine")
        parser = argparse.ArgumentParser()
        parser.add_argument("--batch", type=int, default=7)
        known, rest = parser.parse_known_args()
        print("init", known.batch, rest, sys.argv[0].endswith("score.py"))
        print("stdin", repr(sys.stdin.read()))
        log.info("an info line")
        log.debug("a debug line")

    def run(mini_batch):
        print("run", len(mini_batch))
        os.write(1, b"from C\\n")
        subprocess.run(["echo", "from a child"], check=True)
        assert all(os.path.isabs(path) for path in mini_batch)
        return [helpers_of_mine.name(path) for path in mini_batch]

    def shutdown():
        print("shut down")
"""


@pytest.mark.parametrize("python", interpreters())
def test_a_script_is_initialised_runs_and_shuts_down(start: Start, python: str):
    driver = start(python=python)
    (driver.code / "helpers_of_mine.py").write_text("import os.path\nname = os.path.basename\n")

    loaded = driver.load(ALL)

    assert loaded["op"] == "loaded"
    assert loaded["loader"] == "script"
    assert loaded["files"] == []
    for number in (1, 2):
        result, text = driver.score("a.csv", "b,b.csv", number=number)
        assert result["ok"]
        assert result["rows"] == 2
        assert result["columns"] == [["_file", "string"], ["prediction", "string"]]
        assert text == 'a.csv,a.csv\n"b,b.csv","b,b.csv"\n'
    assert driver.stop() == 0
    log = driver.log()
    for line in ("init 7 [] True", "stdin ''", "run 2", "from C", "from a child", "shut down"):
        assert line in log.splitlines()
    assert "an info line" in log
    assert "a debug line" not in log


def test_the_environment_of_the_contract(start: Start):
    driver = start(environment={"MKL_NUM_THREADS": "5"})
    model = driver.folder / "model" / "weights.pt"
    model.parent.mkdir()
    model.write_bytes(b"w")

    driver.load(
        """
        import os, sys
        NAMES = ["AZUREML_MODEL_DIR", "AZUREML_BI_OUTPUT_PATH", "BATCHPOINT_MODEL_DIR",
                 "BATCHPOINT_OUTPUT_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
                 "OPENBLAS_NUM_THREADS", "MINE"]
        def init(): pass
        def run(mini_batch):
            return [os.environ[name] for name in NAMES] + [
                os.getcwd(), sys.path[0], *os.listdir(os.environ["AZUREML_MODEL_DIR"]),
                *[name for name in sys.modules if name in ("rows", "cells", "protocol")],
                *[path for path in sys.path if "batchpoint" in os.path.basename(path)]]
        """,
        model_path=str(model),
        environment={"MINE": "yes", "OPENBLAS_NUM_THREADS": "9"},
        render="jsonl",
    )

    _, text = driver.score()
    assert lines(text, "prediction") == [
        str(model.parent),
        str(driver.output),
        str(model.parent),
        str(driver.output),
        "2",
        "5",
        "9",
        "yes",
        str(driver.work),
        str(driver.code),
        "weights.pt",
    ]


def test_our_modules_and_packages_are_not_in_the_way(start: Start):
    driver = start()
    (driver.code / "rows.py").write_text("WHOSE = 'mine'\n")
    (driver.code / "batchpoint.py").write_text("WHOSE = 'mine'\n")

    loaded = driver.load(
        """
        import batchpoint, rows
        def init(): pass
        def run(mini_batch): return [rows.WHOSE, batchpoint.WHOSE]
        """
    )

    assert loaded["op"] == "loaded", loaded
    assert driver.score()[1] == "a.csv,mine\nb.csv,mine\n"


def test_a_worker_reached_by_a_link_starts_the_same(start: Start, tmp_path: Path):
    (tmp_path / "linked").symlink_to(MAIN.parent)
    driver = start(main=tmp_path / "linked" / MAIN.name)
    driver.load(
        "import sys\ndef init(): pass\ndef run(b): return ['rows' in sys.modules, sys.path]\n"
    )
    _, text = driver.score()
    assert text.startswith("a.csv,false\n")
    assert "batchpoint_worker" not in text
    assert "linked" not in text


def test_a_script_named_like_a_library_does_not_replace_it(start: Start):
    driver = start()
    (driver.code / "logging.py").write_text("def init(): pass\ndef run(b): return b\n")
    assert driver.load(scoring_script="logging.py")["op"] == "loaded"
    assert driver.score()[0]["ok"]


def test_a_script_in_a_subfolder_finds_its_neighbours_and_the_code_folder(start: Start):
    driver = start()
    (driver.code / "src").mkdir()
    (driver.code / "src" / "neighbour.py").write_text("A = 1\n")
    (driver.code / "top.py").write_text("B = 2\n")
    (driver.code / "src" / "score-it.py").write_text(
        "import neighbour, top\ndef init(): pass\ndef run(b): return [neighbour.A, top.B]\n"
    )
    assert driver.load(scoring_script="src/score-it.py")["op"] == "loaded"
    assert driver.score()[1] == "a.csv,1\nb.csv,2\n"


RETURNS = [
    ("[1, 2]", "a.csv,1\nb.csv,2\n"),
    ("('x', None)", "a.csv,x\nb.csv,\n"),
    ("(i / 2 for i in range(2))", "a.csv,0.0\nb.csv,0.5\n"),
    ("[{'k': [1, 2.5]}, {'k': None}]", 'a.csv,"{""k"":[1,2.5]}"\nb.csv,"{""k"":null}"\n'),
    ("numpy.array([True, False])", "a.csv,true\nb.csv,false\n"),
    ("numpy.array([[1, 2], [3, 4]], dtype='float32') / 10", "a.csv,0.1,0.2\nb.csv,0.3,0.4\n"),
    ("pandas.DataFrame({'p': [1, 2], 'q': [0.1, None]})", "a.csv,1,0.1\nb.csv,2,\n"),
    ("pandas.Series([1.5, 2])", "a.csv,1.5\nb.csv,2.0\n"),
    ("polars.DataFrame({'p': [1, None], 'q': ['x', 'y']})", "a.csv,1,x\nb.csv,,y\n"),
    ("pyarrow.table({'p': [[1], [2, 3]]})", 'a.csv,[1]\nb.csv,"[2,3]"\n'),
    ("pyarrow.record_batch({'p': [1, 2]})", "a.csv,1\nb.csv,2\n"),
    ("[1]", ",1\n"),
    ("[1, 2, 3]", ",1\n,2\n,3\n"),
    ("[]", ""),
]


def test_every_kind_of_rows_that_may_come_back(start: Start):
    driver = start()
    driver.load(
        """
        import json, numpy, pandas, polars, pyarrow
        def init(): pass
        def run(mini_batch): return eval(open(mini_batch[0]).read())
        """
    )
    for number, (code, expected) in enumerate(RETURNS):
        (driver.folder / "a.csv").write_text(code)
        result, text = driver.score(number=number)
        assert result["ok"], result
        assert text == expected, code
        rows = expected.count("\n")
        assert result.get("rows", 0) == rows
        assert result.get("unattributed", 0) == max(0, 2 - rows)
        assert bool(result.get("warnings")) == (rows > 2)


@pytest.mark.parametrize(
    ("code", "came"),
    [
        ("None", "returned None (is a `return` missing?)"),
        ("'text'", "returned a str (wrap it in a list)"),
        ("{'a': 1}", "returned a dict"),
        ("3", "returned an int"),
        ("object()", "returned an object"),
        ("{1, 2}", "returned a set"),
    ],
)
def test_anything_else_is_an_error_that_says_what_came(start: Start, code: str, came: str):
    driver = start()
    driver.load(f"def init(): pass\ndef run(mini_batch): return {code}\n")
    result, _ = driver.score()
    assert not result["ok"]
    assert result["error"]["type"] == "unsupported_return"
    assert came in result["error"]["message"]
    assert "it must return a list, a tuple" in result["error"]["message"]


def test_a_column_with_one_of_our_names_is_an_error(start: Start):
    driver = start()
    driver.load(
        """
        import pandas
        def init(): pass
        def run(mini_batch): return pandas.DataFrame({"_file": mini_batch})
        """
    )
    result, _ = driver.score()
    assert result["error"]["type"] == "output_columns_reserved"
    assert "'_file'" in result["error"]["message"]


def test_azure_text_and_counting_only(start: Start):
    driver = start()
    script = """
        import pandas
        def init(): pass
        def run(mini_batch):
            if "list" in mini_batch[0]: return ["x y", [1, 'a'], None]
            frame = {"n": ["a b.png", "c.png", 'q"x.png', None], "i": [1, 2, 3, 4],
                     "p": [0.5, 0.10000000149011612, 1e-09, None]}
            return pandas.DataFrame(frame)
        """
    driver.load(script, render="azure")
    assert driver.score("list")[1] == "x y\n[1, 'a']\nNone\n"
    result, text = driver.score("frame")
    assert text == '"a b.png" 1 0.5\nc.png 2 0.10000000149011612\n"q""x.png" 3 1e-09\n 4 \n'
    assert result["encoding"] == "azure"

    driver.send("job", render="csv", action="summary_only", output_dir=str(driver.output))
    result, text = driver.score("a", "b", "c", "d", "frame")
    assert text == ""
    assert result["rows"] == 4
    assert result["unattributed"] == 1
    assert result["encoding"] == "none"


def test_files_belong_to_the_mini_batch_that_wrote_them(start: Start):
    driver = start()
    (driver.output / "left-by-a-dead-worker.txt").write_text("old")
    loaded = driver.load(
        """
        import os
        OUT = os.environ["AZUREML_BI_OUTPUT_PATH"]
        def write(name, text):
            path = os.path.join(OUT, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file: file.write(text)
        def init(): write("labels.txt", "l")
        def run(mini_batch):
            for path in mini_batch:
                name = os.path.basename(path)
                write("deep/" + name, name * 2)
                if name == "bad": raise ValueError("bad")
                if name == "link": os.symlink("/etc/passwd", os.path.join(OUT, "link"))
            return mini_batch
        """
    )
    harvest = driver.folder / "harvest"
    assert loaded["files"] == [["labels.txt", 1]]
    assert (harvest / "init" / "labels.txt").read_text() == "l"

    result, _ = driver.score("a", "b", number=1)
    assert result["files"] == [["deep/a", 2], ["deep/b", 2]]
    assert (harvest / "1" / "deep" / "b").read_text() == "bb"

    result, _ = driver.score("bad", number=2)
    assert not result["ok"]
    assert not (harvest / "2").exists()
    result, _ = driver.score("link", number=3)
    assert result["files"] == [["deep/link", 8]]
    assert result["warnings"] == ["link is no regular file and was left out"]
    assert list(driver.output.iterdir()) == []


def test_a_file_left_open_is_told(start: Start):
    driver = start()
    loaded = driver.load(
        """
        import os
        def init():
            global log
            log = open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "log.txt"), "w")
        def run(mini_batch): return mini_batch
        """
    )
    assert loaded["warnings"] == [
        "log.txt was still open when user code returned; close files there, or lines are lost"
    ]


def test_results_of_a_group_do_not_wait_for_a_slow_task(start: Start):
    driver = start()
    gate = driver.folder / "gate"
    os.mkfifo(gate)
    driver.load(
        """
        import os
        def init(): pass
        def run(mini_batch):
            if "gate" in mini_batch[0]: open(mini_batch[0]).read()
            return mini_batch
        """
    )
    driver.send("run", tasks=[driver.task(1), driver.task(2), driver.task(3, ("gate",))])

    header, _ = driver.receive("results")
    assert [result["id"] for result in header["results"]] == [1, 2]
    task, since, state, _ = driver.page.get()
    assert (task, state) == (3, 2)
    assert since > 0
    gate.write_text("go")
    header, _ = driver.receive("results")
    assert [result["id"] for result in header["results"]] == [3]


def test_a_large_group_comes_back_whole_and_in_order(start: Start):
    driver = start()
    driver.load("def init(): pass\ndef run(mini_batch): return [b * 500 for b in mini_batch]\n")
    driver.send("run", tasks=[driver.task(number, ("n",)) for number in range(500)])

    ids: list[int] = []
    while len(ids) < 500:
        header, body = driver.receive("results")
        assert len(body) == sum(result["length"] for result in header["results"])
        ids += [result["id"] for result in header["results"]]
    assert ids == list(range(500))


def test_files_that_cannot_be_kept_are_no_fault_of_the_script(start: Start):
    driver = start()
    driver.load(
        """
        import os
        def init(): pass
        def run(mini_batch):
            open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "f"), "w").close()
            return mini_batch
        """
    )
    (driver.folder / "harvest").write_text("in the way")
    result, _ = driver.score()
    assert not result["ok"]
    assert result["error"]["origin"] == "storage"
    assert "cannot be kept" in result["error"]["message"]
    assert list(driver.output.iterdir()) == []
