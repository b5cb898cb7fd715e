"""Is the head upright? What a small network says of its oriented edges; ``orientation_fit`` trains it.

Slices are axial, coronal and sagittal, and all are shown with the forehead or the crown at the top. Turned ones are
answered wrongly more often, so they get a flag. Near the crown a head looks the same from all sides; such slices get
none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectclf.models.bundle_arrays import Orientation
from detectclf.types import Doubles, FloatArray


def is_turned(orientation: Orientation | None, features: FloatArray) -> bool:
    """Whether a slice with ``features`` ``(D,)`` is turned; not where it is not known."""
    return orientation is not None and float(turn_margin(orientation.layers, features)) > orientation.threshold


def turn_margin(layers: Sequence[FloatArray], features: FloatArray) -> Doubles:
    """By how much the likeliest turn is likelier than none, as a difference of log-probabilities.

    Args:
        layers: as of :class:`~detectclf.models.bundle_arrays.Orientation`.
        features: ``(..., D)``.

    Returns:
        ``(...)`` float64.
    """
    *hidden, last = layers
    values = features.astype(np.float64)
    for layer in hidden:
        values = np.maximum(_affine(layer, values), 0.0)
    scores = _affine(last, values)
    return np.asarray(scores[..., 1:].max(axis=-1) - scores[..., 0])


def _affine(layer: FloatArray, values: Doubles) -> Doubles:
    return np.asarray(values @ layer[:, :-1].T + layer[:, -1])


__all__ = ["is_turned", "turn_margin"]
