"""Augmentation: boxes stay true, the same seed gives the same stream, and nothing is upside down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectclf.config import AugmentConfig
from detectclf.datasets.augment import classification_augment, detection_augment
from detectclf.datasets.augment_mri import add_bias_field, add_ghosts
from detectclf.types import empty_boxes

NOTHING = AugmentConfig(flip=0, affine=0, intensity=0, noise=0, blur=0, bias_field=0, ghosting=0)
EVERYTHING = AugmentConfig(flip=0.5, affine=1, intensity=1, noise=1, blur=1, bias_field=1, ghosting=1)


def only(**probabilities: float) -> AugmentConfig:
    return NOTHING.model_copy(update=probabilities)


def slice_with_disc(height: int = 120, width: int = 160, centre: tuple[float, float] = (95.0, 50.0), radii=(14, 9)):
    """A grey slice with a bright ellipse, and the ellipse's box."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1
    pixels = np.where(inside, 230, 40).astype(np.uint8)
    box = [centre[0] - radii[0], centre[1] - radii[1], centre[0] + radii[0], centre[1] + radii[1]]
    return pixels, np.array([box], dtype=np.float32), np.array([2], dtype=np.int64)


def extent(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)


@st.composite
def boxed_slices(draw: st.DrawFn):
    height, width = draw(st.integers(24, 96)), draw(st.integers(24, 96))
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x, y = draw(st.integers(0, width - 4)), draw(st.integers(0, height - 4))
        boxes.append([x, y, x + draw(st.integers(2, width - x)), y + draw(st.integers(2, height - y))])
    pixels = np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)
    return pixels, np.array(boxes, dtype=np.float32).reshape(-1, 4), np.arange(len(boxes), dtype=np.int64)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(boxed_slices(), st.integers(0, 2**32 - 1))
def test_boxes_stay_inside_and_have_a_size(example, seed) -> None:
    pixels, boxes, labels = example
    height, width = pixels.shape
    changed, moved, kept = detection_augment(EVERYTHING, seed=seed)(pixels, boxes, labels)
    assert changed.shape == pixels.shape and changed.dtype == np.uint8
    assert moved.dtype == np.float32 and moved.shape == (len(kept), 4) and kept.dtype == np.int64
    assert set(kept) <= set(labels) and len(set(kept)) == len(kept)
    assert np.all(moved[:, :2] >= 0) and np.all(moved[:, 2] <= width) and np.all(moved[:, 3] <= height)
    assert np.all(moved[:, 2:] - moved[:, :2] >= 0.99)


@settings(max_examples=40, deadline=None)
@given(boxed_slices())
def test_a_flip_is_exact(example) -> None:
    pixels, boxes, labels = example
    width = pixels.shape[1]
    changed, moved, kept = detection_augment(only(flip=1.0), seed=0)(pixels, boxes, labels)
    np.testing.assert_array_equal(changed, pixels[:, ::-1])
    np.testing.assert_allclose(
        moved, np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1), atol=1e-3
    )
    np.testing.assert_array_equal(kept, labels)


@pytest.mark.parametrize("seed", range(12))
def test_a_box_follows_its_tumour_and_does_not_grow(seed: int) -> None:
    # the extent of the rotated bright ellipse is the truth; boxes from rotated corners would be up to 25 % too long
    pixels, boxes, labels = slice_with_disc()
    config = only(flip=0.5, affine=1.0).model_copy(update={"rotate_degrees": 40.0, "scale": 0.3, "shift": 0.1})
    changed, moved, kept = detection_augment(config, seed=seed)(pixels, boxes, labels)
    assert kept.tolist() == [2]
    np.testing.assert_allclose(moved[0], extent(changed > 130), atol=1.1)


def test_nothing_asked_for_changes_nothing_but_copies() -> None:
    pixels, boxes, labels = slice_with_disc()
    for config in (NOTHING, AugmentConfig(enabled=False)):
        changed, moved, kept = detection_augment(config, seed=0)(pixels, boxes, labels)
        np.testing.assert_array_equal(changed, pixels)
        np.testing.assert_allclose(moved, boxes, atol=1e-4)
        assert kept.tolist() == labels.tolist() and not np.shares_memory(changed, pixels)


def test_the_same_seed_gives_the_same_stream_and_another_does_not() -> None:
    pixels, boxes, labels = slice_with_disc()

    def stream(seed: int | None) -> list[bytes]:
        augment = detection_augment(EVERYTHING, seed=seed)
        outcomes = [augment(pixels, boxes, labels) for _ in range(4)]
        return [changed.tobytes() + moved.tobytes() for changed, moved, _ in outcomes]

    assert stream(3) == stream(3)
    assert len(set(stream(3))) == 4, "a stream moves on"
    assert stream(3) != stream(4)
    assert stream(None) != stream(None)


def test_reseeding_makes_a_slice_depend_on_its_key_only() -> None:
    pixels, _, _ = slice_with_disc()
    one, two = classification_augment(EVERYTHING, seed=1), classification_augment(EVERYTHING, seed=2)
    for _ in range(3):
        two(pixels)
    one.reseed(7, 0, 11)
    two.reseed(7, 0, 11)
    first = one(pixels)[0]
    np.testing.assert_array_equal(first, two(pixels)[0])
    one.reseed(7, 1, 11)
    assert not np.array_equal(first, one(pixels)[0]), "the next epoch is different"


def test_steps_are_drawn_independently() -> None:
    # albumentations' own seed= starts all steps alike: with it, every flipped slice would be noisy too
    pixels, _, _ = slice_with_disc()
    pixels[:, :20] = 200  # so that a flip shows
    augment = classification_augment(only(flip=0.5, noise=0.5), seed=0)
    changed = [augment(pixels)[0] for _ in range(60)]
    flipped = np.array([image[:, -10:].mean() > 120 for image in changed])
    noisy = np.array([image[100:, 40:120].std() > 1.0 for image in changed])
    seen = {(bool(a), bool(b)) for a, b in zip(flipped, noisy, strict=True)}
    assert len(seen) == 4, seen


def test_never_upside_down() -> None:
    pixels = np.zeros((90, 70), dtype=np.uint8)
    pixels[:30] = 200
    augment = classification_augment(EVERYTHING, seed=0)
    for _ in range(50):
        changed, _ = augment(pixels)
        assert changed[:30].mean() > changed[-30:].mean() + 50


def test_a_box_that_leaves_the_picture_goes_with_its_label() -> None:
    pixels = np.full((100, 100), 60, dtype=np.uint8)
    boxes = np.array([[0, 40, 6, 60], [45, 45, 60, 60]], dtype=np.float32)
    labels = np.array([5, 9], dtype=np.int64)
    config = only(affine=1.0).model_copy(update={"shift": 0.45, "scale": 0.0, "rotate_degrees": 0.0})
    seen = set()
    for seed in range(40):
        _, moved, kept = detection_augment(config, seed=seed)(pixels, boxes, labels)
        assert len(moved) == len(kept)
        seen.add(tuple(kept.tolist()))
    assert (9,) in seen and (5, 9) in seen


def test_a_slice_without_boxes_keeps_their_shape() -> None:
    pixels, _, _ = slice_with_disc()
    _, moved, kept = detection_augment(EVERYTHING, seed=0)(pixels, empty_boxes(), np.zeros(0, dtype=np.int64))
    assert moved.shape == (0, 4) and moved.dtype == np.float32 and kept.shape == (0,) and kept.dtype == np.int64


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (AugmentConfig(strength=0), "no change of intensity at all"),
        (AugmentConfig(strength=1), "the strongest, where gamma could reach 0"),
        (AugmentConfig(scale=0.99, shift=0.49, rotate_degrees=45, min_visibility=1.0), "every range at its end"),
    ],
)
def test_every_allowed_setting_works(config: AugmentConfig, why: str) -> None:
    pixels, boxes, labels = slice_with_disc()
    augment = detection_augment(config, seed=0)
    for _ in range(8):
        changed, _, _ = augment(pixels, boxes, labels)
        assert changed.shape == pixels.shape, why


def test_a_bias_field_is_smooth_and_keeps_black_black() -> None:
    pixels = np.full((80, 120), 120, dtype=np.uint8)
    changed = add_bias_field(pixels, np.random.default_rng(0)).astype(int)
    assert changed.std() > 3
    assert np.abs(np.diff(changed, axis=0)).max() <= 5 and np.abs(np.diff(changed, axis=1)).max() <= 5
    assert not add_bias_field(np.zeros_like(pixels), np.random.default_rng(0)).any()


def test_ghosts_are_faint_copies_along_one_axis() -> None:
    pixels = np.zeros((90, 90), dtype=np.uint8)
    pixels[40:50, 40:50] = 200
    changed = add_ghosts(pixels, np.random.default_rng(1))
    elsewhere = changed.copy()
    elsewhere[40:50, 40:50] = 0
    assert 0 < elsewhere.max() <= 20 and changed[45, 45] > 160
    rows, columns = np.nonzero(elsewhere)
    assert np.ptp(rows) < 10 or np.ptp(columns) < 10
