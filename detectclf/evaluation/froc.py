"""FROC: sensitivity against false positives per slice, as lesion-detection challenges give it.

Class-agnostic: a hit is a tumour found, whatever it is called; the class has its own figures. Sources: Bandos et al.
2009; the seven operating points and their mean follow LUNA16 (Setio et al. 2017).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.evaluation.matching import ClassMatches, Floats

FROC_RATES: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per slice at which sensitivity is read."""


def rate_name(rate: float) -> str:
    """The key of a rate in report.json: ``0.125``, ``1``."""
    return f"{rate:g}"


def froc_points(matches: ClassMatches, threshold: int, weights: Floats | None = None) -> Floats:
    """Sensitivity at each of :data:`FROC_RATES`.

    Where the detector gives fewer boxes than a rate allows, all that it gives count: the sensitivity reached. Boxes of
    one score come all or none, since no threshold parts them.

    Args:
        matches: class-agnostic matches.
        threshold: row of ``matches.hits``.
        weights: ``(B, I)`` how often each slice counts in each resample; once each by default.

    Returns:
        ``(B, 7)``; NaN where a resample has no true box.
    """
    if weights is None:
        weights = np.ones((1, len(matches.truths)))
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
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(truths[:, None] > 0, result / truths[:, None], np.nan))


def froc_curve(matches: ClassMatches, threshold: int) -> tuple[Floats, Floats]:
    """False positives per slice and sensitivity after each distinct score, falling."""
    hits: npt.NDArray[np.bool_] = matches.hits[threshold]
    last = _last_of_score(matches.scores)
    slices, truths = max(len(matches.truths), 1), max(int(matches.truths.sum()), 1)
    return (
        np.concatenate([[0.0], np.cumsum(~hits)[last] / slices]),
        np.concatenate([[0.0], np.cumsum(hits)[last] / truths]),
    )


def _last_of_score(scores: Floats) -> npt.NDArray[np.intp]:
    """Position of the last detection of each distinct score; ``scores`` are falling."""
    return np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.zeros(0, dtype=np.intp)
