"""Is the head upright? A linear discriminant between upright slices and the same slices turned.

Slices are axial, coronal and sagittal, and all are shown with the forehead or the crown at the top. Turned ones are
answered wrongly more often, so they get a flag. Near the crown a head looks the same from all sides; such slices get
none.
"""

from __future__ import annotations

import numpy as np

from detectclf.imaging.upright import TURNS
from detectclf.models.bundle_arrays import Orientation
from detectclf.types import Doubles, FloatArray

SHRINKAGE = 0.1
"""Weight of the diagonal in the covariance."""
UPRIGHT_SHARE = 0.98
"""Share of upright slices without a flag."""
FOLDS = 5
FEWEST_SLICES = 40


def is_turned(orientation: Orientation | None, features: FloatArray) -> bool:
    """Whether a slice with ``features`` ``(D,)`` is turned; not where it is not known."""
    return orientation is not None and float(_margin(orientation.weights, features)) > orientation.threshold


def fit_orientation(features: FloatArray) -> Orientation | None:
    """Fits the discriminant and its threshold.

    Slices of the fit that look turned themselves are left out in a second round: data sets have some.

    Args:
        features: ``(N, TURNS, D)`` of upright slices and their turned copies; slices of one patient one after the
            other.

    Returns:
        ``None`` where there are fewer slices than ``FEWEST_SLICES``.
    """
    if len(features) < FEWEST_SLICES:
        return None
    kept = features[_margin(_discriminant(features), features[:, 0]) <= 0]
    if len(kept) < FEWEST_SLICES:
        return None
    fold = np.arange(len(kept)) * FOLDS // len(kept)  # neighbours are often of one patient
    held_out = np.zeros(len(kept))
    for k in range(FOLDS):
        held_out[fold == k] = _margin(_discriminant(kept[fold != k]), kept[fold == k, 0])
    # Where all are clearly upright, a turn must still be likelier than none.
    return Orientation(_discriminant(kept), max(0.0, float(np.quantile(held_out, UPRIGHT_SHARE))))


def _margin(weights: FloatArray, features: FloatArray) -> Doubles:
    """``(...)``: by how much the likeliest turn is likelier than none, as a difference of log-probabilities."""
    scores = features.astype(np.float64) @ weights[:, :-1].T + weights[:, -1]
    return np.asarray(scores[..., 1:].max(axis=-1) - scores[..., 0])


def _discriminant(features: FloatArray) -> FloatArray:
    """``(TURNS, D + 1)``: linear discriminant functions, the constants last (Fisher; one covariance for all)."""
    means = features.mean(axis=0, dtype=np.float64)
    centred = (features - means).reshape(-1, features.shape[-1])
    covariance = centred.T @ centred / len(centred)
    spread = np.diag(covariance)
    floor = 1e-3 * spread.mean() + 1e-12
    shrunk = (1 - SHRINKAGE) * covariance + np.diag(SHRINKAGE * spread + floor)
    slopes = np.linalg.solve(shrunk, means.T).T
    constants = -0.5 * (slopes * means).sum(axis=1, keepdims=True)
    assert slopes.shape[0] == TURNS
    return np.concatenate([slopes, constants], axis=1).astype(np.float32)


__all__ = ["fit_orientation", "is_turned"]
