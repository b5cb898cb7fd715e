"""Noise and stripes are removed where they are strong; all other slices stay as they are, to the byte."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectclf.imaging.artefacts import LEAST_NOISE, cleaned, noise_level
from detectclf.imaging.images import read_pixels
from detectclf.inference.preprocess import DecodedInput, prepare
from detectclf.sample_data.slices import sample_slice
from detectclf.types import ARTEFACTS, Pixels


def drawn(side: int = 256, *, seed: int = 0, plane: str = "axial") -> Pixels:
    pixels = sample_slice(seed, "glioma", plane).pixels
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def levels(values: np.ndarray) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noisy(pixels: Pixels, sigma: float) -> Pixels:
    real, imaginary = np.random.default_rng(0).normal(0, sigma, (2, *pixels.shape))
    return levels(np.hypot(pixels + real, imaginary))


def striped(pixels: Pixels, strength: float, *spikes: tuple[float, float]) -> Pixels:
    """With a wave of ``strength`` grey levels for each spike, which is its number of waves down and across."""
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] / max(pixels.shape)
    waves = [np.cos(2 * np.pi * (down * rows + across * columns)) for down, across in spikes]
    return levels(pixels + strength * np.sum(waves, axis=0))


def peppered(pixels: Pixels, share: float, *values: int) -> Pixels:
    """With single pixels of these grey levels."""
    random = np.random.default_rng(0)
    spoilt = random.random(pixels.shape) < share
    return np.where(spoilt, random.choice(np.array(values, dtype=np.uint8), pixels.shape), pixels)


@pytest.mark.parametrize("side", [96, 256, 640])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_usual_slice_stays_the_very_same(side: int, plane: str) -> None:
    for seed in range(4):
        pixels = drawn(side, seed=seed, plane=plane)
        found = cleaned(pixels)
        assert found.pixels is pixels and not found.strong


@pytest.mark.parametrize(
    ("side", "spoil", "left", "reason"),
    [
        (256, lambda p: noisy(p, 20), 0.5, "noise"),
        (512, lambda p: noisy(p, 20), 0.5, "noise, at the usual size"),
        (256, lambda p: striped(p, 8, (31.4, 12.2)), 0.35, "one spike, oblique"),
        (256, lambda p: striped(p, 8, (-40, 55), (0, 77.5), (63, 0)), 0.35, "three, two of them along an axis"),
        (512, lambda p: striped(p, 8, (31.4, 12.2), (-20.1, 30)), 0.35, "at the usual size"),
        (900, lambda p: striped(p, 8, (31.4, 12.2)), 0.5, "larger than the networks see"),
        (256, lambda p: striped(noisy(p, 15), 12, (31.4, 12.2)), 0.5, "noise and a spike"),
        (256, lambda p: peppered(p, 0.002, 255), 0.1, "dead pixels"),
        (256, lambda p: peppered(p, 0.02, 0, 255), 0.1, "salt and pepper, as augmented exports have it"),
        (640, lambda p: peppered(p, 0.1, 0, 255), 0.15, "much of it: many lie beside each other"),
        (1024, lambda p: peppered(p, 0.02, 0, 255), 0.1, "on a picture larger than the networks see"),
    ],
)
def test_what_is_strong_is_removed(side: int, spoil: object, left: float, reason: str) -> None:
    assert callable(spoil)
    pixels = drawn(side)
    spoilt = spoil(pixels)
    result, strong = cleaned(spoilt)
    assert strong, reason
    head = pixels > 25  # stripes are cut off at black in air
    before, after = (float(np.abs(each[head].astype(float) - pixels[head]).mean()) for each in (spoilt, result))
    assert result.shape == pixels.shape and result.dtype == np.uint8
    assert after <= left * before, f"{reason}: {before:.2f} to {after:.2f} grey levels"


@pytest.mark.parametrize("side", [28, 64, 96, 192])
def test_details_of_small_pictures_are_no_impulses(side: int) -> None:
    """A pixel of a slice that was shrunk by nearest neighbour is like none of its neighbours."""
    for seed in range(8):
        large = drawn(512, seed=seed)
        small = np.ascontiguousarray(cv2.resize(large, (side, side), interpolation=cv2.INTER_NEAREST))
        assert cleaned(small).pixels is small


@pytest.mark.parametrize("side", [256, 512])
def test_stripes_leave_the_air_even(side: int) -> None:
    """Their lower halves were cut off at black there, so that what is known of them in the head is not all of them."""
    pixels = drawn(side)
    spoilt = striped(pixels, 8, (-40, 55), (0, 77.5), (63, 0))
    air = cv2.erode((pixels < 10).astype(np.uint8), np.ones((side // 16, side // 16))) > 0
    assert air.mean() > 0.04
    rough = [float((each - cv2.blur(each, (9, 9)))[air].std()) for each in (spoilt / 1.0, cleaned(spoilt).pixels / 1.0)]
    assert rough[0] > 5 and rough[1] < 0.5, rough  # 3.3 and 3.6 where only the known waves are removed


def enlarged(pixels: Pixels, side: int) -> Pixels:
    """By nearest neighbour."""
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


@pytest.mark.parametrize(
    ("small", "large", "reason"),
    [
        (640, 1024, "a share of the rows twice"),
        (256, 640, "each row two or three times"),
        (256, 512, "each row twice"),
        (200, 1000, "each row five times"),
    ],
)
def test_pictures_enlarged_by_nearest_neighbour_have_no_spikes(small: int, large: int, reason: str) -> None:
    for seed in range(4):
        pixels = enlarged(drawn(small, seed=seed), large)
        result, strong = cleaned(pixels)
        assert result is pixels and not strong, reason


def test_what_is_rough_in_parts_only_is_no_noise() -> None:
    pixels = drawn(256)
    folds = pixels.copy()
    folds[64:128] = noisy(pixels, 20)[64:128]
    assert noise_level(folds) >= LEAST_NOISE
    assert cleaned(folds).pixels is folds


@pytest.mark.parametrize("large", [640, 700])
def test_noise_that_was_enlarged_with_the_slice_is_removed(large: int) -> None:
    pixels = enlarged(drawn(320), large)
    spoilt = enlarged(noisy(drawn(320), 20), large)
    result, strong = cleaned(spoilt)
    head = pixels > 25
    before, after = (float(np.abs(each[head].astype(float) - pixels[head]).mean()) for each in (spoilt, result))
    assert strong and result.shape == pixels.shape and after <= 0.6 * before


@pytest.mark.parametrize("sigma", [8, 20, 40])
def test_the_noise_is_measured(sigma: float) -> None:
    assert noise_level(noisy(drawn(512), sigma)) == pytest.approx(sigma, rel=0.15)
    assert noise_level(drawn(512)) < LEAST_NOISE / 2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 600), st.integers(0, 255), st.booleans())
def test_any_picture_keeps_its_shape(height: int, width: int, level: int, random: bool) -> None:
    pixels = np.full((height, width), level, dtype=np.uint8)
    if random:
        pixels = np.random.default_rng(level).integers(0, 256, (height, width), dtype=np.uint8)
    before = pixels.copy()
    result, _ = cleaned(pixels)
    assert result.shape == (height, width) and result.dtype == np.uint8
    np.testing.assert_array_equal(pixels, before)


def test_a_cleaned_slice_is_flagged() -> None:
    for pixels, flags in ((drawn(), ()), (noisy(drawn(), 20), (ARTEFACTS,))):
        prepared = prepare(pixels, 384, 224, read_pixels)
        assert isinstance(prepared, DecodedInput)
        assert prepared.flags == flags
        np.testing.assert_array_equal(prepared.pixels, pixels, "pictures show what came in")
