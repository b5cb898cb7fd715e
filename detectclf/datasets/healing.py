"""Tumours replaced by the mirror image of the other side of the head, so that a slice shows none.

Where healthy slices come from other sequences than tumour slices, this gives the slice that such data lack: the
tumour's sequence and scanner without a tumour. Unlike symmetry augmentation, it keeps what is not near the tumour.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.boxes import pairwise_iou
from detectclf.datasets.symmetry import LEAST_SYMMETRY, Axis, find_axis, reflected_boxes
from detectclf.types import FloatArray, Pixels

MARGIN = 0.05
"""Width of what is replaced round a tumour, as a share of the longer side of the slice."""

FEATHER = 0.02
"""Deviation of the blend between both, as a share of the longer side."""

_TRIES = 8


def heal(
    pixels: Pixels, tumors_xyxy: FloatArray, lesions: FloatArray, inside: tuple[int, int] | None = None
) -> Pixels | None:
    """A copy of the slice without its tumours.

    Args:
        pixels: ``(H, W)`` uint8.
        tumors_xyxy: ``(N, 4)`` boxes of all tumours, at least one.
        lesions: ``(H, W)`` float32 in [0, 1], mask of the tumours.
        inside: width and height of the slice, where the rest of the pixels is padding.

    Returns:
        ``(H, W)`` uint8; ``None`` where the head has no axis of symmetry, or a tumour reaches over it or lies opposite
        another one.
    """
    axis = _axis(pixels, inside)
    if axis is None or pairwise_iou(reflected_boxes(tumors_xyxy, axis), tumors_xyxy).max(initial=0.0) > 0:
        return None
    return _blended(pixels, axis, lesions)


def patch(
    pixels: Pixels,
    tumors_xyxy: FloatArray,
    brain: npt.NDArray[np.bool_],
    rng: np.random.Generator,
    inside: tuple[int, int] | None = None,
) -> Pixels | None:
    """The same done to a random place without a tumour, so that its traces do not mean that there is none.

    Args:
        pixels, tumors_xyxy, inside: as of :func:`heal`; the slice may show no tumour.
        brain: ``(H, W)`` bool, where the middle of the place may lie.
        rng: source of the place.
    """
    from detectclf.datasets.lesion_masks import ellipses

    axis, points = _axis(pixels, inside), np.argwhere(brain)
    for _ in range(_TRIES if axis is not None and len(points) else 0):
        y, x = points[rng.integers(len(points))]
        half = np.exp(rng.uniform(np.log(0.03), np.log(0.12), 2)) * max(pixels.shape)
        box = np.array([[x - half[0], y - half[1], x + half[0], y + half[1]]], dtype=np.float32)
        assert axis is not None
        taken = np.concatenate([tumors_xyxy, reflected_boxes(tumors_xyxy, axis)])
        wide = box + MARGIN * max(pixels.shape) * np.array([[-1, -1, 1, 1]], dtype=np.float32)
        if pairwise_iou(wide, taken).max(initial=0.0) == 0:
            return _blended(pixels, axis, ellipses(box, pixels.shape))
    return None


def _axis(pixels: Pixels, inside: tuple[int, int] | None) -> Axis | None:
    width, height = inside or (pixels.shape[1], pixels.shape[0])
    axis = find_axis(pixels[:height, :width])
    return axis if axis is not None and axis.symmetry >= LEAST_SYMMETRY else None


def _blended(pixels: Pixels, axis: Axis, region: FloatArray) -> Pixels:
    """``pixels`` with their mirror image where ``region`` is, as bright as what surrounds it."""
    import cv2

    side = max(pixels.shape)
    width = max(3, int(2 * MARGIN * side) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    whole = cv2.dilate((region > 0.5).astype(np.float32), disc)
    soft = cv2.GaussianBlur(whole, (0, 0), max(1.0, FEATHER * side))
    mirrored = cv2.warpAffine(pixels, axis.reflection(), (pixels.shape[1], pixels.shape[0]), flags=cv2.INTER_CUBIC)
    ring = (cv2.dilate(whole, disc) > 0) & (whole == 0)
    gain = 1.0
    if ring.any() and mirrored[ring].mean() > 8:
        gain = float(np.clip(pixels[ring].mean() / mirrored[ring].mean(), 0.7, 1.4))
    mixed = pixels + soft * (np.clip(mirrored * gain, 0, 255) - pixels)
    return np.asarray(np.rint(np.clip(mixed, 0, 255)), dtype=np.uint8)


__all__ = ["heal", "patch"]
