"""Halves of heads shown twice need boxes of all tumours and of nothing else: training refuses other settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.config import AugmentConfig, ClassifierRecipe, DataConfig, DetectorRecipe
from detectclf.errors import ConfigError, DetectclfError
from detectclf.pipelines.train import train_classifier, train_detector

HALVES = AugmentConfig(symmetry_healthy=0.3, symmetry_tumor=0.3)


@pytest.mark.parametrize(
    ("train", "recipe", "settings"),
    [
        (train_detector, DetectorRecipe, {"negative_boxes": "keep"}),
        (train_detector, DetectorRecipe, {"faults": "fix"}),
        (train_classifier, ClassifierRecipe, {"faults": "fix"}),
    ],
    ids=["a healthy head has a box", "a box may be gone", "so for classes"],
)
def test_symmetry_is_refused_where_boxes_are_not_the_tumors(tmp_path: Path, train, recipe, settings) -> None:
    data = DataConfig(sources=(tmp_path / "nothing",), **settings)
    with pytest.raises(ConfigError, match="need a box for every tumour") as refused:
        train(recipe(data=data, augment=HALVES))
    assert "--set augment.symmetry_healthy=0" in str(refused.value)
    # without augmentation, or without halves, the next step is reached: the data
    for augment in (HALVES.model_copy(update={"enabled": False}), AugmentConfig()):
        with pytest.raises(DetectclfError) as other:
            train(recipe(data=data, augment=augment))
        assert not isinstance(other.value, ConfigError)


def test_a_classifier_does_not_mind_boxes_of_healthy_heads(tmp_path: Path) -> None:
    # it tells them by their class (test_data_halves)
    data = DataConfig(sources=(tmp_path / "nothing",), negative_boxes="keep")
    with pytest.raises(DetectclfError) as other:
        train_classifier(ClassifierRecipe(data=data, augment=HALVES))
    assert not isinstance(other.value, ConfigError)


@pytest.mark.parametrize(("other", "said"), [("pituitary", True), ("no_tumor", False)])
def test_halves_of_which_nothing_can_be_made_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: str, said: bool
) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        for name in ("glioma", other):
            for k in range(2):
                file = tmp_path / "data" / split / name / f"{k}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(file)
    settings = {
        "data": {"sources": [tmp_path / "data"]},
        "augment": {"symmetry_healthy": 0.3},
        "model": {"arch": "mlp", "weights": "none", "image_size": 32},
        "training": {"epochs": 1, "batch_size": 2, "device": "cpu"},
    }
    train_classifier(ClassifierRecipe.model_validate(settings), tmp_path / "run", quiet=True)
    warned = "no training slice is of a class without tumour" in caplog.text
    assert warned is said
