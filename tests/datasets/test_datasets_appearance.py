"""Augmentation of what a slice shows: painted lesions, random contrast, skull stripping, masks, balanced epochs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectclf.config import AugmentConfig
from detectclf.datasets.augment import classification_augment, detection_augment
from detectclf.datasets.batches import Batches, balancing_weights
from detectclf.datasets.brain_mask import brain_mask, head_mask, inner_mask
from detectclf.datasets.contrast import LEAST_DIFFERENCE, lesion_difference, random_network, recontrast
from detectclf.datasets.dataset import open_dataset
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.lesion_masks import LesionMasks, ellipses
from detectclf.datasets.lesions import paint_lesion, random_shape
from detectclf.datasets.loading import ClassificationSlices, DetectionSlices
from detectclf.datasets.synthesis import Synthesis
from detectclf.errors import DataError
from detectclf.types import ANY_TUMOR_INDEX, Sample, empty_boxes

SIDE = 160
STILL = AugmentConfig(flip=0, affine=0, intensity=0, noise=0, blur=0, bias_field=0, ghosting=0)
NO_LABELS = np.zeros(0, dtype=np.int64)


def head(*, tumor: bool = False):
    """A brain of 100 in a dark skull and a bright scalp, with or without a disc of 180; its box."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    radius = np.hypot((columns - 80) / 0.85, rows - 80)
    pixels = np.select([radius < 52, radius < 60, radius < 68], [100, 12, 200], 0).astype(np.float32)
    texture = np.random.default_rng(0).normal(0, 6, pixels.shape) * (pixels > 50)
    box = empty_boxes()
    if tumor:
        pixels[np.hypot(columns - 100, rows - 70) < 12] = 180
        box = np.array([[88, 58, 112, 82]], dtype=np.float32)
    return np.clip(pixels + texture, 0, 255).astype(np.uint8), box


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_painted_lesion_is_seen_inside_its_box_alone(seed: int) -> None:
    pixels, _ = head()
    rng = np.random.default_rng(seed)
    painted = paint_lesion(pixels, random_shape(rng), inner_mask(pixels), rng)
    assert painted is not None
    x0, y0, x1, y1 = painted.box_xyxy.astype(int)
    assert 0 <= x0 < x1 <= SIDE and 0 <= y0 < y1 <= SIDE
    change = np.abs(painted.pixels.astype(int) - pixels)
    assert change[y0:y1, x0:x1].mean() > 2
    assert change[head_mask(pixels) == 0].max(initial=0) <= 25  # at most a blurred edge reaches beyond the head


def test_nothing_is_painted_where_there_is_no_brain() -> None:
    rng = np.random.default_rng(0)
    black = np.zeros((SIDE, SIDE), dtype=np.uint8)
    assert paint_lesion(black, random_shape(rng), inner_mask(black), rng) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_lesion_stays_visible_in_any_contrast(seed: int) -> None:
    pixels, box = head(tumor=True)
    lesion = ellipses(box, pixels.shape)
    changed = recontrast(pixels, lesion, np.random.default_rng(seed))
    # clipping at black and white may take some of the difference
    assert abs(lesion_difference(changed, lesion)) >= 0.5 * LEAST_DIFFERENCE
    assert changed[0, 0] == 0  # air


def test_contrast_is_random_and_its_own_for_each_seed() -> None:
    pixels, _ = head()
    one, again, other = (random_network(pixels, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_skull_is_stripped_and_the_tumor_is_not() -> None:
    pixels, box = head(tumor=True)
    brain = brain_mask(pixels, box)
    assert brain is not None
    assert brain[58:82, 88:112].mean() > 0.99
    assert not brain[80, 15] and not brain[80, 145]  # scalp
    assert 0.9 < brain.sum() / (np.pi * 52 * 52 * 0.85) < 1.1


@pytest.mark.parametrize(
    ("pixels", "boxes", "reason"),
    [
        (np.zeros((SIDE, SIDE), dtype=np.uint8), empty_boxes(), "black"),
        (np.full((SIDE, SIDE), 90, dtype=np.uint8), empty_boxes(), "no head: grey from edge to edge"),
        (head()[0], np.array([[0, 0, 40, 40]], dtype=np.float32), "a tumour outside the brain"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_brain_is_found(pixels, boxes, reason: str) -> None:
    assert brain_mask(pixels, boxes) is None


def test_painted_slice_shows_a_tumor_of_unknown_type() -> None:
    config = STILL.model_copy(update={"paint": 1.0})
    pixels, _ = head()
    _, boxes, labels = detection_augment(config, seed=0)(pixels, empty_boxes(), NO_LABELS)
    assert boxes.shape == (1, 4) and labels.tolist() == [ANY_TUMOR_INDEX]
    changed, content = classification_augment(config, seed=0)(pixels, empty_boxes())
    assert content == "any_tumor" and not np.array_equal(changed, pixels)


def test_tumor_slice_is_not_painted_and_keeps_its_label_in_other_contrast() -> None:
    config = STILL.model_copy(update={"paint": 1.0, "recontrast": 1.0, "strip": 1.0})
    pixels, box = head(tumor=True)
    changed, boxes, labels = detection_augment(config, seed=0)(pixels, box, np.array([1]))
    assert np.array_equal(boxes, box) and labels.tolist() == [1]
    assert changed[80, 15] == 0 and not np.array_equal(changed, pixels)
    _, content = classification_augment(config, seed=0)(pixels, box)
    assert content == "same"


def test_drawn_slices_replace_their_share_and_bring_their_label(tmp_path: Path) -> None:
    pixels, _ = head()
    samples = []
    for i, label in enumerate(["glioma", "no_tumor"] * 40):
        cv2.imwrite(str(tmp_path / f"{i}.png"), pixels)
        boxed = {"boxes_xyxy": np.array([[88, 58, 112, 82]], dtype=np.float32), "box_labels": ("glioma",)}
        samples.append(
            Sample(tmp_path / f"{i}.png", f"{i}", "train", label, boxed=True, **(boxed if label == "glioma" else {}))
        )

    def draw(label, rng, size):
        grey = np.full((size, size), 255 if label else 254, dtype=np.uint8)
        return grey, np.array([[1, 2, 30, 40]], dtype=np.float32)[: 1 if label else 0]

    classes = ("glioma", "no_tumor")
    settings = {"negative": "no_tumor", "synthesis": Synthesis(draw=draw, share=0.5)}
    found = DetectionSlices(samples, ("glioma",), SIDE, detection_augment(STILL, seed=0), **settings)
    named = ClassificationSlices(samples, classes, SIDE, classification_augment(STILL, seed=0), **settings)
    counts = Counter()
    for (image, boxes), (other, label), sample in zip(found, named, samples, strict=True):
        assert np.array_equal(image, other), "both stages draw the same"
        level = round(float(image.min()) * 255)
        drawn = {255: "glioma", 254: "no_tumor"}.get(level)
        counts[drawn] += 1
        assert classes[label["label"]] == (drawn or sample.label)
        expected = [[1, 2, 30, 40]] if drawn else [[88, 58, 112, 82]]
        assert boxes["boxes"].tolist() == (expected if classes[label["label"]] == "glioma" else [])
    assert 25 < counts[None] < 55 and counts["glioma"] > 8 and counts["no_tumor"] > 8


def test_masks_are_found_for_published_slices(shared: Path) -> None:
    from detectclf.config import DataConfig

    data = open_dataset(DataConfig(sources=(shared / "data/boxed",), limit=40))
    masks = LesionMasks.load(shared / "data/figshare/masks", data.samples, SliceIndex())
    known = [s for s in data.samples if masks.find(s) is not None]
    tumors = [s for s in data.samples if s.label != "no_tumor"]
    assert len(known) >= 0.9 * len(tumors) and all(s.label != "no_tumor" for s in known)
    for sample in known:
        mask = masks.find(sample)
        drawn = mask.on((320, 320), 320)
        rows, columns = np.flatnonzero((drawn > 0.5).any(axis=1)), np.flatnonzero((drawn > 0.5).any(axis=0))
        extent = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(extent - sample.boxes_xyxy[0] / 2).max() < 4


def test_folder_of_masks_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder of masks.*lesion_masks"):
        LesionMasks.load(tmp_path / "none", (), SliceIndex())


@pytest.mark.parametrize(
    ("balance", "rare", "reason"),
    [(0.0, 10, "each slice once"), (1.0, 50, "classes equally often"), (0.5, 25, "between")],
)
def test_epoch_makes_up_for_rare_classes(balance: float, rare: int, reason: str) -> None:
    samples = [Sample(Path(f"{i}"), f"{i}", "train", "a" if i < 10 else "b") for i in range(100)]
    batches = Batches(100, 10, 0, balancing_weights(samples, balance))
    batches.begin(3)
    taken = Counter("a" if i < 10 else "b" for batch in batches for i in batch)
    assert sum(taken.values()) == 100 and abs(taken["a"] - rare) <= 1
