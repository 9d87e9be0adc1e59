"""What is made of uv's messages; those here are as uv 0.13 prints them."""

import pytest

from batchpoint.node.uv_explanations import explained, missing_version

NO = "error: No solution found when resolving dependencies\n  cause: "
END = "we can conclude that your requirements are unsatisfiable."

CASES = [
    (
        f"{NO}Because there is no version of six==99.0 and you require six==99.0, {END}",
        "there is no six==99.0 in the package index or the wheel folders",
    ),
    (
        f"{NO}Because only six<=1.17.0 is available and you require six>99, {END}",
        "there is no six>99 in the package index or the wheel folders",
    ),
    (
        f"{NO}Because gone-pkg was not found in the package registry and you require gone, {END}",
        "gone-pkg is not found in the package index or the wheel folders",
    ),
    (
        (
            f"{NO}Because pandas>=3.1.1 depends on numpy{{python_version < '3.14'}}>=2.0.2 and "
            "you require pandas==3.1.1, we can conclude that you require numpy>=2.0.2.\n"
            f"         And because you require numpy==1.20, {END}"
        ),
        "pandas>=3.1.1 needs numpy>=2.0.2, and numpy==1.20 is asked for as well",
    ),
    (
        (
            f"{NO}Because tensorflow==1.15.0 has no wheels with a matching Python ABI tag (e.g., "
            f"`cp311`) and you require tensorflow==1.15, {END}\n\nhint: You require CPython 3.11"
        ),
        "tensorflow==1.15.0 has no build for Python 3.11 on this machine",
    ),
    (
        (
            f"{NO}Because the current Python version (3.11.7) does not satisfy Python>=3.12 and "
            "pandas==9 depends on Python>=3.12, we can conclude that pandas==9 cannot be used.\n"
            f"         And because only pandas<=9 is available and you require pandas==9, {END}"
        ),
        "pandas==9 needs Python>=3.12, and this is Python 3.11",
    ),
    (
        (
            f"{NO}Because six was not found in the cache and you require six, {END}\n\n"
            "hint: Packages were unavailable because the network was disabled."
        ),
        "six is not in the cache, and uv is offline",
    ),
    (
        (
            "error: Request failed after 3 retries in 9.9s\n"
            "  cause: Failed to fetch: https://me:secret@host/simple/six/\n"
            "  cause: error sending request for url (https://me:secret@host/simple/six/)\n"
            "  cause: tcp connect error\n  cause: Connection refused (os error 111)\n"
        ),
        "https://***@host/simple/six/ does not answer (Connection refused (os error 111))",
    ),
    (
        (
            "error: Failed to download and build `foo @ git+https://host/foo`\n"
            "  cause: Git operation failed\n  cause: failed to clone into: /cache/git\n"
        ),
        "the repository of foo @ git+https://host/foo cannot be fetched",
    ),
    (
        (
            "Resolved 6 packages in 3ms\nerror: Failed to build `scikit-learn==0.24.2`\n"
            "  cause: The build backend returned an error\n"
        ),
        "scikit-learn==0.24.2 has no wheel for Python 3.11 here, and building it",
    ),
    (
        "error: Failed to install: x.whl (x==1)\n  cause: No space left on device (os error 28)\n",
        "the disk is full",
    ),
    ("error: Something new\n  cause: nobody has seen\n", "Something new: nobody has seen"),
    ("", "uv failed"),
]


@pytest.mark.parametrize(("output", "sentence"), CASES)
def test_one_sentence(output: str, sentence: str) -> None:
    found = explained(output, "3.11.7")
    assert found.startswith(sentence)
    assert "\n" not in found
    assert "secret" not in found


def test_older_uv_draws_a_tree() -> None:
    output = (
        "  × No solution found when resolving dependencies:\n"
        "  ╰─▶ Because there is no version of\n      six==99.0 and you require six==99.0, we can\n"
        "      conclude that your requirements are unsatisfiable.\n"
    )
    assert explained(output, "3.11.7").startswith("there is no six==99.0 in")


def test_the_newest_version_is_told_when_only_the_version_is_wrong() -> None:
    for output, asked in ((CASES[0][0], "six==99.0"), (CASES[1][0], "six>99")):
        assert missing_version(output) == "six"
        found = explained(output, "3.11.7", "1.17.0")
        assert found.startswith(f"there is no {asked}")
        assert found.endswith("; the newest for Python 3.11 is 1.17.0")
    assert missing_version(CASES[2][0]) is None
    assert "newest" not in explained(CASES[2][0], "3.11.7", "1.17.0")


def test_a_long_story_is_cut() -> None:
    assert len(explained("error: " + "long " * 1000, "3.11.7")) <= 400
