"""Drawn tumours of three kinds, each where it grows and as it looks on T1 after contrast.

A tumour's box is drawn round its mask: the part that takes up contrast and what that encloses. As in the boxes of the
real data set, the oedema round it does not count.
"""

from __future__ import annotations

import numpy as np

from detectclf.sample_data.heads import Head
from detectclf.sample_data.tissue import GRID_X, GRID_Y, LEVELS, depth_inside, smooth_noise
from detectclf.types import FloatArray, Mask

_CLEFT = 0.16
"""Grey level of the thin layer of fluid between brain and tumour."""


def glioma(head: Head, rng: np.random.Generator) -> Mask:
    """Paints a ragged bright ring round a dark core into white matter, with oedema; returns its mask."""
    depth = depth_inside(head.brain)
    radius = rng.uniform(14, 27)
    x, y = _site(depth > min(radius + 5, 0.75 * depth.max()), rng)
    across = _lobed(x, y, radius, rng, roughness=0.22) - 0.05 * smooth_noise(rng, 7)
    lesion = _connected(head.brain & (across < 1) & (depth > 1.5), x, y)
    # Oedema spreads in white matter and spares the cortex.
    oedema = np.clip(3.8 + 0.7 * smooth_noise(rng, 24) - 2 * across, 0, 1)
    head.levels -= 0.15 * head.brain * oedema * np.clip((head.levels - LEVELS["grey"]) / 0.05, 0, 1)
    ring = np.clip((across - rng.uniform(0.35, 0.8) - 0.12 * smooth_noise(rng, 10)) * radius / 2 + 0.5, 0, 1)
    dark, bright = 0.2 + 0.05 * smooth_noise(rng, 9), rng.uniform(0.82, 1) * (1 + 0.1 * smooth_noise(rng, 8))
    head.levels[lesion] = (dark + (bright - dark) * ring)[lesion]
    return lesion


def meningioma(head: Head, rng: np.random.Generator) -> Mask:
    """Paints a round, even, bright mass on the surface of the brain, with a dural tail; returns its mask."""
    outside = depth_inside(~head.brain)
    radius = rng.uniform(14, 27)
    allowed = np.abs(depth_inside(head.brain) - rng.uniform(0.35, 0.75) * radius) < 1
    if head.sella is not None:  # a mass at the sella would look like a pituitary tumour
        allowed &= _distance(*head.sella) > radius + 22
    x, y = _site(allowed, rng)
    across = _lobed(x, y, radius, rng, roughness=0.09)
    lesion = _connected((outside < 2) & (across < 1), x, y)
    bright = rng.uniform(0.82, 1)
    head.levels[(outside < 2) & (across >= 1) & (across < 1 + 1.8 / radius)] = _CLEFT
    if rng.random() < 0.7:
        head.levels[(outside > 0) & (outside <= 1.6) & (across >= 1) & (across < 1.25)] = bright - 0.2
    head.levels[lesion] = (bright * (1 + 0.03 * smooth_noise(rng, 10)))[lesion]
    return lesion


def pituitary(head: Head, rng: np.random.Generator) -> Mask:
    """Paints a small bright mass of two lobes, in the sella and above it; returns its mask.

    Raises:
        ValueError: the slice does not show the sella.
    """
    if head.sella is None:
        raise ValueError("this slice does not show the sella")
    x, y = head.sella
    radius = rng.uniform(9, 14)
    lesion = _lobed(x, y - 0.25 * radius, radius, rng, roughness=0.08) < 1
    lesion |= _lobed(x, y - 1.2 * radius, 0.78 * radius, rng, roughness=0.05) < 1
    around = depth_inside(~lesion)
    head.levels[(around > 0) & (around <= 1.5)] = _CLEFT
    head.levels[lesion] = (rng.uniform(0.82, 1) * (1 + 0.06 * smooth_noise(rng, 8)))[lesion]
    return lesion


TUMORS = {"glioma": glioma, "meningioma": meningioma, "pituitary": pituitary}
"""Class -> the function that paints such a tumour into a head."""


def _distance(x: float, y: float) -> FloatArray:
    return np.asarray(np.hypot(GRID_X - x, GRID_Y - y), dtype=np.float32)


def _site(allowed: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """``(x, y)`` of a random pixel of ``allowed``."""
    y, x = rng.choice(np.argwhere(allowed)) + 0.5
    return float(x), float(y)


def _lobed(x: float, y: float, radius: float, rng: np.random.Generator, roughness: float) -> FloatArray:
    """Distance from ``(x, y)`` in units of a radius that varies with the direction; under 1 is inside."""
    angle = np.arctan2(GRID_Y - y, GRID_X - x)
    edge = 1 + 0.1 * np.cos(2 * angle - rng.uniform(0, 2 * np.pi))
    for waves in (2, 3, 5, 7):
        edge += roughness / np.sqrt(waves) * rng.uniform(-1, 1) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(_distance(x, y) / (radius * edge), dtype=np.float32)


def _connected(mask: Mask, x: float, y: float) -> Mask:
    """The connected part of ``mask`` nearest to ``(x, y)``, so that no stray pixel widens the box."""
    from scipy.ndimage import label

    parts, _ = label(mask)
    return np.asarray(parts == parts.flat[np.argmin(np.where(mask, _distance(x, y), np.inf))])
