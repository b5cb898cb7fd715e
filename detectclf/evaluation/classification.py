"""Classification figures of slices: accuracy, F1, AUROC, confusion, sensitivity, calibration.

A figure without a meaning (no slice, a class absent) is ``None``, never 0 or NaN. Sources: Guo et al. 2017 for the
expected calibration error; Brier 1950 for the multi-class score (sum over classes, 0 to 2); Hanley and McNeil 1982
for AUROC as a rank statistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """Slices with a known class and what was said of them.

    Attributes:
        true, predicted: ``(N,)`` class indices; ``predicted`` need not be the most probable class, since an operating
            point may have moved it.
        probabilities: ``(N, K)``, rows summing to 1.
        classes: ``K`` names.
        negative: the class that means "no tumour", if any.
    """

    true: Ints
    predicted: Ints
    probabilities: Floats
    classes: tuple[str, ...]
    negative: str | None

    @property
    def right(self) -> Bools:
        """``(N,)`` whether the class is right."""
        return np.asarray(self.true == self.predicted)

    @property
    def healthy(self) -> Bools | None:
        """``(N,)`` whether the truth is the negative class; ``None`` where there is no such class."""
        return None if self.negative is None else np.asarray(self.true == self.classes.index(self.negative))

    @property
    def called_healthy(self) -> Bools | None:
        """``(N,)`` whether the negative class was said."""
        return None if self.negative is None else np.asarray(self.predicted == self.classes.index(self.negative))


def confusion_matrix(true_idx: Sequence[int] | Ints, pred_idx: Sequence[int] | Ints, num_classes: int) -> Ints:
    """``(K, K)`` counts, rows the truth, columns the prediction."""
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(true_idx, dtype=np.int64), np.asarray(pred_idx, dtype=np.int64)), 1)
    return matrix


def accuracy_and_macro_f1(
    true_idx: Sequence[int] | Ints, pred_idx: Sequence[int] | Ints, num_classes: int
) -> tuple[float | None, float | None]:
    """Share of right classes, and mean F1 over the classes that occur in truth or prediction (as scikit-learn).

    Args:
        true_idx, pred_idx: ``(N,)`` class indices.
        num_classes: ``K``.

    Returns:
        Both ``None`` where there is no slice.
    """
    matrix = confusion_matrix(true_idx, pred_idx, num_classes).astype(np.float64)
    total = matrix.sum()
    if total == 0:
        return None, None
    size = matrix.sum(axis=0) + matrix.sum(axis=1)
    present = size > 0
    f1 = 2 * np.diag(matrix)[present] / size[present]
    return float(np.trace(matrix) / total), float(f1.mean())


def classification_figures(data: Classified) -> dict[str, Any]:
    """Every classification figure of INTERFACE.md and some more; ``None`` where one has no meaning."""
    classes, count = data.classes, len(data.true)
    accuracy, macro_f1 = accuracy_and_macro_f1(data.true, data.predicted, len(classes))
    matrix = confusion_matrix(data.true, data.predicted, len(classes))
    areas = {name: auroc(data.true == k, data.probabilities[:, k]) for k, name in enumerate(classes)}
    per_class = {name: {**_per_class(matrix, k), "auroc": areas[name]} for k, name in enumerate(classes)}
    recalls = [row["recall"] for row in per_class.values() if row["recall"] is not None]
    known = [area for area in areas.values() if area is not None]
    sure = np.clip(data.probabilities[np.arange(count), data.true], SMALLEST_PROBABILITY, 1.0)
    healthy, called = data.healthy, data.called_healthy
    tumor_area = None
    if data.negative is not None and healthy is not None:
        tumor_area = auroc(~healthy, 1.0 - data.probabilities[:, classes.index(data.negative)])
    bins = reliability(data)
    return {
        "samples": count,
        "accuracy": accuracy,
        "balanced_accuracy": float(np.mean(recalls)) if recalls else None,
        "macro_f1": macro_f1,
        "sensitivity": share(~called[~healthy]) if healthy is not None and called is not None else None,
        "specificity": share(called[healthy]) if healthy is not None and called is not None else None,
        "per_class": per_class,
        "classes": list(classes),
        "confusion_matrix": matrix.tolist(),
        "auroc": {**areas, "macro": float(np.mean(known)) if known else None, "tumor": tumor_area},
        "nll": float(-np.log(sure).mean()) if count else None,
        "brier": float(brier_terms(data).mean()) if count else None,
        "ece": sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / count if count else None,
        "ece_bins": CALIBRATION_BINS,
        "reliability": bins,
    }


def _per_class(matrix: Ints, k: int) -> dict[str, Any]:
    hit, truth, said = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
    return {
        "precision": hit / said if said else None,
        "recall": hit / truth if truth else None,
        "f1": 2 * hit / (truth + said) if truth + said else None,
        "support": truth,
    }


def share(flags: Bools) -> float | None:
    """Share of ``True``; ``None`` of nothing."""
    return float(flags.mean()) if flags.size else None


def brier_terms(data: Classified) -> Floats:
    """``(N,)`` squared distance between the probabilities and the truth, summed over classes."""
    return np.asarray(((data.probabilities - np.eye(len(data.classes))[data.true]) ** 2).sum(axis=1))


def top_class(data: Classified) -> tuple[Floats, Bools, Ints]:
    """Of the most probable class: ``(N,)`` probability, whether it is right, and its calibration bin."""
    if not len(data.true):
        return np.zeros(0), np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64)
    confidence = data.probabilities.max(axis=1)
    right = data.probabilities.argmax(axis=1) == data.true
    # Bins are (low, high], as in Guo et al.; a confidence of 0 cannot be the largest of K probabilities.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    return confidence, np.asarray(right), bins


def reliability(data: Classified) -> list[dict[str, Any]]:
    """Confidence against accuracy of the most probable class in equal-width bins; empty bins are left out."""
    confidence, right, bins = top_class(data)
    return [
        {
            "low": int(k) / CALIBRATION_BINS,
            "high": (int(k) + 1) / CALIBRATION_BINS,
            "count": int((bins == k).sum()),
            "confidence": float(confidence[bins == k].mean()),
            "accuracy": float(right[bins == k].mean()),
        }
        for k in np.unique(bins)
    ]


def auroc(positive: Bools, scores: Floats) -> float | None:
    """Area under the ROC curve as the rank statistic of Mann and Whitney, ties counted half.

    Args:
        positive: ``(N,)`` truth.
        scores: ``(N,)``, higher means more positive.
    """
    from scipy.stats import rankdata

    here, others = int(positive.sum()), int((~positive).sum())
    if not here or not others:
        return None
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - here * (here + 1) / 2) / (here * others))


def roc_curve(positive: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """False- and true-positive rate at every distinct threshold, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # one point per distinct score
    hits = np.cumsum(positive[order])[last]
    misses = np.cumsum(~positive[order])[last]
    return np.concatenate([[0.0], misses / max(misses[-1], 1)]), np.concatenate([[0.0], hits / max(hits[-1], 1)])
