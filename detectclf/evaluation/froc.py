"""FROC: sensitivity against false positives per slice, as lesion-detection challenges report it.

Class-agnostic: a tumour counts as found whatever class the box names. Sources: Bandos et al. 2009; the seven operating
points and their mean follow LUNA16 (Setio et al. 2017).
"""

from __future__ import annotations

import numpy as np

from detectclf.evaluation.matching import Matches
from detectclf.evaluation.weighted import Floats, Indices, WeightedFigures, divide

FROC_RATES: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per slice at which sensitivity is read."""


def rate_name(rate: float) -> str:
    """The key of a rate in report.json: ``0.125``, ``1``."""
    return f"{rate:g}"


def froc_points(matches: Matches, threshold: int, weights: Floats) -> Floats:
    """Sensitivity at each of :data:`FROC_RATES`.

    Where the detector gives fewer boxes than a rate allows, all its boxes count. Boxes of one score are taken together,
    since no threshold separates them.

    Args:
        matches: class-agnostic matches.
        threshold: row of ``matches.hits``.
        weights: ``(B, I)`` how often each slice counts in each resample.

    Returns:
        ``(B, 7)``; NaN where a resample has no true box.
    """
    hits, last = matches.hits[threshold], _last_of_score(matches.scores)
    each = weights[:, matches.slices]
    found = np.cumsum(each * hits, axis=1)[:, last]
    wrong = np.cumsum(each * ~hits, axis=1)[:, last]
    truths = weights @ matches.truths
    allowed = np.outer(weights.sum(axis=1), FROC_RATES)
    result = np.zeros((len(weights), len(FROC_RATES)))
    for row in range(len(weights)):
        reached = np.searchsorted(wrong[row], allowed[row], side="right") - 1
        result[row] = np.where(reached >= 0, found[row, reached] if found.shape[1] else 0.0, 0.0)
    return divide(result, np.broadcast_to(truths[:, None], result.shape))


def froc_figures(matches: Matches, threshold: int, name: str) -> WeightedFigures:
    """The mean FROC sensitivity, under ``name``."""
    return lambda weights: {name: froc_points(matches, threshold, weights).mean(axis=1)}


def froc_curve(matches: Matches, threshold: int) -> tuple[Floats, Floats]:
    """False positives per slice and sensitivity after each distinct score, falling."""
    hits = matches.hits[threshold]
    last = _last_of_score(matches.scores)
    slices, truths = max(len(matches.truths), 1), max(int(matches.truths.sum()), 1)
    return (
        np.concatenate([[0.0], np.cumsum(~hits)[last] / slices]),
        np.concatenate([[0.0], np.cumsum(hits)[last] / truths]),
    )


def _last_of_score(scores: Floats) -> Indices:
    """Position of the last box of each distinct score; ``scores`` are falling."""
    return np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.zeros(0, dtype=np.intp)
