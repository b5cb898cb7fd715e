"""Turned heads are told from upright ones by a discriminant that is fitted on upright ones."""

from __future__ import annotations

import numpy as np
import pytest

from detectclf.imaging.framing import framed
from detectclf.imaging.upright import TURNS, UPRIGHT_SIZE, turned_features, upright_features
from detectclf.inference.orientation import is_turned
from detectclf.inference.orientation_fit import fit_orientation
from detectclf.models.bundle_arrays import Orientation
from detectclf.sample_data.slices import sample_slice
from detectclf.types import Pixels


def slices(start: int, count: int) -> list[Pixels]:
    return [sample_slice(start + i, "no_tumor", ("coronal", "sagittal")[i % 2]).pixels for i in range(count)]


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.stack([turned_features(each) for each in slices(0, 60)])


@pytest.fixture(scope="module")
def fitted(features: np.ndarray) -> Orientation:
    orientation = fit_orientation(features, range(60))
    assert orientation is not None
    return orientation


def test_turned_slices_are_told(fitted: Orientation) -> None:
    new = slices(1000, 12)
    for turn, least, most in ((0, 0, 1), (1, 10, 12), (2, 10, 12), (3, 10, 12)):
        turned = [upright_features(framed(np.ascontiguousarray(np.rot90(each, turn)))) for each in new]
        assert least <= sum(is_turned(fitted, each) for each in turned) <= most, f"turned by {90 * turn} degrees"


def test_features_of_turned_pictures_are_those_of_the_turned_head(features: np.ndarray) -> None:
    assert features.shape[1:] == (TURNS, UPRIGHT_SIZE)
    pixels = slices(0, 1)[0]
    np.testing.assert_array_equal(turned_features(pixels)[0], upright_features(framed(pixels)))
    blank = upright_features(framed(np.zeros((40, 9), dtype=np.uint8)))
    assert blank.shape == (UPRIGHT_SIZE,) and np.isfinite(blank).all()


def test_the_head_of_a_turned_picture_is_the_turned_head() -> None:
    # A cut that is half a pixel off the middle would tell turned pictures only in a fit that turns the cut.
    for pixels in slices(0, 3):
        upright, *turned = (row[-144:].reshape(12, 12) for row in turned_features(pixels))
        for turn, thumbnail in enumerate(turned, start=1):
            np.testing.assert_allclose(thumbnail, np.rot90(upright, turn), atol=0.02)


def test_a_fit_leaves_out_slices_that_are_turned_themselves(features: np.ndarray) -> None:
    wrong = features.copy()
    wrong[::15] = np.roll(wrong[::15], -2, axis=1)  # upside down in the data
    fitted = fit_orientation(wrong, range(60))
    upright = [is_turned(fitted, each[0]) for i, each in enumerate(features) if i % 15]
    assert sum(upright) <= 3


def test_copies_that_are_upside_down_teach_nothing(features: np.ndarray) -> None:
    # As half of Br35H, whose copies were turned to have more slices, under names of their own.
    turned = np.roll(features[:12], -2, axis=1)
    fitted = fit_orientation(np.concatenate([features, turned]), range(72))
    assert sum(is_turned(fitted, each[0]) for each in turned) >= 9
    assert sum(is_turned(fitted, each[0]) for each in features) <= 2


def test_too_few_slices_give_no_fit_and_say_nothing(features: np.ndarray) -> None:
    assert fit_orientation(features[:10], range(10)) is None
    assert not is_turned(None, features[0, 2])
