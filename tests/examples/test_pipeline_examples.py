"""The examples with pipelines do what their READMEs say, from an empty home."""

import json
import subprocess
import sys
from pathlib import Path

from tests.examples.clone import EXAMPLES, Clone, heavy

PREPARE = EXAMPLES / "training-with-components" / "components" / "prepare" / "src" / "prepare.py"
TRAINING, SCORING = "training-with-components", "batch-scoring-with-preprocessing"
PATIENTS = """age,ca,thal,target
30,0,normal,0
50,2,fixed,1
70,,,1
"""


def prepared(folder: Path, patients: str, *arguments: str) -> list[str]:
    """Lines of the table that the component's script makes of these patients."""
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "heart.csv").write_text(patients)
    line = [
        *(sys.executable, str(PREPARE), "--data_path", str(data)),
        *("--prepared_data_path", str(folder / "prepared")),
        *("--transformations_output_path", str(folder / "learnt")),
        *arguments,
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "prepared" / "heart.csv").read_text().splitlines()


def test_gaps_and_categories_become_numbers(tmp_path: Path) -> None:
    lines = prepared(tmp_path, PATIENTS)
    assert lines[0] == "age,ca,thal,target"
    assert [line.split(",")[2] for line in lines[1:]] == ["1", "0", "-1"]  # fixed, normal; a gap
    ages = [float(line.split(",")[0]) for line in lines[1:]]
    assert ages == [-1.0, 0.0, 1.0]
    assert float(lines[3].split(",")[1]) == 0  # the median of 0 and 2 is their mean


def test_what_was_learnt_is_done_to_other_patients(tmp_path: Path) -> None:
    prepared(tmp_path / "first", PATIENTS, "--categorical_encoding", "onehot")
    learnt = tmp_path / "first" / "learnt"
    others = "thal,age,ca\nunheard-of,50,0\nfixed,90,\n"
    lines = prepared(tmp_path / "second", others, "--transformations_path", str(learnt))
    assert lines[0] == "age,ca,thal_fixed,thal_normal"
    assert [line.split(",", 2)[2] for line in lines[1:]] == ["0,0", "1,0"]
    assert [float(line.split(",")[0]) for line in lines[1:]] == [0.0, 2.0]
    again = tmp_path / "second" / "learnt" / "transformations.json"
    assert json.loads(again.read_text()) == json.loads(
        (learnt / "transformations.json").read_text()
    )


def test_hello_is_said_by_deployment_job_and_deployment_of_the_job(tmp_path: Path) -> None:
    said = Clone(tmp_path, "hello-batch").deploy_and_run()
    assert said.count("Hello from a pipeline component!") == 3


@heavy
def test_a_pipeline_trains_what_training_by_hand_gives(tmp_path: Path) -> None:
    said = Clone(tmp_path, TRAINING).deploy_and_run()
    assert said.count("As expected: ordinal, the model that training by hand gives") == 2
    assert said.count("As expected: onehot, the model that training by hand gives") == 2
    assert "heart-classifier-transforms" in said


@heavy
def test_raw_tables_are_scored_with_what_training_registered(tmp_path: Path) -> None:
    said = Clone(tmp_path, SCORING, TRAINING).deploy_and_run()
    assert said.count("As expected: append, 8 tables, 2000 patients") == 4
    assert said.count("As expected: replace, 8 tables, 2000 patients") == 2
