"""Area under the ROC curve, weighted by slice, and the curve itself.

The area is the rank statistic of Mann and Whitney (Hanley and McNeil 1982): slices with
equal scores are ties, and a tie counts half.
"""

from __future__ import annotations

import numpy as np

from detectclf.evaluation.classification import Classified
from detectclf.evaluation.weighted import Bools, Floats, Indices, WeightedFigures, divide, mean_of_known, run_starts


def auroc_figures(data: Classified, slices: Indices, prefix: str) -> WeightedFigures:
    """``prefix.auroc.NAME`` of each class against the others, their mean ``.macro``, and ``.tumor``.

    Args:
        data: the classified slices.
        slices: ``(N,)`` position of each among all the slices that are resampled.
        prefix: ``classification`` or ``combined``.
    """

    def figures(weights: Floats) -> dict[str, Floats]:
        w = weights[:, slices]
        areas = {name: auroc(data.true == k, data.probabilities[:, k], w) for k, name in enumerate(data.classes)}
        table = np.stack(list(areas.values())) if areas else np.full((1, len(w)), np.nan)
        areas["macro"] = mean_of_known(table, axis=0)
        if data.negative is not None:
            k = data.classes.index(data.negative)
            areas["tumor"] = auroc(data.true != k, 1.0 - data.probabilities[:, k], w)
        return {f"{prefix}.auroc.{name}": values for name, values in areas.items()}

    return figures


def auroc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """``(B,)`` areas under the ROC curve; NaN where a resample lacks positive or negative slices.

    Args:
        positive: ``(N,)`` truth.
        scores: ``(N,)``, higher means more positive.
        weights: ``(B, N)`` how often each slice counts.
    """
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    starts = run_starts(scores[order])
    here = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    others = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(others, axis=1) - others
    return divide((here * (below + others / 2)).sum(axis=1), here.sum(axis=1) * others.sum(axis=1))


def roc_curve(positive: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """False- and true-positive rate at every distinct threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # one point per distinct score
    hits = np.cumsum(positive[order])[last]
    misses = np.cumsum(~positive[order])[last]
    return np.concatenate([[0.0], misses / max(misses[-1], 1)]), np.concatenate([[0.0], hits / max(hits[-1], 1)])
