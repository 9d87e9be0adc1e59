"""What conda files, requirement lists and MLflow folders are read as."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.asset import Environment
from batchpoint.domain.errors import Invalid
from batchpoint.node.requirement_lists import (
    wish_of_conda,
    wish_of_environment,
    wish_of_file,
    wish_of_lines,
    wish_of_model,
)


def test_a_conda_file_gives_python_pip_lines_and_what_only_conda_has() -> None:
    content: dict[str, object] = {
        "name": "scoring",
        "channels": ["conda-forge"],
        "dependencies": [
            "python=3.8.13",
            "pip<=23.2.1",
            "setuptools",
            "conda-forge::cudatoolkit=11.8",
            {"pip": ["pandas==2.2.3  # tables", "--extra-index-url https://host/simple"]},
        ],
    }
    wish = wish_of_conda(content, "conda_file", None)
    assert wish.python == "3.8.13"
    assert wish.requirements == ("pandas==2.2.3",)
    assert wish.conda_packages == ("conda-forge::cudatoolkit=11.8",)
    assert wish.options == ("--extra-index-url https://host/simple",)


@pytest.mark.parametrize(
    ("entry", "python"),
    [
        ("python", None),
        ("python=3.8", "3.8"),
        ("python==3.8.5", "3.8.5"),
        ("python 3.10.*", "3.10"),
        ("python=3.9=h1234_0", "3.9"),
        ("python>=3.9,<3.12", ">=3.9,<3.12"),
    ],
)
def test_the_ways_conda_writes_a_python(entry: str, python: str | None) -> None:
    assert wish_of_conda({"dependencies": [entry]}, "c", None).python == python


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dependencies": "pandas"}, "`dependencies` is text, expected a list"),
        ({"dependencies": [{"pip": "pandas"}]}, "`pip:` is text, expected a list"),
        ({"dependencies": [{"npm": []}]}, "a mapping with npm"),
        ({"dependencies": [3.8]}, "an entry of `dependencies` is a float"),
        ({"dependencies": [{"pip": ["not a requirement!"]}]}, "is not a requirement"),
        ({"dependencies": [{"pip": ["-r other.txt"]}]}, "cannot include"),
        ({"dependencies": [{"pip": ["-e ."]}]}, "editable"),
        ({"dependencies": [{"pip": ["--frobnicate"]}]}, "'--frobnicate' is not known"),
        ({"dependencies": [{"pip": ["--index-url"]}]}, "--index-url needs a value"),
        ({"dependencies": [{"pip": ["./gone-1.0-py3-none-any.whl"]}]}, "is not there"),
    ],
)
def test_what_a_conda_file_cannot_say(content: dict[str, object], message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        wish_of_conda(content, "conda_file of environment 'x'", None)
    assert caught.value.code == "environment_invalid"
    assert "conda_file of environment 'x'" in caught.value.message


def test_a_list_includes_others_below_its_folder(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.txt").write_text("six\n-c ../limits.txt\n")
    (tmp_path / "limits.txt").write_text("six<2\n")
    (tmp_path / "more" / "limits.txt").write_text("attrs<99\n")
    (tmp_path / "a.txt").write_text("# all\npandas>=2,\\\n  <3\n-r more/b.txt\n")
    with pytest.raises(Invalid, match=r"limits.txt is not a file below"):
        wish_of_file(tmp_path / "a.txt")
    (tmp_path / "more" / "b.txt").write_text("six\n-climits.txt\n")
    wish = wish_of_file(tmp_path / "a.txt")
    assert wish.requirements == ("pandas>=2, <3", "six")
    assert wish.constraints == ("attrs<99",)


def test_lists_that_include_one_another_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r a.txt\n")
    with pytest.raises(Invalid, match="include one another"):
        wish_of_file(tmp_path / "a.txt")


def test_a_wheel_beside_the_list_is_found_from_anywhere(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    wheel.touch()
    listed = ["./tiny-1.0-py3-none-any.whl", "-f wheels"]
    wish = wish_of_lines(listed, "requirements.txt", tmp_path)
    assert wish.requirements == (str(wheel),)
    assert wish.options == (f"--find-links {tmp_path / 'wheels'}",)


def _model(folder: Path, described: str = "flavors: {python_function: {}}\n", **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(described)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


PYTHON_ENV = (
    "python: 3.10.4\nbuild_dependencies: [pip==23.2.1]\ndependencies: [-r requirements.txt]\n"
)
CONDA = "dependencies:\n- python=3.9\n- pip:\n  - six\n"


def test_a_model_is_read_as_mlflow_reads_it(tmp_path: Path) -> None:
    folder = _model(
        tmp_path, python_env__yaml=PYTHON_ENV, requirements__txt="attrs\n", conda__yaml=CONDA
    )
    wish = wish_of_model(folder)
    # `python: 3.10` is no float here, and pip is not a requirement of the model.
    assert wish is not None
    assert (wish.python, wish.requirements) == ("3.10.4", ("attrs",))
    (folder / "python_env.yaml").unlink()
    wish = wish_of_model(folder)
    assert wish is not None
    assert (wish.python, wish.requirements) == ("3.9", ("six",))
    (folder / "conda.yaml").unlink()
    wish = wish_of_model(folder)
    assert wish is not None
    assert (wish.python, wish.requirements) == (None, ("attrs",))


def test_a_model_names_its_files(tmp_path: Path) -> None:
    described = "flavors: {python_function: {env: {conda: c.yaml, virtualenv: v.yaml}}}\n"
    folder = _model(tmp_path, described, c__yaml=CONDA)
    wish = wish_of_model(folder)
    assert wish is not None
    assert wish.python == "3.9"
    _model(tmp_path, "flavors: {python_function: {env: ../../c.yaml}}\n")
    with pytest.raises(Invalid, match="outside the model's folder"):
        wish_of_model(folder)


def test_an_unquoted_python_3_10_stays_3_10(tmp_path: Path) -> None:
    folder = _model(tmp_path, python_env__yaml="python: 3.10\n")
    wish = wish_of_model(folder)
    assert wish is not None
    assert wish.python == "3.10"


def test_what_is_no_mlflow_model_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    assert wish_of_model(tmp_path) is None
    assert wish_of_model(_model(tmp_path / "m")) is None


def test_an_environment_combines_what_it_lists() -> None:
    environment = Environment(
        name="both",
        python_version="3.11",
        conda_file="dependencies:\n- python=3.8\n- pip: [six]\n",
        requirements=["attrs"],
    )
    wish = wish_of_environment(environment)
    assert (wish.python, wish.requirements) == ("3.11", ("six", "attrs"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (Environment(name="x"), "asks for nothing"),
        (Environment(name="x", conda_file="conda.yaml"), "was not read"),
        (Environment(name="x", conda_file="a: [\n"), "is not YAML"),
        (Environment(name="x", conda_file="- a\n- b: 1\n"), "holds a list"),
        (Environment(name="x", conda_file="a: " + "[" * 3000), "is not YAML"),
        (Environment(name="x", conda_file="a: !!python/object:os.system {}\n"), "is not YAML"),
    ],
)
def test_environments_that_cannot_be_read(environment: Environment, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        wish_of_environment(environment)
    assert caught.value.code == "environment_invalid"


def test_an_alias_bomb_is_refused_without_unfolding_it() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    lines.append("dependencies: *a29")
    with pytest.raises(Invalid, match="is a list, expected text"):
        wish_of_environment(Environment(name="x", conda_file="\n".join(lines)))


def codes_of(read: Callable[[], object]) -> set[str]:
    """Run something that may refuse; any other exception is a failure of the test."""
    try:
        read()
    except Invalid as error:
        return {error.code}
    return set()


@given(st.lists(st.text(max_size=30) | st.integers() | st.none(), max_size=5))
def test_any_list_is_read_or_refused(lines: list[object]) -> None:
    assert codes_of(lambda: wish_of_lines(lines, "list", None)) <= {"environment_invalid"}


@given(st.text(max_size=200))
def test_any_text_is_read_as_a_conda_file_or_refused(text: str) -> None:
    environment = Environment(conda_file="dependencies:\n" + text)
    assert codes_of(lambda: wish_of_environment(environment)) <= {"environment_invalid"}
