"""Drawn tumours of three kinds, each where it grows and as it looks on T1 after contrast.

The mask that a tumour's box is taken from is its visible lesion: what takes up contrast and what that encloses.
Oedema round it is drawn and does not count, as in the boxes of the real data set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detectclf.sample_data.tissue import CSF, GREY, Head, Mask, depth_inside, ellipse, grid, smooth_noise
from detectclf.types import FloatArray


def glioma(head: Head, rng: np.random.Generator) -> Mask:
    """Draws an irregular ring of contrast round a dark core, in white matter, with oedema; gives its mask."""
    depth = depth_inside(head.brain)
    radius = float(rng.uniform(14, 27))
    x, y = _place(depth > min(radius + 5, 0.75 * float(depth.max())), rng)
    across = _lobed(x, y, radius, rng, roughness=0.22) - 0.05 * smooth_noise(rng, 7)
    lesion = _piece_at(head.brain & (across < 1) & (depth > 1.5), x, y)

    oedema = np.clip(1.9 + 0.35 * smooth_noise(rng, 24) - across, 0, 0.5) / 0.5
    oedema *= np.clip((head.levels - GREY) / 0.05, 0, 1)  # it spreads in white matter and spares the cortex
    head.levels -= np.where(head.brain, 0.15 * oedema, 0).astype(np.float32)

    core = float(rng.uniform(0.35, 0.8)) + 0.12 * smooth_noise(rng, 10)
    bright = float(rng.uniform(0.82, 1.0)) * (1 + 0.1 * smooth_noise(rng, 8))
    dark = 0.2 + 0.05 * smooth_noise(rng, 9)
    ring = np.clip((across - core) * radius / 2.0 + 0.5, 0, 1)
    head.levels[lesion] = (dark * (1 - ring) + bright * ring)[lesion]
    return lesion


def meningioma(head: Head, rng: np.random.Generator) -> Mask:
    """Draws a round, even, bright mass on the rim of the brain with a dural tail; gives its mask."""
    depth = depth_inside(head.brain)
    radius = float(rng.uniform(14, 27))
    sunk = float(rng.uniform(0.35, 0.75)) * radius
    allowed = np.abs(depth - sunk) < 1
    if head.sella is not None:  # a mass at the sella would pass for a pituitary tumour
        px, py = grid()
        allowed &= np.hypot(px - head.sella[0], py - head.sella[1]) > radius + 22
    x, y = _place(allowed, rng)
    across = _lobed(x, y, radius, rng, roughness=0.09)
    near = head.brain | (depth_inside(~head.brain) < 2.0)
    lesion = _piece_at(near & (across < 1), x, y)

    cleft = near & (across >= 1) & (across < 1 + 1.8 / radius)
    head.levels[cleft] = CSF + 0.05
    tail = (depth_inside(~head.brain) <= 1.6) & ~head.brain & (across < 1.55)
    bright = float(rng.uniform(0.82, 1.0))
    head.levels[tail & (rng.random() < 0.7)] = bright - 0.2
    head.levels[lesion] = (bright * (1 + 0.03 * smooth_noise(rng, 10)))[lesion]
    return lesion


def pituitary(head: Head, rng: np.random.Generator) -> Mask:
    """Draws a small bright mass in the sella, growing upwards where it is larger; gives its mask.

    Raises:
        ValueError: the slice does not meet the sella.
    """
    if head.sella is None:
        raise ValueError("this slice does not meet the sella")
    x, y = head.sella
    radius = float(rng.uniform(9, 14))
    lesion = _lobed(x, y - 0.25 * radius, radius, rng, roughness=0.08) < 1
    if head.upright and radius > 9:  # past the diaphragm of the sella: the snowman of the textbooks
        above = ellipse(x, y - 1.25 * radius, 0.8 * radius, 0.75 * radius, float(rng.uniform(-15, 15)))
        lesion = lesion | above
    lesion = _piece_at(lesion, x, y - 0.25 * radius)
    rim = depth_inside(~lesion) * ~lesion
    head.levels[(rim > 0) & (rim <= 1.5)] = CSF + 0.05
    bright = float(rng.uniform(0.82, 1.0))
    head.levels[lesion] = (bright * (1 + 0.06 * smooth_noise(rng, 8)))[lesion]
    return lesion


TUMORS: dict[str, Callable[[Head, np.random.Generator], Mask]] = {
    "glioma": glioma,
    "meningioma": meningioma,
    "pituitary": pituitary,
}
"""Class -> the function that draws one into a head, in place."""


def _place(allowed: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """The middle of a random pixel of ``allowed``."""
    rows, columns = np.nonzero(allowed)
    chosen = int(rng.integers(len(rows)))
    return float(columns[chosen]) + 0.5, float(rows[chosen]) + 0.5


def _lobed(x: float, y: float, radius: float, rng: np.random.Generator, roughness: float) -> FloatArray:
    """Distance from ``(x, y)`` in units of a radius that wobbles with the direction; under 1 is inside."""
    px, py = grid()
    angle = np.arctan2(py - y, px - x)
    stretch, turn = float(rng.uniform(0.8, 1.0)), float(rng.uniform(0, np.pi))
    edge = np.sqrt(stretch) / np.sqrt((stretch * np.cos(angle - turn)) ** 2 + np.sin(angle - turn) ** 2)
    for waves in (2, 3, 5, 7):
        edge += roughness / np.sqrt(waves) * rng.uniform(-1, 1) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.hypot(px - x, py - y) / (radius * edge), dtype=np.float32)


def _piece_at(mask: Mask, x: float, y: float) -> Mask:
    """The connected piece of ``mask`` nearest to ``(x, y)``: a box must not reach out to a stray speck."""
    from scipy.ndimage import label

    pieces, count = label(mask)
    if count <= 1:
        return mask
    px, py = grid()
    nearest = np.argmin(np.where(mask, np.hypot(px - x, py - y), np.inf))
    piece: Mask = pieces == pieces.flat[nearest]
    return piece
