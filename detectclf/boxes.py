"""Boxes in NumPy: their overlap, and the one round a mask."""

from __future__ import annotations

import numpy as np

from detectclf.types import Doubles, FloatArray, Mask

_TINY = 1e-12
"""Least area that is divided by, so that two empty boxes have an overlap of 0 and not of NaN."""


def pairwise_iou(first: FloatArray, second: FloatArray) -> Doubles:
    """Intersection over union ``(N, M)`` of each of the ``(N, 4)`` boxes with each of the ``(M, 4)`` boxes."""
    shared, areas, others = _pairwise_overlaps(first, second)
    return np.asarray(shared / np.maximum(areas + others - shared, _TINY))


def iou(box: FloatArray, boxes: FloatArray) -> Doubles:
    """Intersection over union ``(N,)`` of one ``(4,)`` box with each of the ``(N, 4)`` boxes."""
    return np.asarray(pairwise_iou(box[None], boxes)[0])


def cover(box: FloatArray, boxes: FloatArray) -> Doubles:
    """Intersection over the smaller area ``(N,)`` of one ``(4,)`` box with each of the ``(N, 4)`` boxes.

    It is 1 where one box lies inside the other.
    """
    shared, area, areas = _pairwise_overlaps(box[None], boxes)
    return np.asarray((shared / np.maximum(np.minimum(area, areas), _TINY))[0])


def _pairwise_overlaps(first: FloatArray, second: FloatArray) -> tuple[Doubles, Doubles, Doubles]:
    """Shared areas ``(N, M)``, and the areas of both sets of boxes as ``(N, 1)`` and ``(1, M)``."""
    rows, columns = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(rows[..., 2:], columns[..., 2:]) - np.maximum(rows[..., :2], columns[..., :2])
    shared = np.prod(np.clip(sides, 0, None), axis=2)
    return shared, *(np.prod(boxes[..., 2:] - boxes[..., :2], axis=2) for boxes in (rows, columns))


def extent(mask: Mask) -> tuple[int, int, int, int]:
    """``xyxy`` of the smallest box round the true pixels of ``(H, W)`` ``mask``; zeros where there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


__all__ = ["cover", "extent", "iou", "pairwise_iou"]
