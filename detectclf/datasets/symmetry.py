"""Symmetry augmentation: one half of a head and its mirror image make a slice without a tumour, or with two.

Where healthy slices come from other sequences than tumour slices, a network may learn the sequence instead of the
tumour. Heads are nearly symmetric, so the healthy half of a tumour slice and its mirror image give the slice that such
data lack: the tumour's sequence and scanner, without a tumour. The half with the tumour is doubled as well, so that the
network cannot take symmetry for health.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectclf.datasets.shown_slice import ShownSlice
from detectclf.types import FloatArray, Pixels, empty_boxes

LEAST_SYMMETRY = 0.9
"""Correlation of a slice and its mirror image from which it is axial or coronal; sagittal ones reach 0.85."""

MARGIN = 0.025
"""Least distance of a tumour's box from the axis, as a share of the longer side: what is nearer may reach across."""

SEARCH_SIDE = 96
"""The axis is searched on a slice shrunk to this many pixels. At 320 px it is off by up to 1.2 pixels and 0.9 degrees;
boxes are mirrored about the same axis as pixels."""

STEEPEST = 15.0
"""Largest tilt of a head that is searched, degrees."""

_SEARCH = (
    (tuple(np.arange(-STEEPEST, STEEPEST + 1, 3.0).tolist()), tuple(np.arange(-6, 6.1, 1.5).tolist())),
    ((-1.5, 0.0, 1.5), (-0.75, 0.0, 0.75)),
)
"""Angles (degrees) and shifts (pixels) to try: a coarse grid first, then finer round the best."""

_AIR = 16
_FEATHER = 2.0  # pixels to each side of the axis over which the two halves are blended


class Axis(NamedTuple):
    """The line about which a slice is mirrored.

    Attributes:
        angle: radians from upright.
        x, y: a point of it, as indices of pixels: the first pixel's middle is 0, a box that holds it begins at -0.5.
        symmetry: correlation of the slice with its mirror image, at most 1.
    """

    angle: float
    x: float
    y: float
    symmetry: float

    def reflection(self) -> npt.NDArray[np.float64]:
        """``(2, 3)`` affine matrix of the mirror image."""
        along = np.array([np.sin(self.angle), np.cos(self.angle)])
        turn = 2 * np.outer(along, along) - np.eye(2)
        point = np.array([self.x, self.y])
        return np.hstack([turn, (point - turn @ point)[:, None]])

    def distance(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """``(...)`` signed distances of ``(..., 2)`` points, positive on the right."""
        across = np.array([np.cos(self.angle), -np.sin(self.angle)])
        signed: npt.NDArray[np.float64] = (points - np.array([self.x, self.y])) @ across
        return signed


def make_symmetric(
    pixels: Pixels, boxes_xyxy: FloatArray, *, healthy: bool, inside: tuple[int, int] | None = None
) -> ShownSlice | None:
    """The slice made of one half, healthy or with the tumours, and the mirror image of that half.

    Args:
        pixels: ``(H, W)`` uint8.
        boxes_xyxy: ``(N, 4)`` pixels, the boxes of all tumours.
        healthy: whether to double the healthy half; else the one with the tumours.
        inside: width and height of the slice, at the top left, where the rest of the pixels is padding.

    Returns:
        ``None`` where that cannot be done: there is no tumour; tumours lie on both sides, near the axis or, once
        mirrored, partly outside; or the slice is not symmetric enough, such as a sagittal one.
    """
    if len(boxes_xyxy) == 0:
        return None
    width, height = inside or (pixels.shape[1], pixels.shape[0])
    shown = pixels[:height, :width]
    axis = find_axis(shown)
    if axis is None or axis.symmetry < LEAST_SYMMETRY:
        return None
    corners = boxes_xyxy.astype(np.float64)[:, [[0, 1], [2, 1], [0, 3], [2, 3]]] - 0.5
    distances, margin = axis.distance(corners), MARGIN * max(width, height)
    if not (distances.min() > margin or distances.max() < -margin):
        return None
    mirrored, limits = _reflected_boxes(boxes_xyxy, axis), np.array([width, height] * 2, dtype=np.float32)
    # One pixel of tolerance: the size of the slice is rounded, and the axis is an estimate.
    if not healthy and ((mirrored < -1).any() or (mirrored > limits + 1).any()):
        return None
    symmetric, right = pixels.copy(), bool(distances.min() > 0)
    symmetric[:height, :width] = _mirror_one_half(shown, axis, right=right != healthy)
    if healthy:
        return ShownSlice(symmetric, empty_boxes(), np.zeros(0, dtype=np.int64))
    boxes = np.concatenate([boxes_xyxy, np.clip(mirrored, 0, limits)])
    return ShownSlice(symmetric, boxes, np.tile(np.arange(len(boxes_xyxy)), 2))


def find_axis(pixels: Pixels) -> Axis | None:
    """The near-upright line about which ``(H, W)`` pixels are most symmetric; ``None`` for a nearly empty picture."""
    import cv2

    height, width = pixels.shape
    scale = SEARCH_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.GaussianBlur(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32), (0, 0), 1.5)
    rows, columns = np.nonzero(small > _AIR)
    if len(rows) < 0.05 * small.size:
        return None
    middle, centred = float(columns.min() + columns.max()) / 2, small - small.mean()
    y, power = float(rows.mean()), float((centred * centred).sum())

    def symmetry(angle: float, x: float) -> float:
        matrix = Axis(angle, x, y, 0.0).reflection().astype(np.float32)
        mirrored = cv2.warpAffine(small, matrix, size)
        mirrored -= mirrored.mean()
        own = float((mirrored * mirrored).sum())
        return float((centred * mirrored).sum()) / float(np.sqrt(power * own) + 1e-6)

    angle, x = 0.0, middle
    for angles, shifts in _SEARCH:
        tried = [(angle + float(np.radians(a)), x + s) for a in angles for s in shifts]
        angle, x = max(tried, key=lambda each: symmetry(*each))
    # Middles of pixels, as cv2 resizes them.
    across, along = (x + 0.5) * width / size[0] - 0.5, (y + 0.5) * height / size[1] - 0.5
    return Axis(angle, across, along, symmetry(angle, x))


def _mirror_one_half(pixels: Pixels, axis: Axis, *, right: bool) -> Pixels:
    import cv2

    height, width = pixels.shape
    mirrored = cv2.warpAffine(pixels, axis.reflection(), (width, height), flags=cv2.INTER_CUBIC)
    points = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
    distance = axis.distance(points)
    own = np.clip(0.5 + (distance if right else -distance) / (2 * _FEATHER), 0, 1)
    mixed = own * pixels + (1 - own) * mirrored
    return np.rint(mixed).astype(np.uint8)


def _reflected_boxes(boxes_xyxy: FloatArray, axis: Axis) -> FloatArray:
    """Mirrored ``(N, 4)`` boxes; about a tilted axis, the extent of the turned ellipse in each."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    half_sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
    matrix = axis.reflection()
    turned = (centres - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    extents = np.sqrt(half_sides**2 @ (matrix[:, :2] ** 2).T)
    return np.hstack([turned - extents, turned + extents]).astype(np.float32)


__all__ = ["LEAST_SYMMETRY", "Axis", "find_axis", "make_symmetric"]
