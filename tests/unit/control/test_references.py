"""References in the spellings of files and callers."""

import pytest

from batchpoint.control.references import asset_reference, compute_reference
from batchpoint.domain.errors import Invalid


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("azureml:heart:3", ("heart", "3")),
        ("heart:3", ("heart", "3")),
        ("azureml:heart@latest", ("heart", None)),
        ("heart@latest", ("heart", None)),
        ("azureml:he.art_1-b:2024.1-rc", ("he.art_1-b", "2024.1-rc")),
    ],
)
def test_assets(text: str, found: tuple[str, str | None]) -> None:
    assert asset_reference(text, "model") == found


@pytest.mark.parametrize("text", ["azureml:heart", "heart@prod", "", ":1", "a:b:c", "a b:1", "é:1"])
def test_what_is_no_asset_reference(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        asset_reference(text, "environment")
    assert caught.value.code == "reference_invalid"
    assert caught.value.where == "environment"


def test_computes() -> None:
    assert compute_reference("azureml:batch-cluster") == "batch-cluster"
    assert compute_reference("local") == "local"
    for text in ("azureml:c:1", "c@latest", "", "/x"):
        with pytest.raises(Invalid):
            compute_reference(text)
