"""Classification figures of slices, weighted by slice: accuracy, F1, sensitivity, calibration.

Sources: Guo et al. 2017 for the expected calibration error; Brier 1950 for the multi-class score (sum over classes, 0
to 2). The tests compare every figure with scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectclf.evaluation.sections import ClassFigures, ClassRow, ReliabilityBin
from detectclf.evaluation.weighted import (
    Bools,
    Floats,
    Indices,
    Ints,
    Values,
    WeightedFigures,
    divide,
    known,
    mean_of_known,
)

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """Slices with a known class and what was predicted for them.

    Attributes:
        true, predicted: ``(N,)`` class indices; an operating point may make ``predicted`` another class than the most
            probable one.
        probabilities: ``(N, K)``, rows summing to 1.
        classes: ``K`` names.
        negative: the class that means "no tumour", if any.
    """

    true: Ints
    predicted: Ints
    probabilities: Floats
    classes: tuple[str, ...]
    negative: str | None


def confusion(true: Ints, predicted: Ints, classes: int, weights: Floats) -> Floats:
    """``(B, K, K)`` weighted counts, rows the truth, columns the prediction."""
    cell = np.zeros((len(true), classes * classes))
    cell[np.arange(len(true)), true * classes + predicted] = 1.0
    return (weights @ cell).reshape(len(weights), classes, classes)


def accuracy(matrix: Floats) -> Floats:
    """``(B,)`` share of slices with the right class, from ``(B, K, K)`` confusion matrices."""
    return divide(np.trace(matrix, axis1=1, axis2=2), matrix.sum(axis=(1, 2)))


def recall_per_class(matrix: Floats) -> Floats:
    """``(B, K)``; NaN for a class that does not occur."""
    return divide(np.diagonal(matrix, axis1=1, axis2=2), matrix.sum(axis=2))


def precision_per_class(matrix: Floats) -> Floats:
    """``(B, K)``; NaN for a class that is never predicted."""
    return divide(np.diagonal(matrix, axis1=1, axis2=2), matrix.sum(axis=1))


def f1_per_class(matrix: Floats) -> Floats:
    """``(B, K)``; NaN for a class that neither occurs nor is predicted."""
    return divide(2 * np.diagonal(matrix, axis1=1, axis2=2), matrix.sum(axis=2) + matrix.sum(axis=1))


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
    true, predicted = np.asarray(true_idx, dtype=np.int64), np.asarray(pred_idx, dtype=np.int64)
    matrix = confusion(true, predicted, num_classes, np.ones((1, len(true))))
    return known(accuracy(matrix)[0]), known(mean_of_known(f1_per_class(matrix), axis=1)[0])


def classification_figures(data: Classified, slices: Indices, prefix: str) -> WeightedFigures:
    """The headline classification figures under ``prefix``, except AUROC and sensitivity.

    Args:
        data: the classified slices.
        slices: ``(N,)`` position of each among all the slices that are resampled.
        prefix: ``classification`` or ``combined``.
    """
    count, rows = len(data.classes), np.arange(len(data.true))
    nll = -np.log(np.clip(data.probabilities[rows, data.true], SMALLEST_PROBABILITY, 1.0))
    brier = ((data.probabilities - np.eye(count)[data.true]) ** 2).sum(axis=1)
    confidence, right, bins = _top_class(data)
    gap = np.zeros((len(rows), CALIBRATION_BINS))
    gap[rows, bins] = right - confidence

    def figures(weights: Floats) -> dict[str, Floats]:
        w = weights[:, slices]
        total = w.sum(axis=1)
        matrix = confusion(data.true, data.predicted, count, w)
        out = {
            "accuracy": accuracy(matrix),
            "nll": divide(w @ nll, total),
            "brier": divide(w @ brier, total),
            "ece": divide(np.abs(w @ gap).sum(axis=1), total),
            "balanced_accuracy": mean_of_known(recall_per_class(matrix), axis=1),
            "macro_f1": mean_of_known(f1_per_class(matrix), axis=1),
        }
        if data.negative is not None:
            out["specificity"] = recall_per_class(matrix)[:, data.classes.index(data.negative)]
        return {f"{prefix}.{name}": values for name, values in out.items()}

    return figures


def _top_class(data: Classified) -> tuple[Floats, Bools, Ints]:
    """Of the most probable class: ``(N,)`` probability, whether it is right, and its calibration bin."""
    if not len(data.true):
        return np.zeros(0), np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.int64)
    confidence = data.probabilities.max(axis=1)
    right = data.probabilities.argmax(axis=1) == data.true
    # Bins are (low, high], as in Guo et al.; a confidence of 0 cannot be the largest of K probabilities.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    return confidence, np.asarray(right), bins


def reliability(data: Classified) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy of the most probable class in equal-width bins; empty bins are left out."""
    confidence, right, bins = _top_class(data)
    return tuple(
        ReliabilityBin(
            low=int(k) / CALIBRATION_BINS,
            high=(int(k) + 1) / CALIBRATION_BINS,
            count=int((bins == k).sum()),
            confidence=float(confidence[bins == k].mean()),
            accuracy=float(right[bins == k].mean()),
        )
        for k in np.unique(bins)
    )


def class_section(data: Classified, values: Values, prefix: str) -> ClassFigures:
    """The classification figures of the report.

    Args:
        data: the classified slices.
        values: published values of :func:`classification_figures` and of AUROC.
        prefix: theirs.
    """
    matrix = confusion(data.true, data.predicted, len(data.classes), np.ones((1, len(data.true))))
    precision, recall, f1 = precision_per_class(matrix)[0], recall_per_class(matrix)[0], f1_per_class(matrix)[0]
    areas = {name: values.get(f"{prefix}.auroc.{name}") for name in (*data.classes, "macro", "tumor")}
    return ClassFigures(
        accuracy=values[f"{prefix}.accuracy"],
        balanced_accuracy=values[f"{prefix}.balanced_accuracy"],
        macro_f1=values[f"{prefix}.macro_f1"],
        sensitivity=values.get(f"{prefix}.sensitivity"),
        specificity=values.get(f"{prefix}.specificity"),
        per_class={
            name: ClassRow(known(precision[k]), known(recall[k]), known(f1[k]), int(matrix[0, k].sum()), areas[name])
            for k, name in enumerate(data.classes)
        },
        classes=data.classes,
        confusion_matrix=tuple(tuple(int(cell) for cell in row) for row in matrix[0]),
        auroc=areas,
        nll=values[f"{prefix}.nll"],
        brier=values[f"{prefix}.brier"],
        ece=values[f"{prefix}.ece"],
        reliability=reliability(data),
    )
