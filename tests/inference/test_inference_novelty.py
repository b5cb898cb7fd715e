"""Telling other pictures from known slices, in a feature space made by hand."""

from __future__ import annotations

import numpy as np

from detectclf.inference.novelty import KNOWN_SHARE, distances, fit_novelty, is_novel


def known(rng: np.random.Generator, count: int = 300) -> np.ndarray:
    """Slices in a few directions of a 100-dimensional space, with a little noise in all."""
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(100, 6)))[0]
    return (rng.normal(size=(count, 6)) @ basis.T * 5 + rng.normal(size=(count, 100)) * 0.1 + 3).astype(np.float32)


def test_known_slices_pass_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    novelty = fit_novelty(known(rng), range(300))
    assert novelty is not None
    unseen = distances(novelty, known(rng, 400))
    assert (unseen > novelty.threshold).mean() <= 2 * (1 - KNOWN_SHARE)
    other = (rng.normal(size=(50, 100)) * 5 + 3).astype(np.float32)
    assert all(is_novel(novelty, row) for row in other)


def test_copies_are_no_neighbours_of_one_another() -> None:
    rng = np.random.default_rng(0)
    features = known(rng)
    single = fit_novelty(features, range(300))
    doubled = fit_novelty(np.repeat(features, 8, axis=0), np.repeat(np.arange(300), 8).tolist())
    assert single is not None and doubled is not None
    # Eight copies each lie at distance nothing; were they counted, every unseen slice would be called novel.
    assert doubled.threshold > 0.5 * single.threshold


def test_too_few_slices_say_nothing() -> None:
    assert fit_novelty(np.ones((30, 8), dtype=np.float32), [0] * 30) is None
