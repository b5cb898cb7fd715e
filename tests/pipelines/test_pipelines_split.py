"""The shares that ``data split`` is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectclf.errors import ConfigError
from detectclf.pipelines.split import split
from detectclf.sample_data.export import write_sample_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_data(tmp_path_factory.mktemp("split") / "data", n=40, seed=0)


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        (
            "0.7,0.2",
            "add up to 0.9, not to 1; give 0.7,0.2,0.1 for a split test of the rest, or shares",
        ),  # test forgotten
        ("0.7,0.2,0.2", "add up to 1.1, not to 1; give shares that add up to 1, or whole numbers such as 8,1,1"),
        ("0.9,0.2", "add up to 1.1, not to 1; give shares"),
        ("70,20,0.1", "add up to 90.1"),  # a share of one kind among those of the other
        ("0.7,nan,0.3", "give two or three positive shares"),
        ("0.7", "give two or three positive shares"),
    ],
)
def test_shares_that_leave_a_part_out_are_refused(data: Path, tmp_path: Path, ratios: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        split(data, tmp_path / "out", ratios=ratios)
    assert said in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("ratios", "splits"),
    [
        ("0.5,0.25,0.25", {"train", "valid", "test"}),
        ("0.33,0.33,0.33", {"train", "valid", "test"}),
        ("2,1,1", {"train", "valid", "test"}),
        ("0.8,0.2", {"train", "valid"}),
        ("4,1", {"train", "valid"}),
    ],
)
def test_shares_and_what_they_make(data: Path, tmp_path: Path, ratios: str, splits: set[str]) -> None:
    made = split(data, tmp_path / "out", ratios=ratios)
    assert set(made["splits"]) == splits
    assert ("no split test" in made["detail"]) == ("test" not in splits)
