"""Classification figures of slices: accuracy, F1, AUROC, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


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
