"""Telling other pictures from known slices, in a feature space made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detectclf.inference.ood import MapStatistics, distances, fit_ood, is_out_of_distribution
from detectclf.models.bundle import Bundle, load_bundle, save_bundle


def known(rng: np.random.Generator, count: int = 600) -> np.ndarray:
    """Slices along a few directions of a 30-dimensional space, with a little noise in all."""
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 6)))[0]
    return (rng.normal(size=(count, 6)) @ basis.T * 5 + rng.normal(size=(count, 30)) * 0.1 + 3).astype(np.float32)


def test_known_slices_pass_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    novelty = fit_ood(known(rng), range(600))
    assert novelty is not None
    assert (distances(novelty, known(rng)) > novelty.threshold).mean() <= 0.02
    # As far from the middle as known slices are, but in other directions.
    other = (rng.normal(size=(50, 30)) * 3 + 3).astype(np.float32)
    assert all(is_out_of_distribution(novelty, row) for row in other)


def test_too_few_source_slices_say_nothing() -> None:
    features = known(np.random.default_rng(0), 100)
    assert fit_ood(features, [0] * 100) is None


def test_more_channels_than_slices_flag_no_new_slice() -> None:
    """The demo's case: 72 slices, 192 numbers each."""
    rng = np.random.default_rng(0)
    novelty = fit_ood(rng.normal(size=(72, 192)).astype(np.float32), range(72))
    assert novelty is not None
    new = rng.normal(size=(200, 192)).astype(np.float32)
    assert (distances(novelty, new) > novelty.threshold).mean() < 0.05


def test_a_channel_that_never_changes_does_no_harm() -> None:
    features = known(np.random.default_rng(0))
    features[:, 0] = 1.0
    novelty = fit_ood(features, range(600))
    assert novelty is not None and np.isfinite(novelty.whitening).all()


def test_it_is_the_same_after_it_was_saved(bundle: Bundle, tmp_path: Path) -> None:
    features = known(np.random.default_rng(0))
    novelty = fit_ood(features, range(600))
    save_bundle(tmp_path, replace(bundle, ood=novelty))
    again = load_bundle(tmp_path).ood
    assert novelty is not None and again is not None
    assert again.threshold == novelty.threshold
    assert np.array_equal(distances(again, features), distances(novelty, features))


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
