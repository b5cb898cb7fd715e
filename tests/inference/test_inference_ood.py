"""Out-of-distribution detection, in a feature space made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detectclf.imaging.upright import TURNS, UPRIGHT_SIZE
from detectclf.inference.ood import USUAL_SHARE, distances, fit_ood, novelty
from detectclf.inference.runtimes.map_statistics import MapStatistics
from detectclf.models.bundle import Bundle, load_bundle, save_bundle
from detectclf.models.bundle_arrays import Orientation


def slices(rng: np.random.Generator, count: int = 600) -> np.ndarray:
    """Slices along a few directions of a 30-dimensional space, with a little noise in all."""
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 6)))[0]
    return (rng.normal(size=(count, 6)) @ basis.T * 5 + rng.normal(size=(count, 30)) * 0.1 + 3).astype(np.float32)


def test_new_slices_pass_and_other_pictures_do_not() -> None:
    rng = np.random.default_rng(0)
    fitted = fit_ood(slices(rng), range(600))
    assert fitted is not None
    assert (distances(fitted, slices(rng)) > fitted.threshold).mean() <= 0.02
    # As far from the mean as the slices are, but in other directions.
    other = (rng.normal(size=(50, 30)) * 3 + 3).astype(np.float32)
    assert all(novelty(fitted, row) == "outside" for row in other)


def test_slices_of_another_kind_are_unusual_and_those_of_the_fit_are_not() -> None:
    rng = np.random.default_rng(0)
    fitted = fit_ood(slices(rng), range(600))
    assert fitted is not None and fitted.unusual < fitted.threshold
    assert np.mean([novelty(fitted, row) == "usual" for row in slices(rng, 200)]) > USUAL_SHARE - 0.05
    shift = np.linalg.qr(np.random.default_rng(2).normal(size=(30, 1)))[0][:, 0].astype(np.float32)
    others = [novelty(fitted, row) for row in slices(rng, 200) + 3.6 * shift]  # another sequence
    assert others.count("usual") < 20
    # Where some of them were trained on, they are not outside, and what is further off still is.
    wider = fit_ood(np.concatenate([slices(rng), slices(rng, 100) + 6 * shift]), range(700))
    assert wider is not None
    others = [novelty(wider, row) for row in slices(rng, 200) + 6 * shift]
    assert others.count("outside") < 5 and novelty(fitted, slices(rng, 1)[0] + 6 * shift) == "outside"
    assert novelty(wider, slices(rng, 1)[0] + 20 * shift) == "outside"
    features = slices(rng)
    assert novelty(None, features[0]) == novelty(fitted, None) == "usual", "nothing is said where nothing is known"
    edge = replace(fitted, threshold=1.1 * float(distances(fitted, features[:1])[0]), unusual=0.0)
    assert (novelty(edge, features[0]), novelty(edge, features[0], cropped=True)) == ("unusual", "outside")


def test_slices_with_a_known_kind_of_noise_are_unusual_not_outside() -> None:
    rng = np.random.default_rng(0)
    shift = np.zeros(30, np.float32)
    shift[3] = 20  # noise moves the features far, as far as other pictures are
    features = slices(rng)
    alone, both = fit_ood(features, range(600)), fit_ood(features, range(600), [slices(rng) + shift])
    assert alone is not None and both is not None and len(both.noisy) == 1
    assert (both.threshold, both.unusual) == (alone.threshold, alone.unusual), "what is usual stays so"
    new = slices(rng, 100) + shift
    assert all(novelty(alone, row) == "outside" for row in new)
    assert sum(novelty(both, row) == "unusual" for row in new) > 80
    between = slices(rng, 100) + 3 * shift
    assert all(novelty(both, row) == "outside" for row in between), "only that kind of noise is known"
    removed = fit_ood(features, range(600), denoised=[slices(rng) + shift])
    assert removed is not None and removed.noisy[0].threshold > both.noisy[0].threshold, "its threshold is not lowered"
    far = slices(rng, 400) + shift
    whole, part = ([novelty(both, row, cropped=cropped) == "unusual" for row in far] for cropped in (False, True))
    assert sum(part) < sum(whole), "the part of a picture that looks like a head gets no margin here either"


def test_too_few_source_slices_give_no_fit() -> None:
    features = slices(np.random.default_rng(0), 100)
    assert fit_ood(features, [0] * 100) is None


def test_every_slice_of_few_patients_counts() -> None:
    """Twelve patients of fifty slices each, who differ a little, and slices of another kind."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 50)
    features = slices(rng) + rng.normal(0, 0.3, (12, 1)).astype(np.float32)[patients]
    fitted = fit_ood(features, patients.tolist())
    assert fitted is not None
    assert sum(novelty(fitted, row) == "usual" for row in slices(rng, 200)) > 180
    shift = np.zeros(features.shape[1], np.float32)
    shift[:8] = 6
    assert all(novelty(fitted, row) != "usual" for row in slices(rng, 100) + shift)
    assert fit_ood(features[:100], patients[:100].tolist()) is None, "two patients do not say how patients differ"


def test_more_channels_than_slices_flag_no_new_slice() -> None:
    """The demo's case: 72 slices, 192 numbers each."""
    rng = np.random.default_rng(0)
    fitted = fit_ood(rng.normal(size=(72, 192)).astype(np.float32), range(72))
    assert fitted is not None
    new = rng.normal(size=(200, 192)).astype(np.float32)
    assert (distances(fitted, new) > fitted.threshold).mean() < 0.05


def test_a_channel_that_never_changes_does_no_harm() -> None:
    features = slices(np.random.default_rng(0))
    features[:, 0] = 1.0
    fitted = fit_ood(features, range(600))
    assert fitted is not None and np.isfinite(fitted.whitening).all()


def test_it_is_the_same_after_it_was_saved(bundle: Bundle, tmp_path: Path) -> None:
    features = slices(np.random.default_rng(0))
    fitted = fit_ood(features, range(600), [features + 9, features - 9])
    assert fitted is not None
    rng = np.random.default_rng(1)
    shapes = ((8, UPRIGHT_SIZE + 1), (TURNS, 9))
    turns = Orientation(tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes), 2.5)
    save_bundle(tmp_path, replace(bundle, ood=replace(fitted, orientation=turns)))
    again = load_bundle(tmp_path).ood
    assert again is not None and again.orientation is not None
    assert again.threshold == fitted.threshold and again.unusual == fitted.unusual
    assert [each.threshold for each in again.noisy] == [each.threshold for each in fitted.noisy]
    assert all(novelty(again, row) == novelty(fitted, row) == "unusual" for row in features[:5] + 9)
    assert again.orientation.threshold == 2.5
    assert all(np.array_equal(*each) for each in zip(again.orientation.layers, turns.layers, strict=True))
    linear = Orientation((rng.normal(size=(TURNS, UPRIGHT_SIZE + 1)).astype(np.float32),), 1.5)
    save_bundle(tmp_path / "linear", replace(bundle, ood=replace(fitted, orientation=linear)))
    old = load_bundle(tmp_path / "linear").ood
    assert old is not None and old.orientation is not None, "bundles of version 3.2 have a linear discriminant"
    assert np.array_equal(old.orientation.layers[0], linear.layers[0]) and len(old.orientation.layers) == 1
    save_bundle(tmp_path / "old", replace(bundle, ood=replace(fitted, unusual=np.inf)))
    old = load_bundle(tmp_path / "old").ood
    assert old is not None and old.unusual == np.inf, "bundles of before call no slice unusual"
    save_bundle(tmp_path / "older", replace(bundle, ood=replace(fitted, noisy=())))
    old = load_bundle(tmp_path / "older").ood
    assert old is not None and (old.noisy, old.orientation) == ((), None), "nor do they know noise or turns"
    assert np.array_equal(distances(again, features), distances(fitted, features))


def test_statistics_are_of_the_middle_maps() -> None:
    class Body(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"0": x * 0, "1": torch.cat([x, 2 * x], dim=1), "2": x * 0}

    body = Body()
    picture = torch.arange(4.0).view(1, 1, 2, 2)
    with MapStatistics(body) as statistics:
        body(picture)
    body(picture * 100)  # passes unseen
    spread = float(picture.std())
    assert np.allclose(statistics.rows(), [[1.5, 3.0, spread, 2 * spread]])
