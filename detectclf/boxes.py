"""Boxes in NumPy: their overlap, and the one round a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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


def in_original_pixels(
    boxes: FloatArray, labels: npt.NDArray[np.int64], scores: FloatArray, scale: float, width: int, height: int
) -> tuple[FloatArray, list[int], FloatArray]:
    """Detections in pixels of the original slice, best score first.

    Args:
        boxes: ``(N, 4)`` xyxy in pixels of the detector's input.
        labels, scores: ``(N,)``.
        scale: pixels of the input per pixel of the original slice.
        width, height: size of the original slice, pixels.

    Returns:
        ``(M, 4)`` boxes clipped to the slice, their labels and scores, without boxes in the padding.
    """
    limits = np.array([width, height, width, height], dtype=np.float32)
    clipped = np.clip(boxes / scale, 0, limits).astype(np.float32)
    kept = np.flatnonzero((clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1]))
    order = kept[np.argsort(-scores[kept], kind="stable")]
    return clipped[order], labels[order].tolist(), scores[order]


__all__ = ["cover", "extent", "in_original_pixels", "iou", "pairwise_iou"]
