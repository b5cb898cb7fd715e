"""Risk and coverage: the error rate of the slices that remain when the least confident are referred to a human.

Slices of one confidence are kept or referred together. Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017.
"""

from __future__ import annotations

import numpy as np

from detectclf.evaluation.sections import RiskCoverage
from detectclf.evaluation.weighted import Bools, Floats, Indices, WeightedFigures, divide, known, run_starts


def risk_figures(confidence: Floats, right: Bools, accepted: float, slices: Indices) -> WeightedFigures:
    """``combined.referred`` and ``combined.risk_coverage.area``.

    Args:
        confidence: ``(N,)`` probability of the predicted class.
        right: ``(N,)`` whether that class is right.
        accepted: error rate that is accepted among the slices that are kept.
        slices: ``(N,)`` position of each among all the slices that are resampled.
    """

    def figures(weights: Floats) -> dict[str, Floats]:
        kept, wrong = kept_and_wrong(confidence, right, weights[:, slices])
        return {
            "combined.referred": referred(kept, wrong, accepted),
            "combined.risk_coverage.area": area_of_risk(kept, wrong),
        }

    return figures


def risk_coverage(confidence: Floats, right: Bools) -> RiskCoverage:
    """The curve of ``(N,)`` slices, one point per distinct confidence."""
    kept, wrong = kept_and_wrong(confidence, right, np.ones((1, len(confidence))))
    return RiskCoverage(
        coverage=tuple((kept[0] / max(len(confidence), 1)).tolist()),
        risk=tuple((wrong[0] / kept[0]).tolist()),
        area=known(area_of_risk(kept, wrong)[0]),
    )


def kept_and_wrong(confidence: Floats, right: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """``(B, S)`` slices kept, and errors among them, down to each distinct confidence, the highest first."""
    order = np.argsort(-confidence, kind="stable")
    if not len(order):
        return np.zeros((len(weights), 0)), np.zeros((len(weights), 0))
    starts = run_starts(confidence[order])
    kept = np.add.reduceat(weights[:, order], starts, axis=1)
    wrong = np.add.reduceat((weights * ~right)[:, order], starts, axis=1)
    return np.cumsum(kept, axis=1), np.cumsum(wrong, axis=1)


def referred(kept: Floats, wrong: Floats, accepted: float) -> Floats:
    """``(B,)`` smallest share of slices to refer so that the error rate of the others is at most ``accepted``."""
    total = kept[:, -1] if kept.shape[1] else np.zeros(len(kept))
    coverage = divide(kept, np.broadcast_to(total[:, None], kept.shape))
    most = np.where(divide(wrong, kept) <= accepted, coverage, 0.0).max(axis=1, initial=0.0)
    return np.asarray(np.where(total > 0, 1.0 - most, np.nan))


def area_of_risk(kept: Floats, wrong: Floats) -> Floats:
    """``(B,)`` mean error rate of the 1, 2, ... most confident slices; its expectation where confidences are equal.

    Within a step of ``m`` slices and ``e`` errors after ``k`` slices with ``w`` errors the expected sum of rates is
    that of ``(w + e j / m) / (k + j)`` over ``j`` from 1 to ``m``, which harmonic numbers give at once.
    """
    if not kept.shape[1]:
        return np.full(len(kept), np.nan)
    most = int(kept.max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, most + 1))])
    before = np.concatenate([np.zeros((len(kept), 1)), kept[:, :-1]], axis=1)
    errors = np.diff(wrong, axis=1, prepend=0.0)
    size = kept - before
    step = harmonic[kept.astype(np.int64)] - harmonic[before.astype(np.int64)]
    share = np.where(size > 0, errors / np.maximum(size, 1), 0.0)
    rates = (wrong - errors) * step + share * (size - before * step)
    return divide(rates.sum(axis=1), kept[:, -1])
