"""Lesions painted into slices: shapes of real masks with random interior, rim and oedema.

A lesion painted into a healthy slice shows the network a tumour in a sequence of which the data have healthy slices
only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from detectclf.boxes import extent
from detectclf.types import FloatArray, Mask, Pixels

SMALLEST, LARGEST = 0.05, 0.4
"""Longer side of a painted lesion as a share of the slice's; masks of real tumours reach from 0.03 to 0.45."""

_TRIES = 8


class PaintedLesion(NamedTuple):
    """A slice with a lesion.

    Attributes:
        pixels: ``(H, W)`` uint8.
        box_xyxy: ``(4,)`` float32 pixels, the extent of the lesion without its oedema.
    """

    pixels: Pixels
    box_xyxy: FloatArray


def random_shape(rng: np.random.Generator) -> Mask:
    """A smooth random blob, cropped to it, where no masks of real tumours are at hand."""
    side = 96
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    radius = np.hypot(x, y * rng.uniform(0.7, 1.4)) * (
        1 + 0.35 * smooth_noise((side, side), int(rng.integers(3, 6)), rng)
    )
    mask = np.asarray(radius < 0.6)
    x0, y0, x1, y1 = extent(mask)
    return mask[y0:y1, x0:x1]


def paint_lesion(pixels: Pixels, shape: Mask, brain: Mask, rng: np.random.Generator) -> PaintedLesion | None:
    """Paints one lesion at a random place of the brain.

    Args:
        pixels: ``(H, W)`` uint8, a slice.
        shape: ``(h, w)`` mask of a real tumour, cropped to it.
        brain: ``(H, W)``, where the lesion's middle may lie.
        rng: source of place, size, turn and grey levels.

    Returns:
        The slice with the lesion, or ``None`` where no place was found.
    """
    mask = _place(shape, brain, rng)
    if mask is None:
        return None
    soft = _blurred(mask, rng.uniform(0.6, 2.5))
    painted = pixels.astype(np.float32)
    level, texture = _interior(painted, mask > 0.5, brain, rng)
    if rng.random() < 0.4:
        painted = _with_oedema(painted, mask, brain, level, rng)
    opacity = np.float32(rng.uniform(0.8, 1.0))
    painted = np.asarray(painted + soft * (level + texture - painted) * opacity, dtype=np.float32)
    if rng.random() < 0.4:
        painted = _with_rim(painted, mask, rng)
    box = np.array(extent(mask > 0.5), dtype=np.float32)
    return PaintedLesion(np.clip(np.rint(painted), 0, 255).astype(np.uint8), box)


def _place(shape: Mask, brain: Mask, rng: np.random.Generator) -> FloatArray | None:
    """A turned and scaled copy of ``shape`` in a random place of the brain, ``(H, W)`` from 0 to 1."""
    import cv2

    side = max(brain.shape)
    points = np.argwhere(brain)
    for _ in range(_TRIES if len(points) else 0):
        y, x = points[rng.integers(len(points))]
        longer = side * float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        scale = longer / max(shape.shape)
        turn = cv2.getRotationMatrix2D((shape.shape[1] / 2, shape.shape[0] / 2), float(rng.uniform(0, 360)), scale)
        turn[:, 2] += (x - shape.shape[1] / 2, y - shape.shape[0] / 2)
        size = (brain.shape[1], brain.shape[0])
        mask: FloatArray = np.asarray(cv2.warpAffine(shape.astype(np.float32), turn, size), dtype=np.float32)
        inside = mask > 0.5
        area = int(inside.sum())
        if area >= 12 and (inside & brain).sum() >= 0.8 * area:
            mask = np.asarray(mask * brain_edge(brain), dtype=np.float32)
            if (mask > 0.5).any():
                return mask
    return None


def brain_edge(brain: Mask) -> FloatArray:
    """``(H, W)`` float32: 1 on the brain and its near surroundings, 0 beyond, so that lesions stay inside the skull."""
    import cv2

    width = max(3, max(brain.shape) // 40)
    return cv2.dilate(brain.astype(np.uint8), np.ones((width, width), np.uint8)).astype(np.float32)


def _interior(pixels: FloatArray, inside: Mask, brain: Mask, rng: np.random.Generator) -> tuple[float, FloatArray]:
    """Mean level and texture of the lesion: clearly or faintly brighter or darker than the brain around it."""
    around = float(np.median(pixels[brain])) if brain.any() else 90.0
    spread = float(pixels[brain].std()) if brain.any() else 25.0
    difference = float(np.exp(rng.uniform(np.log(1.0), np.log(4.0)))) * max(spread, 14.0)
    sign = 1.0 if rng.random() < 0.75 else -1.0
    level = float(np.clip(around + sign * difference, 8, 250))
    noise = smooth_noise(pixels.shape, int(rng.integers(6, 28)), rng) * rng.uniform(2, 22)
    if rng.random() < 0.3:  # a core, necrotic or cystic
        core = _core(inside, rng)
        noise = noise + core * float(rng.uniform(-90, 90))
    keep = float(rng.uniform(0.0, 0.35))  # some of the anatomy shines through
    return level, np.asarray(noise + keep * (pixels - around), dtype=np.float32)


def _core(inside: Mask, rng: np.random.Generator) -> FloatArray:
    import cv2

    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    deepest = float(distance.max())
    return np.asarray(
        np.clip((distance - deepest * rng.uniform(0.25, 0.6)) / max(1.0, 0.2 * deepest), 0, 1), np.float32
    )


def _with_rim(pixels: FloatArray, mask: FloatArray, rng: np.random.Generator) -> FloatArray:
    import cv2

    inside = (mask > 0.5).astype(np.uint8)
    width = max(2, int(max(mask.shape) * rng.uniform(0.006, 0.018)))
    rim = inside - cv2.erode(inside, np.ones((width, width), np.uint8))
    soft = cv2.GaussianBlur(rim.astype(np.float32), (0, 0), 1.0)
    return np.asarray(pixels + soft * rng.uniform(20, 110) * (1 if rng.random() < 0.85 else -1), dtype=np.float32)


def _with_oedema(
    pixels: FloatArray, mask: FloatArray, brain: Mask, level: float, rng: np.random.Generator
) -> FloatArray:
    """A halo of uneven width round the lesion, weaker than it."""
    import cv2

    inside = (mask > 0.5).astype(np.uint8)
    reach = max(mask.shape) * rng.uniform(0.02, 0.1)
    distance = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    uneven = 1 + 0.6 * smooth_noise(mask.shape, 6, rng)
    halo = np.clip(1.2 - distance / np.maximum(reach * uneven, 1.0), 0, 1) * brain
    around = float(np.median(pixels[brain])) if brain.any() else 90.0
    strength = float(rng.uniform(0.15, 0.55)) * (level - around)
    return np.asarray(pixels + cv2.GaussianBlur(halo.astype(np.float32), (0, 0), 2.0) * strength, dtype=np.float32)


def smooth_noise(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> FloatArray:
    """``shape`` float32 of mean about 0 and deviation about 0.7: random numbers on a grid, interpolated."""
    import cv2

    grid = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _blurred(mask: FloatArray, sigma: float) -> FloatArray:
    import cv2

    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), dtype=np.float32)
