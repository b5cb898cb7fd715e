"""Takes the skull off axial slices, for a development set of skull-stripped slices.

The skull is the dark ring between the bright scalp and the brain. In polar coordinates about the head's middle, with
the radius as a share of the head's own, dynamic programming finds the darkest closed path through that ring, and what
lies inside is kept. Slices without such a ring all round (skull base, orbits, coronal and sagittal slices) are refused.
Training slices are stripped in another way (``detectclf/datasets/brain_mask.py``), on purpose: no model shall be chosen
for knowing our own masks.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from detectclf.datasets.brain_mask import head_mask
from detectclf.datasets.symmetry import LEAST_SYMMETRY, find_axis
from detectclf.types import FloatArray, Mask, Pixels

ANGLES = 180
SHARES = np.linspace(0.62, 0.97, 56)
"""Where the skull may lie, as a share of the head's radius."""

STEEPEST = 1
"""Steps of ``SHARES`` by which the path may move from one angle to the next."""

INWARD = 0.35
"""Weight of the radius in the cost: of the two dark tables of the bone the inner one is meant."""

DARK, DARK_SHARE = 0.8, 0.85
"""The path must be darker than ``DARK`` of the brain's median on ``DARK_SHARE`` of the angles."""

OUTERMOST = 0.94
"""A path whose median radius is larger runs along the outside of the head."""

MARGIN = 4
"""Pixels that are left round the brain."""

TUMOR_INSIDE = 0.97
"""Share of the ellipse in each tumour's box that must be kept."""


def strip(pixels: Pixels, tumors_xyxy: FloatArray) -> Pixels | None:
    """The slice ``(H, W)`` without what lies outside the brain, or ``None`` where that cannot be done well.

    Args:
        pixels: ``(H, W)`` uint8.
        tumors_xyxy: ``(N, 4)`` boxes, pixels.
    """
    head = head_mask(pixels)
    if not _is_axial(pixels, head):
        return None
    brain = _inside_skull(pixels, head)
    if brain is None or not _holds(brain, tumors_xyxy):
        return None
    return np.where(brain, pixels, 0).astype(np.uint8)


def cropped(pixels: Pixels, boxes_xyxy: FloatArray) -> tuple[Pixels, FloatArray]:
    """A stripped slice cut to the brain and stretched to the full range, as published stripped sets are, and its boxes.

    Both take from a model what it may have learned of frame and level: of 45 tumour slices the packaged model 2.3 calls
    40 a tumour when they are stripped, and 29 when they are cut and stretched as well.
    """
    rows, columns = np.nonzero(pixels)
    top, left = max(0, int(rows.min()) - MARGIN), max(0, int(columns.min()) - MARGIN)
    part = pixels[top : int(rows.max()) + 1 + MARGIN, left : int(columns.max()) + 1 + MARGIN]
    low, high = np.percentile(part[part > 0], [1, 99.5])
    stretched = np.clip((part.astype(np.float32) - low) / max(high - low, 1) * 255, 0, 255)
    moved = boxes_xyxy - np.array([left, top] * 2, dtype=np.float32)
    limits = np.array([part.shape[1], part.shape[0]] * 2, dtype=np.float32)
    return np.where(part > 0, stretched, 0).astype(np.uint8), np.clip(moved, 0, limits).astype(np.float32)


def _is_axial(pixels: Pixels, head: Mask) -> bool:
    """Whether the head is a whole, upright ellipse that is longer than wide and symmetric: no neck, no face."""
    contours, _ = cv2.findContours(head.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return False
    outline = max(contours, key=cv2.contourArea)
    _, top, width, height = cv2.boundingRect(outline)
    fitted = np.zeros(head.shape, dtype=np.uint8)
    if len(outline) < 20 or top + height > 0.98 * len(head):
        return False
    cv2.ellipse(fitted, cv2.fitEllipse(outline), 1, -1)
    overlap = float((head & (fitted > 0)).sum()) / float((head | (fitted > 0)).sum())
    if overlap < 0.955 or not 1.08 < height / width < 1.6:
        return False
    axis = find_axis(pixels)
    return axis is not None and axis.symmetry >= LEAST_SYMMETRY


def _inside_skull(pixels: Pixels, head: Mask) -> Mask | None:
    """``(H, W)``: inside of the dark ring; ``None`` where it is not dark all round."""
    rows, columns = np.nonzero(head)
    middle = np.array([columns.mean(), rows.mean()])
    angles = np.arange(ANGLES) * 2 * np.pi / ANGLES
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    radii = np.array([_radius(head, middle, direction) for direction in directions])
    smooth = cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 400).astype(np.float32)
    places = middle + radii[:, None, None] * SHARES[:, None] * directions[:, None]
    levels = cv2.remap(smooth, places[..., 0].astype(np.float32), places[..., 1].astype(np.float32), cv2.INTER_LINEAR)
    core = cv2.erode(head.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=int(0.25 * radii.min())) > 0
    brain = float(np.median(smooth[core]))
    ring = levels / max(brain, 1.0)
    path = _closed_path(np.asarray(ring + INWARD * SHARES, dtype=np.float32))
    dark = ring[np.arange(ANGLES), path]
    if (dark < DARK).mean() < DARK_SHARE or np.median(SHARES[path]) > OUTERMOST:
        return None
    border = places[np.arange(ANGLES), path]
    mask = np.zeros(pixels.shape, dtype=np.uint8)
    cv2.fillPoly(mask, [np.rint(border).astype(np.int32)], 1)
    return np.asarray(mask > 0)


def _radius(head: Mask, middle: FloatArray, direction: FloatArray) -> float:
    """Distance from the middle to the head's border."""
    steps = np.arange(0, max(head.shape), 0.5)
    x, y = np.rint(middle + steps[:, None] * direction).astype(int).T
    within = (x >= 0) & (y >= 0) & (x < head.shape[1]) & (y < head.shape[0])
    seen = head[y[within], x[within]]
    return float(steps[np.flatnonzero(seen)[-1]]) if seen.any() else 0.0


def _closed_path(cost: FloatArray) -> npt.NDArray[np.int64]:
    """Column ``(A,)`` of the cheapest path through ``(A, K)``; the middle of three laps, so that its ends meet."""
    laps = np.concatenate([cost, cost, cost])
    total = laps[0].copy()
    came = np.zeros(laps.shape, dtype=np.int64)
    width = cost.shape[1]
    for i in range(1, len(laps)):
        moved = np.stack([_shifted(total, step) for step in range(-STEEPEST, STEEPEST + 1)])
        best = moved.argmin(axis=0)
        came[i] = np.clip(np.arange(width) + best - STEEPEST, 0, width - 1)
        total = moved.min(axis=0) + laps[i]
    path = np.zeros(len(laps), dtype=np.int64)
    path[-1] = total.argmin()
    for i in range(len(laps) - 1, 0, -1):
        path[i - 1] = came[i, path[i]]
    return path[len(cost) : 2 * len(cost)]


def _shifted(values: FloatArray, step: int) -> FloatArray:
    """``values[k + step]`` at ``k``; infinite outside."""
    padded = np.pad(values, abs(step), constant_values=np.inf)
    return padded[abs(step) + step : abs(step) + step + len(values)]


def _holds(brain: Mask, tumors_xyxy: FloatArray) -> bool:
    for x0, y0, x1, y1 in tumors_xyxy.tolist():
        ellipse = np.zeros(brain.shape, dtype=np.uint8)
        middle = (round((x0 + x1) / 2), round((y0 + y1) / 2))
        cv2.ellipse(ellipse, middle, (max(1, round((x1 - x0) / 2)), max(1, round((y1 - y0) / 2))), 0, 0, 360, 1, -1)
        if brain[ellipse > 0].mean() < TUMOR_INSIDE:
            return False
    return True
