"""Where the brain is on a slice, found without a network: enough for augmentation, not for measuring."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.types import FloatArray, Mask, Pixels

Grey = npt.NDArray[np.integer[Any] | np.floating[Any]]  # as OpenCV's stubs give it

SIDE = 128
"""The masks are found on a slice shrunk to this many pixels."""


def head_mask(pixels: Pixels) -> Mask:
    """``(H, W)``: the head without the air round it, holes filled. Empty where nothing is brighter than air."""
    return _enlarged(_head(_shrunk(pixels)), pixels)


def inner_mask(pixels: Pixels, share: float = 0.16) -> Mask:
    """``(H, W)``: the head without its outer ``share`` of the radius, roughly where brain can be."""
    depth = _depth(_head(_shrunk(pixels)))
    return _enlarged((depth > share * 2 * float(depth.max())).astype(np.uint8), pixels)


def brain_mask(pixels: Pixels, tumors_xyxy: FloatArray) -> Mask | None:
    """``(H, W)``: the brain, found by cutting the bridges between brain and scalp (erosion, largest part, dilation).

    Args:
        pixels: ``(H, W)`` uint8.
        tumors_xyxy: ``(N, 4)`` boxes that the mask must hold.

    Returns:
        The mask, or ``None`` where the result is no plausible brain: too small or large for the head, ragged, or
        without the tumours.
    """
    import cv2

    small = _shrunk(pixels)
    head = _head(small)
    if head.sum() < 0.08 * head.size:
        return None
    inside = small[head > 0]
    threshold = 0.45 * float(np.median(inside[inside >= np.percentile(inside, 30)]))
    tissue = ((small > threshold) & (head > 0)).astype(np.uint8)
    # Close to the border lie scalp and skull.
    tissue[_depth(head) < 4] = 0
    best: Grey | None = None
    for radius in (2, 3, 4, 5):
        core = _largest(cv2.erode(tissue, _disc(2 * radius + 1)))
        grown = cv2.bitwise_and(cv2.dilate(core, _disc(2 * radius + 3)), cv2.dilate(tissue, _disc(3)))
        brain = _filled(cv2.morphologyEx(_largest(grown), cv2.MORPH_CLOSE, _disc(9)))
        if _plausible(brain, head):
            best = brain
            break
    if best is None:
        return None
    mask = _enlarged(best, pixels)
    return mask if _holds(mask, tumors_xyxy) else None


def _head(small: Grey) -> Grey:
    """1 on the head, holes filled; the mask is as small as ``small``."""
    import cv2

    return _filled(_largest(cv2.morphologyEx(_bright(small), cv2.MORPH_CLOSE, _disc(5))))


def _depth(head: Grey) -> Grey:
    """Distance of each pixel of the head to its border, pixels; beyond the slice there is none of it."""
    import cv2

    return cv2.distanceTransform(np.pad(head, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]


def _plausible(brain: Grey, head: Grey) -> bool:
    """Whether ``brain`` is a compact part, well inside, of the head."""
    import cv2

    share = float(brain.sum()) / float(head.sum())
    if not 0.35 <= share <= 0.82:
        return False
    contours, _ = cv2.findContours(brain, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    hull = float(cv2.contourArea(cv2.convexHull(outline)))
    return float(cv2.contourArea(outline)) >= 0.93 * hull


def _holds(mask: Mask, boxes_xyxy: FloatArray) -> bool:
    for x0, y0, x1, y1 in boxes_xyxy.round().astype(int).tolist():
        part = mask[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)]
        if part.size == 0 or part.mean() < 0.9:
            return False
    return True


def _shrunk(pixels: Pixels) -> Grey:
    import cv2

    scale = SIDE / max(pixels.shape)
    size = (max(8, round(pixels.shape[1] * scale)), max(8, round(pixels.shape[0] * scale)))
    return cv2.GaussianBlur(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), (0, 0), 0.8)


def _bright(small: Grey) -> Grey:
    import cv2

    threshold, _ = cv2.threshold(small, 0, 255, cv2.THRESH_OTSU)
    return (small > max(10.0, 0.45 * threshold)).astype(np.uint8)


def _largest(mask: Grey) -> Grey:
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return np.zeros_like(mask)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), dtype=np.uint8)


def _filled(mask: Grey) -> Grey:
    import cv2

    padded = np.pad(mask, 1)
    outside = padded.copy()
    cv2.floodFill(outside, None, (0, 0), 2)
    return np.asarray(outside != 2, dtype=np.uint8)[1:-1, 1:-1]


def _disc(width: int) -> Grey:
    import cv2

    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)), dtype=np.uint8)


def _enlarged(mask: Grey, pixels: Pixels) -> Mask:
    import cv2

    large = cv2.resize(mask.astype(np.float32), (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large > 0.5)
