"""Two artefacts of MRI scanners, as augmentations: the bias field and ghosts along one axis."""

from __future__ import annotations

import numpy as np

from detectclf.types import Pixels

# Surface coils brighten the near side by up to about 40 %: Sled, Zijdenbos & Evans, "A nonparametric method for
# automatic correction of intensity nonuniformity in MRI data" (1998), section I.
BIAS_LARGEST = 0.35
GHOST_LARGEST = 0.15


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
    """Lays faint copies of a slice over it at even distances along one axis, wrapping round the picture.

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
