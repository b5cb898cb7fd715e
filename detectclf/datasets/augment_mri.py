"""Differences between MRI scanners and sequences as augmentations: tone curve, bias field, ghosts along one axis."""

from __future__ import annotations

import numpy as np

from detectclf.types import Pixels

# Surface coils brighten the near side by up to about 40 %: Sled, Zijdenbos & Evans, "A nonparametric method for
# automatic correction of intensity nonuniformity in MRI data" (1998), section I.
BIAS_LARGEST = 0.35
GHOST_LARGEST = 0.15

TONE_KNOTS = 5
"""Points of the random tone curve between black and white, both included."""

TONE_DARKEST, TONE_BRIGHTEST = 60, 160
"""The curve's darkest level lies below the first, its brightest above the second: some contrast is left."""

AIR_LEVEL = 24
"""Grey levels under this fade to black in a changed tone: air has no signal in any sequence."""


def add_bias_field(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Multiplies a slice by a smooth random field, as an uneven receive coil does.

    The field is a 4 x 4 grid of random gains, interpolated cubically over the slice.

    Args:
        pixels: ``(H, W)`` uint8.
        rng: source of the field.

    Returns:
        ``(H, W)`` uint8, a new array.
    """
    import cv2

    largest = rng.uniform(0.1, BIAS_LARGEST)
    grid = 1 + rng.uniform(-largest, largest, size=(4, 4)).astype(np.float32)
    height, width = pixels.shape
    field = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    # saturating multiplication, rounded: several times faster than NumPy's clip and cast
    return cv2.multiply(pixels, field, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def add_ghosts(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Adds faint, evenly shifted copies of a slice along one axis, wrapping round at the border.

    Periodic motion (breathing, pulse) during the scan does this along the phase-encoding axis: Wood & Henkelman,
    "MR image artifacts from periodic motion" (1985).

    Args:
        pixels: ``(H, W)`` uint8.
        rng: source of axis, number and strength of the ghosts.

    Returns:
        ``(H, W)`` uint8, a new array.
    """
    import cv2

    axis = int(rng.integers(2))
    parts = int(rng.integers(3, 7))
    strength = float(rng.uniform(0.05, GHOST_LARGEST))
    step = pixels.shape[axis] // parts
    ghosts = cv2.addWeighted(np.roll(pixels, step, axis), 0.5, np.roll(pixels, -step, axis), 0.5, 0.0)
    return cv2.addWeighted(pixels, 1 - strength, ghosts, strength, 0.0).astype(np.uint8, copy=False)


def change_tone(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Maps grey levels through a random smooth curve: rising, falling or bent; air stays black.

    The order of brightness of tissues changes from sequence to sequence (fluid is dark in T1 and bright in T2), so a
    network for all of them must not identify a tissue by its grey level. After Zhou et al., "Models Genesis"
    (2019), section 2.2, non-linear intensity transformation.

    Args:
        pixels: ``(H, W)`` uint8.
        rng: source of the curve.

    Returns:
        ``(H, W)`` uint8, a new array.
    """
    knots = rng.uniform(0, 255, size=TONE_KNOTS)
    if (order := rng.random()) < 0.5:
        knots = np.sort(knots)
    elif order < 0.75:
        knots = np.sort(knots)[::-1]
    darkest, brightest = rng.uniform(0, TONE_DARKEST), rng.uniform(TONE_BRIGHTEST, 255)
    knots = darkest + (knots - knots.min()) * (brightest - darkest) / max(float(np.ptp(knots)), 1.0)
    levels = np.arange(256)
    curve = np.interp(levels, np.linspace(0, 255, TONE_KNOTS), knots)
    # A curve of straight pieces has corners that no scanner makes.
    kernel = np.hanning(49)[1:-1]
    smooth = np.convolve(np.pad(curve, 23, mode="edge"), kernel / kernel.sum(), mode="valid")
    fade = np.clip(levels / AIR_LEVEL, 0, 1)
    table = np.clip(np.rint(smooth * fade), 0, 255).astype(np.uint8)
    return np.asarray(table[pixels])
