"""How much boxes overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.types import FloatArray

Doubles = npt.NDArray[np.float64]


def iou(box: FloatArray, boxes: FloatArray) -> Doubles:
    """Intersection over union of one ``(4,)`` box with ``(N, 4)`` boxes."""
    shared, area, areas = _overlaps(box, boxes)
    return np.asarray(shared / np.maximum(area + areas - shared, 1e-12))


def cover(box: FloatArray, boxes: FloatArray) -> Doubles:
    """Intersection over the smaller area, of one ``(4,)`` box with ``(N, 4)`` boxes: 1 where one lies in the other."""
    shared, area, areas = _overlaps(box, boxes)
    return np.asarray(shared / np.maximum(np.minimum(area, areas), 1e-12))


def _overlaps(box: FloatArray, boxes: FloatArray) -> tuple[Doubles, float, Doubles]:
    """Shared areas ``(N,)``, the area of ``box``, those of ``boxes`` ``(N,)``."""
    one, many = box.astype(np.float64), boxes.astype(np.float64)
    sides = np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    return shared, float(np.prod(one[2:] - one[:2])), np.prod(many[:, 2:] - many[:, :2], axis=1)


__all__ = ["cover", "iou"]
