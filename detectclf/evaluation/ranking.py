"""Figures that depend on the order of slices by a score, in each resample: AUROC, risk and coverage.

Slices of one score are one step of the order: which of them comes first says nothing of the model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.evaluation.bootstrap import Family
from detectclf.evaluation.classification import Bools, Classified
from detectclf.evaluation.matching import Floats


def auroc_family(data: Classified, slices: npt.NDArray[np.intp], prefix: str) -> Family:
    """``prefix.auroc.NAME`` of each class, ``.macro`` and ``.tumor``; NaN where a resample lacks one side.

    Args:
        data: the classified slices.
        slices: ``(N,)`` position of each among all the slices that are resampled.
        prefix: ``classification`` or ``combined``.
    """

    def family(weights: Floats) -> dict[str, Floats]:
        w = weights[:, slices]
        areas = {
            name: weighted_auroc(data.true == k, data.probabilities[:, k], w) for k, name in enumerate(data.classes)
        }
        table = np.stack(list(areas.values())) if areas else np.full((1, len(w)), np.nan)
        known = np.isfinite(table).sum(axis=0)
        areas["macro"] = _over(np.nansum(table, axis=0), known.astype(np.float64))
        healthy = data.healthy
        if data.negative is not None and healthy is not None:
            tumor = 1.0 - data.probabilities[:, data.classes.index(data.negative)]
            areas["tumor"] = weighted_auroc(~healthy, tumor, w)
        return {f"{prefix}.auroc.{name}": values for name, values in areas.items()}

    return family


def weighted_auroc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """``(B,)`` areas under the ROC curve, ties counted half, with ``(B, N)`` multiplicities."""
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    starts = _steps(scores[order])
    here = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    others = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(others, axis=1) - others
    return _over((here * (below + others / 2)).sum(axis=1), here.sum(axis=1) * others.sum(axis=1))


def risk_family(confidence: Floats, right: Bools, chosen: float, slices: npt.NDArray[np.intp]) -> Family:
    """``combined.referred`` at the ``chosen`` risk, and ``combined.risk_coverage.area``."""

    def family(weights: Floats) -> dict[str, Floats]:
        kept, wrong = kept_and_wrong(confidence, right, weights[:, slices])
        total = kept[:, -1] if kept.shape[1] else np.zeros(len(weights))
        coverage = _over(kept, np.broadcast_to(total[:, None], kept.shape))
        good = _over(wrong, kept) <= chosen
        most = np.where(good, coverage, 0.0).max(axis=1, initial=0.0)
        return {
            "combined.referred": np.where(total > 0, 1.0 - most, np.nan),
            "combined.risk_coverage.area": area_of_risk(kept, wrong),
        }

    return family


def kept_and_wrong(confidence: Floats, right: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """``(B, S)`` slices kept and errors among them after each distinct confidence, the surest first."""
    order = np.argsort(-confidence, kind="stable")
    if not len(order):
        return np.zeros((len(weights), 0)), np.zeros((len(weights), 0))
    starts = _steps(confidence[order])
    kept = np.add.reduceat(weights[:, order], starts, axis=1)
    wrong = np.add.reduceat((weights * ~right)[:, order], starts, axis=1)
    return np.cumsum(kept, axis=1), np.cumsum(wrong, axis=1)


def area_of_risk(kept: Floats, wrong: Floats) -> Floats:
    """``(B,)`` mean error rate of the 1, 2, ... surest slices; the expected one where confidences are equal.

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
    return _over(rates.sum(axis=1), kept[:, -1])


def _steps(ordered: Floats) -> npt.NDArray[np.intp]:
    """Where each run of equal values of ``ordered`` starts."""
    return np.flatnonzero(np.concatenate([[True], np.diff(ordered) != 0]))


def _over(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan))
