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

    Where the detector gives fewer boxes than a rate allows, all that it gives count: the sensitivity reached.

    Args:
        matches: class-agnostic matches.
        threshold: row of ``matches.hits``.
        weights: ``(B, I)`` how often each slice counts in each resample; once each by default.

    Returns:
        ``(B, 7)``; NaN where a resample has no true box.
    """
    if weights is None:
        weights = np.ones((1, len(matches.truths)))
    hits = matches.hits[threshold]
    each = weights[:, matches.slices]
    found = np.cumsum(each * hits, axis=1)
    wrong = np.cumsum(each * ~hits, axis=1)
    truths = weights @ matches.truths
    allowed = np.outer(weights.sum(axis=1), FROC_RATES)
    result = np.zeros((len(weights), len(FROC_RATES)))
    for row in range(len(weights)):
        last = np.searchsorted(wrong[row], allowed[row], side="right") - 1
        result[row] = np.where(last >= 0, found[row, last] if found.shape[1] else 0.0, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(truths[:, None] > 0, result / truths[:, None], np.nan))


def froc_curve(matches: ClassMatches, threshold: int) -> tuple[Floats, Floats]:
    """False positives per slice and sensitivity after each detection in order of falling score."""
    hits: npt.NDArray[np.bool_] = matches.hits[threshold]
    slices, truths = max(len(matches.truths), 1), max(int(matches.truths.sum()), 1)
    return (
        np.concatenate([[0.0], np.cumsum(~hits) / slices]),
        np.concatenate([[0.0], np.cumsum(hits) / truths]),
    )
