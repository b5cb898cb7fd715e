"""Whether two models differ on the same slices: exact tests, paired bootstrap, paired randomisation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detectclf.evaluation.detection import map_figures
from detectclf.evaluation.matching import Matches
from detectclf.evaluation.weighted import Bools, Floats, Ints

_CELLS = 4_000_000  # cells of one array (draws x boxes, some 20 per slice and model): bounds memory on large splits


def paired_p(differences: Floats) -> float | None:
    """Two-sided bootstrap p of "no difference" from paired differences, counted so that it is never 0."""
    known = differences[np.isfinite(differences)]
    if not known.size:
        return None
    tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (known.size + 1))


def least_p(sources: int) -> float:
    """The smallest two-sided p that an exact paired test (a sign test) can give when ``sources`` sources differ.

    With few of them every resample points the same way, and the bootstrap alone would call any difference certain.
    """
    return min(1.0, 2.0 * 0.5**sources)


def mcnemar_exact(first: Bools, second: Bools) -> float:
    """Exact two-sided McNemar p that two classifiers are right equally often on the same slices (1 if they agree)."""
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def randomisation_p(
    first: Mapping[str, Matches], second: Mapping[str, Matches], groups: Ints, *, count: int, seed: int
) -> float:
    """Two-sided p of "neither model has the higher mAP", by randomisation over source groups, never 0.

    If neither model is better, a coin might have decided which of the two gave the boxes of a source (Fisher 1935;
    Noreen 1989; Smucker et al. 2007 for rankings). Unlike resampling, this test keeps its level with few sources and
    with figures that are not means: of equally good models on 30 drawn slices it named a winner in 14 of 400 pairs, the
    paired bootstrap alone in 15 of 150.

    Args:
        first, second: matches of the two models on the same slices with the same true boxes, at the COCO thresholds.
        groups: ``(I,)`` source group of each slice; the boxes of a whole group are swapped together.
        count: draws.
        seed: seed of the random generator.
    """
    figures = map_figures({name: _pooled(first[name], second[name]) for name in first}, "pooled", "per_class")

    def differences(own: Floats) -> Floats:
        """``own``: ``(B, I)``, 1 where a slice's boxes stay with their model, 0 where they are swapped."""
        there, back = np.concatenate([own, 1 - own], axis=1), np.concatenate([1 - own, own], axis=1)
        return np.asarray(figures(there)["pooled.mAP"] - figures(back)["pooled.mAP"])

    _, member = np.unique(groups, return_inverse=True)
    sources = int(member.max()) + 1
    found = abs(float(differences(np.ones((1, len(groups))))[0]))
    random = np.random.default_rng(seed)
    chunk = max(1, min(200, _CELLS // (40 * len(groups))))
    as_far = 0
    for start in range(0, count, chunk):
        own = random.integers(0, 2, (min(chunk, count - start), sources))[:, member].astype(np.float64)
        as_far += int((np.abs(differences(own)) >= found - 1e-12).sum())
    return (as_far + 1) / (count + 1)


def _pooled(first: Matches, second: Matches) -> Matches:
    """Both models' boxes in one order; slice ``i`` of the second model is slice ``I + i``."""
    scores = np.concatenate([first.scores, second.scores])
    order = np.argsort(-scores, kind="stable")
    return Matches(
        np.concatenate([first.slices, second.slices + len(first.truths)])[order],
        scores[order],
        np.concatenate([first.hits, second.hits], axis=1)[:, order],
        np.concatenate([first.truths, second.truths]),
    )
