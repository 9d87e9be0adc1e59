"""Modules that are hidden cannot be imported, and can again afterwards."""

import importlib
import sys

import pytest

from batchpoint.cli.lean_imports import hide, without


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the standard library that is not imported now."""
    monkeypatch.delitem(sys.modules, "stringprep", raising=False)
    return "stringprep"


def test_hidden_for_a_while(unloaded: str) -> None:
    with without(unloaded), pytest.raises(ImportError):
        importlib.import_module(unloaded)
    assert importlib.import_module(unloaded).__name__ == unloaded


def test_what_is_loaded_stays() -> None:
    with without("json"):
        assert importlib.import_module("json").dumps(1) == "1"
    assert "json" in sys.modules


def test_shown_again_after_an_error(unloaded: str) -> None:
    with pytest.raises(ZeroDivisionError), without(unloaded):
        raise ZeroDivisionError
    assert importlib.import_module(unloaded).__name__ == unloaded


def test_hidden_for_good(unloaded: str) -> None:
    hide(unloaded)
    with pytest.raises(ImportError):
        importlib.import_module(unloaded)
