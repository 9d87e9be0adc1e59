"""Settings come from one file and from variables, and every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.domain.errors import Invalid
from batchpoint.settings import Settings, setting_keys


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def mistakes(environ: dict[str, str]) -> list[str]:
    with pytest.raises(Invalid) as caught:
        Settings.load(environ)
    assert caught.value.code == "settings_invalid"
    return str(caught.value).split("\n")


def test_nothing_set_is_embedded_in_the_users_home() -> None:
    settings = Settings.load({"HOME": str(Path.home())})
    assert settings.home == Path("~/.batchpoint").expanduser()
    assert settings.url is None


def test_the_file_of_the_home_is_read(home: Path) -> None:
    (home / "settings.toml").write_text(
        'log_level = "debug"\n[serve]\nport = 9000\n[environments.python_map]\n"3.8" = "3.11"\n'
    )
    settings = Settings.load({"BATCHPOINT_HOME": str(home)})
    assert settings.home == home
    assert settings.log_level == "debug"
    assert settings.serve.port == 9000
    assert settings.environments.python_map == {"3.8": "3.11"}


def test_a_named_file_wins_and_its_paths_are_beside_it(home: Path, tmp_path: Path) -> None:
    (home / "settings.toml").write_text("log_level = 3\n")
    named = tmp_path / "site" / "batchpoint.toml"
    named.parent.mkdir()
    named.write_text(
        'home = "state"\noutputs = "results"\n[environments]\n'
        'pythons = { "3.9" = "py/bin/python" }\n'
        'environment_map = { "mcr/*" = "running", "r" = "ignore", "x" = "conda/x.yml" }\n'
    )
    settings = Settings.load({"BATCHPOINT_SETTINGS": str(named)})
    site = named.parent
    assert settings.home == site / "state"
    assert settings.outputs == str(site / "results")
    assert settings.environments.pythons == {"3.9": str(site / "py/bin/python")}
    assert settings.environments.environment_map == {
        "mcr/*": "running",
        "r": "ignore",
        "x": str(site / "conda/x.yml"),
    }


def test_variables_win_over_the_file(home: Path) -> None:
    (home / "settings.toml").write_text('url = "http://file"\n[serve]\nport = 1\n')
    settings = Settings.load(
        {
            "BATCHPOINT_HOME": str(home),
            "BATCHPOINT_URL": "https://server:8080",
            "BATCHPOINT_SERVE_PORT": "81",
            "BATCHPOINT_ENVIRONMENTS_REQUIREMENT_MAP": '{ "xgboost" = "xgboost-cpu>=2" }',
        }
    )
    assert settings.url == "https://server:8080"
    assert settings.serve.port == 81
    assert settings.environments.requirement_map == {"xgboost": "xgboost-cpu>=2"}


def test_every_setting_has_a_variable() -> None:
    texts: dict[tuple[str, ...], str] = {
        ("home",): "/h",
        ("url",): "http://x",
        ("outputs",): "/o",
        ("log_level",): "error",
        ("log_format",): "json",
        ("secrets_key",): "a key",
        ("webhook_url",): "https://u:p@receiver.example/hook?key=k",
        ("webhook_secret",): "whsec_c2VjcmV0",
        ("webhook_allow_private",): "true",
        ("serve", "host"): "::",
        ("serve", "port"): "1",
        ("supervisor", "idle_seconds"): "0.5",
        ("storage", "ambient_credentials"): "true",
        ("environments", "pythons"): '{"3.9" = "/p"}',
        ("environments", "environment_map"): '{"i" = "running"}',
        ("environments", "python_map"): '{"3.8" = "3.11"}',
        ("environments", "requirement_map"): '{"a" = "b"}',
        ("environments", "lock_date"): "2026-01-31",
        ("environments", "build_seconds_max"): "7",
    }
    assert set(texts) == set(setting_keys())
    default = Settings.load({})
    for keys, variable in setting_keys().items():
        value: object = Settings.load({variable: texts[keys]})
        before: object = default
        for key in keys:
            value, before = getattr(value, key), getattr(before, key)
        assert value != before, variable


def test_all_mistakes_at_once_with_file_and_line(home: Path) -> None:
    path = home / "settings.toml"
    path.write_text(
        'ur = "x"\nlog_format = "xml"\n\n[serve]\nport = "abc"\n\n[environments]\nnope = 1\n'
        'lock_date = "yesterday"\n[environments.python_map]\n"3.8" = 3.11\n'
    )
    found = mistakes({"BATCHPOINT_HOME": str(home), "BATCHPOINT_LOG_LEVEL": "loud"})
    assert sorted(line.split(" ")[0] for line in found) == sorted(
        [
            f"{path}:1:",
            f"{path}:2:",
            f"{path}:5:",
            f"{path}:8:",
            f"{path}:9:",
            f"{path}:11:",
            "BATCHPOINT_LOG_LEVEL:",
        ]
    )
    assert any(line.endswith("ur: unknown setting; did you mean 'url'?") for line in found)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = ", "is not TOML"),
        ("a = [[[[", "is not TOML"),
        ("a = 1\na = 2\n", "settings.toml:2:"),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("#" * 1_000_001, "is larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_not_toml(home: Path, text: str, sentence: str) -> None:
    (home / "settings.toml").write_text(text)
    [line] = mistakes({"BATCHPOINT_HOME": str(home)})
    assert sentence in line
    assert line.startswith(str(home / "settings.toml"))


def test_a_file_that_is_not_text(home: Path) -> None:
    (home / "settings.toml").write_bytes(b"\xff\xfe")
    [line] = mistakes({"BATCHPOINT_HOME": str(home)})
    assert line.endswith("is not UTF-8 text")


def test_a_named_file_that_is_missing() -> None:
    [line] = mistakes({"BATCHPOINT_SETTINGS": "/nowhere/s.toml"})
    assert line == "BATCHPOINT_SETTINGS names '/nowhere/s.toml', where no file is"


def test_a_table_as_variable_has_to_be_a_table() -> None:
    [line] = mistakes({"BATCHPOINT_ENVIRONMENTS_PYTHONS": "{3.8"})
    assert line.startswith("BATCHPOINT_ENVIRONMENTS_PYTHONS: expected a TOML inline table")


@given(st.text())
def test_any_file_is_settings_or_refused(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            settings = Settings.load({"BATCHPOINT_HOME": folder})
        except Invalid as error:
            where = str(error)
        else:
            where, settings = str(path), settings.home
        assert where.startswith(str(path))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("webhook_url", "ftp://hush", "begins with https://"),
        ("webhook_url", "https://hu sh/", "spaces"),
        ("webhook_secret", "whsec_hush!", "base64"),
        ("webhook_secret", "whsec_", "is empty"),
    ],
)
def test_secrets_are_repeated_nowhere(home: Path, key: str, value: str, said: str) -> None:
    variable = f"BATCHPOINT_{key.upper()}"
    [told] = mistakes({"BATCHPOINT_HOME": str(home), variable: value})
    assert told.startswith(variable)
    assert said in told
    assert "hush" not in told
    (home / "settings.toml").write_text('webhook_secret = "hush"\nwebhook_url = "http://x?hush"\n')
    assert "hush" not in repr(Settings.load({"BATCHPOINT_HOME": str(home)}))
