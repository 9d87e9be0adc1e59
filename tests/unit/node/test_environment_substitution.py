"""What the site's tables put in the place of what is asked for, and that it is always said."""

from pathlib import Path

import pytest

from batchpoint.domain.errors import Invalid
from batchpoint.node.environment_substitution import EnvironmentSettings, substituted
from batchpoint.node.requirement_lists import EnvironmentWish

IMAGE = "mcr.example/azureml/ubuntu:latest"


def test_nothing_to_substitute_changes_nothing_and_says_nothing() -> None:
    wish = EnvironmentWish("x", python="3.11", requirements=("six", "attrs>=1"))
    found = substituted(wish, EnvironmentSettings(requirement_map={"numpy": "numpy"}))
    assert (found.wish, found.notes) == (wish, ())


def test_packages_of_azures_own_driver_are_left_out_with_a_note() -> None:
    wish = EnvironmentWish(
        "x",
        requirements=(
            "azureml-core",
            "AzureML_Dataset.Runtime[fuse]==1.59",
            "azureml-defaults",
            "azureml-mlflow==1.2",
            "azureml-train-automl",
        ),
    )
    found = substituted(wish, EnvironmentSettings())
    assert found.wish.requirements == ("azureml-train-automl",)
    assert len(found.notes) == 4
    assert found.notes[1].startswith("AzureML_Dataset.Runtime[fuse]==1.59 is left out")


def test_an_image_is_refused_with_the_line_that_maps_it() -> None:
    with pytest.raises(Invalid) as caught:
        substituted(EnvironmentWish("environment 'e'", image=IMAGE), EnvironmentSettings())
    assert caught.value.code == "environment_unbuildable"
    assert f'environments.environment_map."{IMAGE}" = "/path' in caught.value.message
    with_packages = EnvironmentWish("environment 'e'", image=IMAGE, requirements=("six",))
    with pytest.raises(Invalid) as caught:
        substituted(with_packages, EnvironmentSettings())
    assert f'environments.environment_map."{IMAGE}" = "ignore"' in caught.value.message


def test_what_an_image_can_be_mapped_to(tmp_path: Path) -> None:
    wish = EnvironmentWish("e", image=IMAGE, requirements=("six",))

    def mapped(target: str, pattern: str = IMAGE):
        return substituted(wish, EnvironmentSettings(environment_map={pattern: target}))

    ignored = mapped("ignore", "mcr.example/azureml/*")
    assert ignored.wish.image is None
    assert ignored.wish.requirements == ("six",)
    running = mapped("running")
    assert running.running
    assert "1 packages listed beside the image are not looked at" in running.notes[0]
    (tmp_path / "instead.txt").write_text("attrs\n")
    listed = mapped(str(tmp_path / "instead.txt"))
    assert listed.wish.requirements == ("six", "attrs")
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\n")
    with pytest.raises(Invalid, match="neither an interpreter nor"):
        mapped(str(interpreter))
    interpreter.chmod(0o755)
    assert mapped(str(interpreter)).interpreter == str(interpreter)
    with pytest.raises(Invalid, match="names a file that is not there"):
        mapped(str(tmp_path / "gone.yaml"))
    for outcome in (ignored, running, listed):
        assert outcome.notes[0].startswith(f"image {IMAGE} is replaced")


def test_an_exact_image_wins_over_a_pattern() -> None:
    table = {"mcr.example/*": "running", IMAGE: "ignore"}
    found = substituted(
        EnvironmentWish("e", image=IMAGE), EnvironmentSettings(environment_map=table)
    )
    assert not found.running


@pytest.mark.parametrize(
    ("asked", "used"), [("3.8", "3.11"), ("3.8.13", "3.11"), ("3.7.1", "3.12"), ("3.9", "3.9")]
)
def test_a_python_is_mapped_by_full_version_or_by_minor(asked: str, used: str) -> None:
    settings = EnvironmentSettings(python_map={"3.8": "3.11", "3.7.1": "3.12"})
    found = substituted(EnvironmentWish("x", python=asked), settings)
    assert found.wish.python == used
    assert bool(found.notes) == (asked != used)


def test_requirements_are_mapped_once_as_written_or_by_name() -> None:
    settings = EnvironmentSettings(
        requirement_map={
            "sklearn": "scikit-learn",
            "scikit-learn": "scikit-learn==1.9.1",
            "torch == 2.0": "torch==2.13.0",
            "torch": "torch==2.12.0",
            "nvidia-cublas": "",
        }
    )
    wish = EnvironmentWish("x", requirements=("sklearn", "torch==2.0", "torch>=1", "nvidia_cublas"))
    found = substituted(wish, settings)
    assert found.wish.requirements == ("scikit-learn", "torch==2.13.0", "torch==2.12.0")
    assert found.notes[-1] == "nvidia_cublas is left out (requirement_map)"
    assert len(found.notes) == 4


def test_packages_only_conda_has_are_listed_all_at_once() -> None:
    wish = EnvironmentWish(
        "conda_file of e", conda_packages=("conda-forge::cudatoolkit=11.8", "numpy=1.21", "ffmpeg")
    )
    settings = EnvironmentSettings(requirement_map={"numpy": "numpy==2.4.6"})
    with pytest.raises(Invalid) as caught:
        substituted(wish, settings)
    assert caught.value.code == "environment_unbuildable"
    assert "(conda-forge::cudatoolkit=11.8, ffmpeg)" in caught.value.message
    assert 'requirement_map."cudatoolkit"' in caught.value.message
    everything = {**settings.requirement_map, "cudatoolkit": "", "ffmpeg": ""}
    found = substituted(wish, EnvironmentSettings(requirement_map=everything))
    assert found.wish.requirements == ("numpy==2.4.6",)
    assert len(found.notes) == 3
