"""pip's configuration in uv's words."""

import os
import sys
from pathlib import Path

import pytest

from batchpoint.node.pip_configuration import pip_options, redacted, uv_configuration


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user without any configuration, apart from what the machine has in /etc."""
    home = tmp_path / "home"
    (home / ".config" / "pip").mkdir(parents=True)
    return {
        "HOME": str(home),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "XDG_CONFIG_HOME": str(home / ".config"),
    }


def pip_conf(environ: dict[str, str], text: str) -> None:
    Path(environ["HOME"], ".config", "pip", "pip.conf").write_text(text)


def translated(environ: dict[str, str], site: Path = Path("/nowhere")):
    return uv_configuration(environ, site)


def test_addresses_of_files_and_variables(environ: dict[str, str], tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    pip_conf(
        environ,
        "[global]\nindex-url = https://mirror.example/simple\n"
        "extra-index-url =\n    https://one.example/simple\n    https://two.example/simple\n"
        f"find-links = {wheels} https://wheels.example/\n"
        "[install]\ntrusted_host = mirror.example one.example:8443\n"
        "[list]\nindex-url = https://wrong.example\n",
    )
    variables = translated(environ).variables
    assert variables["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert variables["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert variables["UV_FIND_LINKS"] == f"{wheels},https://wheels.example/"
    assert variables["UV_INSECURE_HOST"] == "mirror.example one.example:8443"
    environ["PIP_INDEX_URL"] = "https://variable.example/simple"
    assert translated(environ).variables["UV_DEFAULT_INDEX"] == environ["PIP_INDEX_URL"]


@pytest.mark.parametrize(
    ("option", "value", "variable", "expected"),
    [
        ("CERT", "/certs/bundle.pem", "SSL_CERT_FILE", "/certs/bundle.pem"),
        ("CLIENT_CERT", "/certs/me.pem", "SSL_CLIENT_CERT", "/certs/me.pem"),
        ("DEFAULT_TIMEOUT", "77", "UV_HTTP_TIMEOUT", "77"),
        ("TIMEOUT", "66", "UV_HTTP_TIMEOUT", "66"),
        ("RETRIES", "9", "UV_HTTP_RETRIES", "9"),
        ("PROXY", "http://proxy.example:3128", "ALL_PROXY", "http://proxy.example:3128"),
        ("KEYRING_PROVIDER", "subprocess", "UV_KEYRING_PROVIDER", "subprocess"),
        ("KEYRING_PROVIDER", "auto", "UV_KEYRING_PROVIDER", None),
        ("QUIET", "1", "UV_QUIET", None),
    ],
)
def test_each_option(
    environ: dict[str, str], option: str, value: str, variable: str, expected: str | None
) -> None:
    environ["PIP_CONFIG_FILE"] = os.devnull
    environ[f"PIP_{option}"] = value
    assert translated(environ).variables.get(variable) == expected


def test_constraints_and_builds(environ: dict[str, str], tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("six<2\n")
    environ |= {
        "PIP_CONSTRAINT": str(constraints),
        "PIP_NO_BINARY": "numpy,pandas",
        "PIP_ONLY_BINARY": ":all:",
    }
    found = translated(environ)
    assert found.lock_arguments == (f"--constraints={constraints}",)
    assert found.arguments == ("--no-binary=numpy", "--no-binary=pandas", "--only-binary=:all:")
    environ["UV_CONSTRAINT"] = "/uv/one.txt /uv/two.txt"
    assert translated(environ).lock_arguments == (
        "--constraints=/uv/one.txt",
        "--constraints=/uv/two.txt",
    )


@pytest.mark.parametrize(("value", "given"), [("1", True), ("on", True), ("0", False), ("", False)])
def test_switches(environ: dict[str, str], value: str, given: bool) -> None:
    environ |= {"PIP_NO_INDEX": value, "PIP_PRE": value}
    found = translated(environ)
    assert ("--no-index" in found.arguments) == given
    assert ("--prerelease=allow" in found.lock_arguments) == given
    environ["UV_DEFAULT_INDEX"] = "https://uv.example"
    assert "--no-index" not in translated(environ).arguments


@pytest.mark.parametrize(
    ("mine", "pips", "silenced"),
    [
        ("UV_DEFAULT_INDEX", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("UV_INDEX_URL", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX"),
        ("UV_FIND_LINKS", "PIP_FIND_LINKS", "UV_FIND_LINKS"),
        ("SSL_CERT_DIR", "PIP_CERT", "SSL_CERT_FILE"),
        ("https_proxy", "PIP_PROXY", "ALL_PROXY"),
        ("UV_INDEX_STRATEGY", "PIP_INDEX_URL", "UV_INDEX_STRATEGY"),
    ],
)
def test_what_is_set_for_uv_wins(
    environ: dict[str, str], mine: str, pips: str, silenced: str
) -> None:
    environ[pips] = "https://pip.example"
    environ[mine] = "https://uv.example"
    assert silenced not in translated(environ).variables


def test_what_uv_toml_says_wins(environ: dict[str, str]) -> None:
    folder = Path(environ["XDG_CONFIG_HOME"], "uv")
    folder.mkdir()
    (folder / "uv.toml").write_text('find-links = ["/w"]\n[[index]]\nurl = "https://x.example"\n')
    environ |= {"PIP_INDEX_URL": "https://pip.example", "PIP_FIND_LINKS": "https://f.example"}
    variables = translated(environ).variables
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"} & set(variables)


def test_folders_that_are_not_there_are_left_out_with_a_note(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["PIP_EXTRA_INDEX_URL"] = f"file://{tmp_path}/gone file://{tmp_path}"
    environ["PIP_FIND_LINKS"] = str(tmp_path / "also-gone")
    found = translated(environ)
    assert found.variables["UV_INDEX"] == f"file://{tmp_path}"
    assert "UV_FIND_LINKS" not in found.variables
    assert [note.split()[0] for note in found.notes] == [
        f"file://{tmp_path}/gone",
        str(tmp_path / "also-gone"),
    ]


def test_the_order_of_pips_files(environ: dict[str, str], tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "xdg" / "pip").mkdir(parents=True)
    (tmp_path / "xdg" / "pip" / "pip.conf").write_text("[global]\nretries = 1\ntimeout = 1\n")
    pip_conf(environ, "[global]\nretries = 2\n")
    assert pip_options(environ, site)["retries"] == "2"
    assert pip_options(environ, site)["timeout"] == "1"
    (site / "pip.conf").write_text("[global]\nretries = 3\n")
    assert pip_options(environ, site)["retries"] == "3"
    named = tmp_path / "named.conf"
    named.write_text("[install]\nretries = 4\n")
    environ["PIP_CONFIG_FILE"] = str(named)
    assert pip_options(environ, site)["retries"] == "4"
    environ["PIP_RETRIES"] = "5"
    assert pip_options(environ, site)["retries"] == "5"
    environ["PIP_CONFIG_FILE"] = os.devnull
    assert "timeout" not in pip_options(environ, site)


def test_a_broken_file_of_pip_is_pips_business(environ: dict[str, str]) -> None:
    pip_conf(environ, "retries = 2\n[[[\n")
    assert "retries" not in pip_options(environ, Path(sys.prefix, "nowhere"))


def test_percent_signs_in_addresses_stay(environ: dict[str, str]) -> None:
    pip_conf(environ, "[global]\nindex-url = https://me:p%40ss@host/simple\n")
    assert translated(environ).variables["UV_DEFAULT_INDEX"] == "https://me:p%40ss@host/simple"


def test_passwords_are_blotted_out() -> None:
    assert redacted("at https://me:p%40ss@host/simple and git+https://token@host/x") == (
        "at https://***@host/simple and git+https://***@host/x"
    )
    assert redacted("https://host/simple/@scope") == "https://host/simple/@scope"
