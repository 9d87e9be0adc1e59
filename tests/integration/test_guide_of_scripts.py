"""The script in the guide to scoring scripts does what the guide says."""

import csv
import io
import re
from pathlib import Path

import pytest

from batchpoint.domain.job import JobState
from tests.integration.conftest import Place

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "scoring-scripts.md"


@pytest.fixture(scope="module")
def endpoint(place: Place, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("words")
    (folder / "stop_words.txt").write_text("the a")
    (folder / "code").mkdir()
    found = re.search(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    script = folder / "code" / "score.py"
    script.write_text(found[1])
    place.client.deploy(folder / "stop_words.txt", "words", scoring_script=str(script))
    return "words"


def test_the_script_of_the_guide(place: Place, endpoint: str, tmp_path: Path) -> None:
    texts = {"a": "the cat sat", "b": "a mouse", "c": "the a"}
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    job = place.client.invoke(endpoint, tmp_path, parameters={"longest": 1}).wait(check=False)
    assert job.status.state == JobState.COMPLETED
    rows = list(csv.reader(io.StringIO(place.predictions(job))))
    assert rows == [
        ["_file", "words", "first"],
        ["a.txt", "2", "cat"],
        ["b.txt", "1", "mouse"],
    ]
    written = {path.name: path.read_text() for path in place.output(job).glob("*.bin")}
    assert written == {"a.bin": "sat", "b.bin": "mouse"}
    [failed] = place.client.job(job.name).failed_items()
    assert (failed["name"], failed["message"]) == ("c.txt", "c.txt says nothing")
    assert "score.py" in failed["traceback"]
