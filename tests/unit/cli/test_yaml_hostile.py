"""Files made to hurt a YAML loader: refused with one sentence each, quickly, in little memory."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from pathlib import Path

import pytest

from batchpoint.cli.yaml_deployment import load_deployment
from batchpoint.cli.yaml_tree import parse_mapping, read_bounded
from batchpoint.domain import limits
from batchpoint.domain.errors import Invalid


def bomb(width: int, depth: int) -> str:
    lines = ["a0: &a0 [x, x, x, x]"]
    lines += [
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]"
        for level in range(1, depth)
    ]
    return "\n".join(lines)


def map_bomb(width: int, depth: int) -> str:
    lines = ["a0: &a0 {x: y}"]
    for level in range(1, depth):
        entries = ", ".join(f"k{n}: *a{level - 1}" for n in range(width))
        lines.append(f"a{level}: &a{level} {{{entries}}}")
    return "\n".join(lines)


TAGS = [
    "a: !!python/object/apply:os.system ['id']",
    "a: !!python/object:os.system {}",
    "a: !!python/name:os.system ''",
    "a: !!python/module:os ''",
    "a: !!python/object/new:os.system [id]",
    "!!python/object/apply:os.system ['id']",
    "a: !!js/function 'function(){}'",
    "a: !!binary aGVsbG8=",
    "a: !!set {x, y}",
    "a: !!omap [x: 1]",
    "a: !!timestamp 2026-01-01",
    "a: !!str 1",
    "a: !!int '1'",
    "a: !!map {}",
    "a: !!seq []",
    "a: !include /etc/passwd",
    "a: !ENV ${HOME}",
    "a: !vault [1]",
    "a: !<tag:evil,2000:x> 1",
    "!x {a: 1}",
    "! {a: 1}",
    "%TAG ! tag:evil,2000:\n---\na: !b c",
    "? !!str a\n: 1",
]
ALIASES = [
    bomb(9, 12),
    bomb(2, 40),
    bomb(100, 5),
    map_bomb(9, 12),
    "a: &a [x" + ", x" * 4_000 + "]\nb: [" + ", ".join(["*a"] * 6) + "]",
    "a: &a [*a]",
    "a: &a {b: *a}",
    "a: &a {b: [{c: *a}]}",
    "a: *nothing",
    "*a : 1",
    "&a b: 1",
    "a: &x {<<: *x}",
    "a: &x {b: 1}\nc: {<<: [*x, 1]}",
    "<<: 1",
    "<<: [[a]]",
    "x: &x {" + ", ".join(f"k{n}: 1" for n in range(500)) + "}\n"
    "y: {" + ", ".join(["<<: *x"] * 100) + "}",
]
NESTING = [
    "[" * 900_000,
    "{a: " * 240_000,
    "- " * 480_000,
    "a:\n" + "".join(" " * n + "a:\n" for n in range(1, 1_000)),
    "? " * 400_000,
    "a: " + "[" * 60 + "]" * 60,
    "a: " + "{b: " * 60 + "1" + "}" * 60,
    "a: [" * 400_000,
    "[{" * 400_000,
    "\n".join(["a0: &a0 []", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 60))]),
]
SIZES = [
    "a: " + "x" * (limits.YAML_BYTES_MAX + 1),
    "a: [" + "1, " * 30_000 + "]",
    "".join(f"k{n}: 1\n" for n in range(15_000)),
    "#" * (limits.YAML_BYTES_MAX + 1),
    "a: [" + ",".join("{}" for _ in range(30_000)) + "]",
]
DUPLICATES = ["a: 1\na: 2", "a: {b: 1, b: 1}", "a: 1\n'a': 2", 'a: 1\n"\\x61": 2', "? a\n? a"]
SHAPES = [
    "",
    "# nothing\n",
    "---\n",
    "---\n...\n",
    "- a\n- b",
    "text",
    "42",
    "null",
    "[]",
    "a: 1\n---\nb: 2",
    "a: 1\n...\nb: 2",
    "? [a, b]\n: 1",
    "? {a: b}\n: 1",
    "{[a]: 1}",
]
SYNTAX = [
    "a: [1, 2",
    "a: {b: 1",
    "a: 'open",
    'a: "open',
    'a: "\\q"',
    "\ta: 1",
    "a: b: c",
    "a: @x",
    "a: `x`",
    "a: %x",
    "a\nb: 1",
    "a: |\n x\nb: [c: d: e]",
    "%YAML 9.9\n---\na: 1",
    "a: 1\n b: 2",
    "}",
    "a: \x00",
    "a: \x07",
    "a: \x1b[31m",
    "a: " + "9" * 5_000,
    "a: 0x" + "g" * 3 + ": ",
    "a: \ud800",
]
TEXTS = [*TAGS, *ALIASES, *NESTING, *SIZES, *DUPLICATES, *SHAPES, *SYNTAX]
BYTES = [
    b"\xff\xfea\x00:\x00 \x001\x00",
    b"\xfe\xff\x00a\x00:\x00 \x001",
    b"a: \xff\xfe",
    b"a: \xc3(",
    b"a: \xed\xa0\x80",
    b"\x1f\x8b\x08\x00\x00",
    b"PK\x03\x04" + bytes(64),
    b"\x7fELF\x02\x01\x01" + bytes(64),
    bytes(1_000),
    b"x" * (limits.YAML_BYTES_MAX + 1),
]


def test_the_corpus_is_large_enough() -> None:
    assert len(set(TEXTS)) + len(BYTES) >= 60


def one_clear_sentence(error: Invalid, source: str) -> None:
    said = str(error)
    assert error.code == "yaml_invalid"
    assert said.startswith(f"{source}")
    assert "\n" not in said
    assert 15 < len(said) < 400, said
    assert "Traceback" not in said
    assert "<unicode string>" not in said


@pytest.mark.parametrize("text", TEXTS, ids=itertools.count())
def test_hostile_text_is_refused(text: str) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(Invalid) as caught:
        parse_mapping(text, "f.yml")
    took = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    one_clear_sentence(caught.value, "f.yml")
    assert took < 5  # under tracemalloc on a shared machine; without it well under 0.2 s
    assert peak < 100_000_000


@pytest.mark.parametrize("data", BYTES, ids=itertools.count())
def test_hostile_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(data)
    with pytest.raises(Invalid) as caught:
        parse_mapping(read_bounded(path, "f.yml"), "f.yml")
    one_clear_sentence(caught.value, "f.yml")


@pytest.mark.parametrize("name", ["missing.yml", "folder", "nul\0byte", "fifo"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    import os

    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for ever
    with pytest.raises(Invalid) as caught:
        read_bounded(tmp_path / name, "f.yml")
    one_clear_sentence(caught.value, "f.yml")


def test_a_device_is_not_read() -> None:
    with pytest.raises(Invalid, match="regular file"):
        read_bounded(Path("/dev/zero"))


def test_values_cannot_drive_a_terminal(tmp_path: Path) -> None:
    from batchpoint.cli.text_tables import safe

    path = tmp_path / "deployment.yml"
    path.write_text('name: "\\e[2J\\e]0;x\\a"\nendpoint_name: heart\nmodel: azureml:m:1\n')
    with pytest.raises(Invalid) as caught:
        load_deployment(path)
    assert "\x1b" not in safe(str(caught.value))


@pytest.mark.parametrize("script", ["../outside.py", "/etc/passwd", "code", "missing.py"])
def test_a_scoring_script_outside_the_code_folder_is_refused(tmp_path: Path, script: str) -> None:
    (tmp_path / "code" / "code").mkdir(parents=True)
    (tmp_path / "outside.py").touch()
    path = tmp_path / "deployment.yml"
    path.write_text(
        "name: blue\nendpoint_name: heart\nmodel: azureml:m:1\n"
        f"code_configuration: {{code: code, scoring_script: {script}}}\n"
    )
    with pytest.raises(Invalid, match=r"no file .* is in the code folder") as caught:
        load_deployment(path)
    assert caught.value.code == "scoring_script_invalid"


def test_a_script_linked_from_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "outside.py").touch()
    (tmp_path / "code" / "score.py").symlink_to(tmp_path / "outside.py")
    path = tmp_path / "deployment.yml"
    path.write_text(
        "name: blue\nendpoint_name: heart\nmodel: azureml:m:1\n"
        "code_configuration: {code: code, scoring_script: score.py}\n"
    )
    with pytest.raises(Invalid, match="no file"):
        load_deployment(path)
