"""Crops round proposed boxes: geometry there and back, and what training crops show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectclf.boxes import cover
from detectclf.config import AugmentConfig, DataConfig
from detectclf.datasets.augment import detection_augment
from detectclf.datasets.crops import (
    BACKGROUND_COVER,
    CropFrame,
    CropSlices,
    background_boxes,
    jittered,
    random_background,
)
from detectclf.datasets.dataset import open_dataset
from detectclf.sample_data.export import write_sample_data

sides = st.floats(4, 300)
corners = st.floats(-50, 400)


@given(corners, corners, sides, sides, st.floats(1.1, 4))
def test_a_box_in_units_of_its_crop_comes_back(x: float, y: float, w: float, h: float, context: float) -> None:
    box = np.array([x, y, x + w, y + h], dtype=np.float32)
    frame = CropFrame.around(box, context)
    inside = frame.to_crop(box[None])
    assert np.allclose(frame.to_slice(inside)[0], box, atol=1e-2)
    # The middle of the box is the middle of the crop, up to the rounding to whole pixels.
    assert np.allclose((inside[0, :2] + inside[0, 2:]) / 2, 0.5, atol=1.5 / frame.side)


def test_what_lies_outside_the_slice_is_black() -> None:
    pixels = np.full((40, 60), 200, dtype=np.uint8)
    crop = CropFrame(-20, -20, 40).cut(pixels, 40)
    assert (crop[:20] == 0).all() and (crop[:, :20] == 0).all() and (crop[20:, 20:] == 200).all()
    assert (CropFrame(500, 500, 16).cut(pixels, 8) == 0).all()


def test_a_missed_box_still_overlaps_its_tumour() -> None:
    rng = np.random.default_rng(0)
    box = np.array([100, 100, 160, 140], dtype=np.float32)
    for _ in range(200):
        near = jittered(box, rng)
        shared = np.prod(np.clip(np.minimum(near[2:], box[2:]) - np.maximum(near[:2], box[:2]), 0, None))
        assert shared > 0 and (near[2:] > near[:2]).all()


def test_a_healthy_place_is_beside_the_tumour() -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((256, 256), 100, dtype=np.uint8)
    tumor = np.array([[20, 20, 90, 90]], dtype=np.float32)
    places = [place for _ in range(50) if (place := random_background(pixels, tumor, rng)) is not None]
    assert len(places) >= 45
    assert all(cover(place, tumor)[0] <= BACKGROUND_COVER for place in places)
    everywhere = np.array([[0, 0, 256, 256]], dtype=np.float32)
    assert random_background(pixels, everywhere, rng) is None, "no part of a tumour is a healthy place"


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSlices:
    folder = write_sample_data(tmp_path_factory.mktemp("crops") / "data", n=24, seed=0)
    data = open_dataset(DataConfig(sources=(Path(folder),)))
    augment = detection_augment(AugmentConfig(tone=1.0), seed=0)
    return CropSlices(data.split("train").samples, data.tumor_classes, 256, 64, 2.0, augment)


def test_items_are_crops_with_a_box_or_a_healthy_place(crops: CropSlices) -> None:
    labels = set()
    for index in range(len(crops)):
        crop, target = crops[index]
        assert crop.shape == (1, 64, 64) and 0 <= float(crop.min()) <= float(crop.max()) <= 1
        labels.add(target["label"])
        if target["label"] == len(crops.classes):
            assert target["box"].tolist() == [0, 0, 0, 0]
        else:
            x1, y1, x2, y2 = target["box"].tolist()
            assert x1 < x2 and y1 < y2 and -0.6 < x1 < 1 and -0.6 < y1 < 1
    assert len(crops.classes) in labels and len(labels) > 1


def test_an_item_depends_on_epoch_and_index_only(crops: CropSlices) -> None:
    first, again = crops[3], crops[3]
    assert (first[0] == again[0]).all() and first[1]["label"] == again[1]["label"]
    crops.epoch = 1
    other = crops[3]
    crops.epoch = 0
    assert not (first[0] == other[0]).all()


def test_only_boxes_beside_every_tumour_are_healthy_places() -> None:
    tumors = np.array([[20, 20, 70, 70], [100, 100, 140, 140]], dtype=np.float32)
    rows = [[22, 22, 70, 70], [150, 20, 190, 60], [130, 130, 170, 170], [30, 30, 36, 36], [0, 0, 250, 250]]
    found = np.array(rows, dtype=np.float32)
    # A corner that touches is no tumour; a small part of one, and all of it with much round it, are.
    assert background_boxes(found, tumors).tolist() == found[[1, 2]].tolist()
    assert background_boxes(found, tumors[:0]).tolist() == found.tolist()
    assert background_boxes(found[:0], tumors).shape == (0, 4)


def test_healthy_crops_show_what_the_detector_confuses(crops: CropSlices) -> None:
    """A detector takes a corner of the air for a tumour: crops beside the tumour mostly show it."""
    place = np.array([[4, 4, 36, 36]], dtype=np.float32)  # random healthy places lie in the head
    hard = CropSlices(crops.samples, crops.classes, 256, 64, 2.0, hard_negatives=[place] * len(crops))
    dark = [float(hard[i][0].mean()) < 0.05 for i in range(len(hard)) if hard[i][1]["label"] == len(hard.classes)]
    assert len(dark) >= 3 and np.mean(dark) > 0.5
    augmented = CropSlices(
        crops.samples, crops.classes, 256, 64, 2.0, crops.augment, hard_negatives=[place] * len(crops)
    )
    labels = {augmented[i][1]["label"] for i in range(len(augmented))}
    assert labels <= set(range(len(crops.classes) + 1)), "a negatives place never counts as a tumour"
