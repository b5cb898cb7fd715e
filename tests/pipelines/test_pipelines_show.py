"""``data show``: slices as they are, and as training sees them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from detectclf.config import AugmentConfig, DataConfig, ShowRecipe
from detectclf.errors import ConfigError, DataError
from detectclf.pipelines.show import show
from detectclf.sample_data.export import write_sample_data


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_data(tmp_path_factory.mktemp("show") / "data", n=24, seed=0)


def recipe(source: Path, **augment: float) -> ShowRecipe:
    return ShowRecipe(data=DataConfig(sources=(source,)), augment=AugmentConfig(**augment))


def drawn(recipe: ShowRecipe, out: Path, *, augmented: bool = True) -> np.ndarray:
    said = show(recipe, out, augmented=augmented, n=8, seed=0)
    assert said["detail"] == "8 slices"
    picture = cv2.imread(str(out))
    assert picture is not None
    return picture


def test_each_augmentation_is_seen(source: Path, tmp_path: Path) -> None:
    plain = drawn(recipe(source), tmp_path / "plain.png")
    assert np.array_equal(plain, drawn(recipe(source), tmp_path / "again.png")), "the same seed, the same sheet"
    for setting in ("paint", "recontrast", "strip", "tone", "ghosting"):
        other = drawn(recipe(source, **{setting: 1.0}), tmp_path / f"{setting}.png")
        assert other.shape != plain.shape or not np.array_equal(other, plain), setting


def test_slices_without_boxes_are_augmented_too(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("glioma", "no_tumor"):
        (folder / "train" / name).mkdir(parents=True)
        for i in range(4):
            grey = np.full((64, 64), 40 * (i + 1), dtype=np.uint8)
            cv2.imwrite(str(folder / "train" / name / f"{i}.png"), grey)
    drawn(recipe(folder), tmp_path / "classes.png")


def test_drawn_slices_need_label_maps_and_masks(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.head_maps and data.lesion_masks"):
        show(recipe(source, drawn=1.0), tmp_path / "none.png", augmented=True)


@pytest.mark.parametrize(
    ("augmented", "augment", "said"),
    [
        (False, {"paint": 0.5}, True),  # would be ignored
        (True, {"paint": 0.5}, False),
        (False, {}, False),
        (False, {"flip": AugmentConfig().flip}, False),  # the default: nothing is lost
    ],
)
def test_augmentation_that_is_not_drawn_is_said(
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    augmented: bool,
    augment: dict[str, float],
    said: bool,
) -> None:
    show(recipe(source, **augment), tmp_path / "sheet.png", augmented=augmented, n=2)
    assert ("have no effect without --augmented" in caplog.text) == said


def test_split_must_be_there(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split 'nosuch'"):
        show(recipe(source), tmp_path / "none.png", split="nosuch")
