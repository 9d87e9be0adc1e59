"""The guide to pipelines can be typed from top to bottom: its files made, its commands run."""

import re
from pathlib import Path

from tests.examples.clone import heavy, run_to_end, user_environ

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "pipelines.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w/.-]+\.(?:py|yml))\n")


def blocks() -> list[tuple[str, str]]:
    return BLOCK.findall(GUIDE.read_text(encoding="utf-8"))


def test_each_block_is_a_file_or_commands() -> None:
    kinds = [
        "file" if FILE_NAME.match(text) else "commands" if language == "bash" else text
        for language, text in blocks()
    ]
    assert set(kinds) == {"file", "commands"}, "a block begins with a file's name, or is bash"
    assert kinds.count("commands") > 5


@heavy
def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    place, environ = tmp_path / "place", user_environ(tmp_path)
    place.mkdir()
    script = ["set -euo pipefail"]
    for language, text in blocks():
        named = FILE_NAME.match(text)
        if named is None:
            script += [f"echo '## {language}'", text]
            continue
        path = place / named[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    try:
        done = run_to_end(place, environ, "bash", "-x", "-c", "\n".join(script))
    finally:
        run_to_end(place, environ, "batchpoint", "down")
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert "there is no text file in" in done.stderr + done.stdout
    assert (place / "results" / "top.csv").read_text() == "the,3\n"
    (tried,) = [path for path in (place / "tried").rglob("*") if path.is_file()]
    assert tried.read_text() == "the,3\non,2\n"
    assert "reused" in done.stdout
    assert len((place / "results" / "lengths.csv").read_text().splitlines()) == 3
