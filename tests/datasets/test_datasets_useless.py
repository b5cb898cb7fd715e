"""What makes a training, a fit or an evaluation useless is said before it begins, and sound data say nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from export_examples import box, coco, image

from detectclf.datasets.useless import before_fitting, before_training, never_trained
from detectclf.types import Dataset, Sample, order_classes

BOX = np.array([[1, 1, 9, 9]], np.float32)


def slices(split: str, counts: Mapping[str, int], *, boxed: bool = True) -> list[Sample]:
    found = []
    for label, count in counts.items():
        box = boxed and label != "no_tumor"
        for i in range(count):
            extra = (BOX, (label,)) if box else (np.zeros((0, 4), np.float32), ())
            found.append(Sample(Path(f"{label}{i}.png"), f"{label}{i}.png", split, label, *extra, boxed))
    return found


def data(train: Mapping[str, int], valid: Mapping[str, int], *, boxed: bool = True) -> Dataset:
    samples = [*slices("train", train, boxed=boxed), *slices("valid", valid)]
    return Dataset(tuple(samples), order_classes([str(s.label) for s in samples]), "no_tumor")


SOUND = {"glioma": 2, "no_tumor": 2}
TRAINING = [
    ("sound", data(SOUND, SOUND), []),
    ("no tumour in train", data({"no_tumor": 3}, SOUND), ["no slice of train shows a tumour", "glioma is in valid"]),
    ("no healthy slice in train", data({"glioma": 3}, SOUND), ["without a tumour"]),
    ("a class that train lacks", data(SOUND, {**SOUND, "pituitary": 1}), ["pituitary is in valid and on no slice"]),
    ("no tumour in valid", data(SOUND, {"no_tumor": 2}), ["best epoch"]),
    ("no box", data(SOUND, SOUND, boxed=False), ["no slice of train has a tumour box"]),
    ("tumours of unknown type are tumours", data({"any_tumor": 2, **SOUND}, {"any_tumor": 1, "no_tumor": 1}), []),
]


@pytest.mark.parametrize(("dataset", "words"), [t[1:] for t in TRAINING], ids=[t[0] for t in TRAINING])
def test_training(dataset: Dataset, words: list[str]) -> None:
    lines = before_training(dataset, "train", "valid", boxes=True)
    assert len(lines) == len(words) and all(word in line for word, line in zip(words, lines, strict=True))


def test_boxes_do_not_matter_to_a_classifier() -> None:
    assert before_training(data(SOUND, SOUND, boxed=False), "train", "valid", boxes=False) == []


FITTING = [
    ("sound", {"glioma": 20, "pituitary": 1, "no_tumor": 20}, []),
    ("a dozen healthy slices", {"no_tumor": 12}, ["no slices with a tumour", "12 slices without a tumour"]),
    ("no healthy slice", {"glioma": 30, "pituitary": 30}, ["no slices without a tumour"]),
    ("a type that is absent", {"glioma": 30, "no_tumor": 30}, ["no slice of pituitary"]),
]


@pytest.mark.parametrize(("counts", "words"), [f[1:] for f in FITTING], ids=[f[0] for f in FITTING])
def test_fitting(counts: dict[str, int], words: list[str]) -> None:
    lines = before_fitting(slices("valid", counts), "no_tumor", ("glioma", "no_tumor", "pituitary"))
    assert len(lines) == len(words) and all(word in line for word, line in zip(words, lines, strict=True))


def test_evaluation_of_a_class_that_was_never_trained_on() -> None:
    training = {"detector": {"data": {"train": {"classes": {"glioma": 5, "pituitary": 0}}}}, "classifier": {}}
    found = never_trained(slices("test", {"glioma": 1, "pituitary": 1, "any_tumor": 1}), training)
    assert found == ["the detector was never trained on pituitary: its figures here say nothing"]


def test_training_says_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Through the command's own opening of the data: the loop itself is not needed."""
    from detectclf.config import DetectorRecipe
    from detectclf.datasets.index import SliceIndex
    from detectclf.pipelines.train_data import open_data

    coco(tmp_path, [image(1), image(2)], [box(1, 1, [2, 2, 20, 20])])
    coco(tmp_path, [image(3), image(4)], [box(1, 3, [2, 2, 20, 20], 4)], split="valid")
    recipe = DetectorRecipe.model_validate({"data": {"sources": [tmp_path]}, "model": {"weights": "none"}})
    with caplog.at_level(logging.WARNING):
        open_data("detector", recipe, SliceIndex())
    assert any("pituitary is in valid" in line for line in caplog.messages)
