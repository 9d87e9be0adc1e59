"""Scoring scripts are looked at when they are deployed, and mistakes named by line and column."""

from pathlib import Path

import pytest

from batchpoint.control.scoring_script import check_scoring_script
from batchpoint.domain.errors import Invalid
from batchpoint.domain.job_spec import ResolvedCode

INIT = "def init():\n    pass\n"
RUN = "def run(mini_batch):\n    return mini_batch\n"


def check(folder: Path, source: str | bytes, name: str = "score.py") -> None:
    data = source.encode() if isinstance(source, str) else source
    (folder / "score.py").write_bytes(data)
    check_scoring_script(ResolvedCode(path=str(folder), scoring_script=name, hash="0" * 64))


@pytest.mark.parametrize(
    "source",
    [
        INIT + RUN,
        "from driver import init, run\n",
        "from driver import *\n",
        "from driver import init\nfrom driver import score as run\n",
        "import driver\ninit = driver.init\nrun = driver.run\n",
        "init, run = make()\n",
        "init: object = print\n" + RUN,
        "class Scorer:\n    pass\n" + INIT + "run = Scorer()\n",
        "try:\n    from fast import run\nexcept ImportError:\n    from slow import run\n" + INIT,
        "if True:\n    def init(): pass\nelse:\n    def init(): pass\n" + RUN,
        "with x:\n    def init(): pass\n    def run(b): pass\n",
        "def init(x=1, *, y=2): pass\ndef run(batch, extra=None): pass\n",
        "def init(*args): pass\ndef run(*args): pass\n",
        "# -*- coding: latin-1 -*-\n# \xe9\n".encode("latin-1") + (INIT + RUN).encode(),
        b"\xef\xbb\xbf" + (INIT + RUN).encode(),
        "x = '\\d'\n" + INIT + RUN,
    ],
)
def test_good_scripts(tmp_path: Path, source: str | bytes) -> None:
    check(tmp_path, source)


@pytest.mark.parametrize(
    ("source", "where", "says"),
    [
        (INIT + "def run(x)\n    pass\n", "score.py:3:11", "syntax error: expected ':'"),
        (INIT + "  x = 1\n", "score.py:3", "unindent does not match"),
        (INIT, "score.py:1:1", "no run(mini_batch) is defined"),
        (RUN, "score.py:1:1", "no init() is defined"),
        ("", "score.py:1:1", "no init() is defined"),
        (
            "class A:\n    def init(self): pass\n    def run(self, b): pass\n",
            "score.py:1:1",
            "no init() is defined",
        ),
        (INIT + "async def run(b): pass\n", "score.py:3:1", "plain function"),
        (INIT + "def run(): pass\n", "score.py:3:1", "called with one argument: the list"),
        (INIT + "def run(a, b): pass\n", "score.py:3:1", "called with one argument only"),
        (INIT + "def run(a, *, b): pass\n", "score.py:3:1", "called with one argument only"),
        ("def init(model): pass\n" + RUN, "score.py:1:1", "called without arguments"),
        (b"\xff\xfe", "score.py:1", ""),
        (b"x = '\xe9'\n", "score.py:1", ""),
        (INIT + RUN + "\0", "score.py:1:1", ""),
        (INIT + RUN + "x = " + "(" * 500 + ")" * 500, "score.py", ""),
    ],
)
def test_mistakes_are_named(tmp_path: Path, source: str | bytes, where: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(tmp_path, source)
    assert caught.value.code == "scoring_script_invalid"
    assert (caught.value.where or "").startswith(where)
    assert says in caught.value.message


@pytest.mark.parametrize("name", ["other.py", "../score.py", "/etc/passwd", "sub", ""])
def test_the_script_has_to_be_in_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "code" / "sub").mkdir(parents=True)
    (tmp_path / "score.py").write_text(INIT + RUN)
    with pytest.raises(Invalid, match=r"it holds score\.py") as caught:
        check(tmp_path / "code", INIT + RUN, name)
    assert caught.value.where == "code_configuration.scoring_script"


def test_code_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(INIT + RUN)
    code = ResolvedCode(path=str(tmp_path / "score.py"), scoring_script="score.py", hash="0" * 64)
    with pytest.raises(Invalid, match="is a file; give the folder"):
        check_scoring_script(code)
