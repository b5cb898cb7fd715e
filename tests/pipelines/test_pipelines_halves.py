"""Halves of heads shown twice need boxes of all tumours and of nothing else: training refuses other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectclf.config import AugmentConfig, ClassifierRecipe, DataConfig, DetectorRecipe, RefinerRecipe
from detectclf.errors import ConfigError, DetectclfError
from detectclf.pipelines.train import train_classifier, train_detector, train_refiner

HALVES = AugmentConfig(healthy_half=0.3, tumor_half=0.3)


@pytest.mark.parametrize(
    ("train", "recipe", "settings"),
    [
        (train_detector, DetectorRecipe, {"negative_boxes": "keep"}),
        (train_detector, DetectorRecipe, {"faults": "mend"}),
        (train_classifier, ClassifierRecipe, {"faults": "mend"}),
        (train_refiner, RefinerRecipe, {"faults": "mend"}),
    ],
    ids=["a healthy head has a box", "a box may be gone", "so for classes", "so for crops"],
)
def test_halves_are_refused_where_boxes_are_not_the_tumors(tmp_path: Path, train, recipe, settings) -> None:
    data = DataConfig(sources=(tmp_path / "nothing",), **settings)
    with pytest.raises(ConfigError, match="boxes of all tumours") as refused:
        train(recipe(data=data, augment=HALVES))
    assert "--set augment.healthy_half=0" in str(refused.value)
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
