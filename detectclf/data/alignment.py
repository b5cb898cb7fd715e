"""How alike two thumbnails are once laid over each other: the step that tells a copy from a neighbouring slice."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from detectclf.data.fingerprints import SIDE
from detectclf.types import FloatArray

ORIENTATIONS: tuple[tuple[str, Callable[[FloatArray], FloatArray]], ...] = (
    ("same", lambda a: a),
    ("mirrored", lambda a: a[..., :, ::-1]),
    ("flipped", lambda a: a[..., ::-1, :]),
    ("rotated", lambda a: a[..., ::-1, ::-1]),
    ("transposed", lambda a: a.swapaxes(-1, -2)),
    ("rotated", lambda a: a.swapaxes(-1, -2)[..., :, ::-1]),
    ("rotated", lambda a: a.swapaxes(-1, -2)[..., ::-1, :]),
    ("transposed", lambda a: a.swapaxes(-1, -2)[..., ::-1, ::-1]),
)
"""The eight ways to lay a square on itself: what each does to a slice, and how."""

# Largest zoom (as a share) and shift (thumbnail pixels): a crop of 3 % at each side, with some room for the head box.
_LIMITS = np.array([0.08, 3.0, 0.08, 3.0], np.float32)
_EDGE = 3
_GRID: FloatArray = (np.arange(SIDE) - (SIDE - 1) / 2).astype(np.float32)


@cache
def _gaussian(sigma: float) -> FloatArray:
    x = np.arange(SIDE)
    weights = np.exp(-0.5 * ((x[:, None] - x) / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def blur(images: FloatArray, sigma: float) -> FloatArray:
    """``images`` ``(N, SIDE, SIDE)`` smoothed by a Gaussian of ``sigma`` pixels."""
    g = _gaussian(sigma)
    return np.asarray(g @ images @ g.T, dtype=np.float32)


def standardise(images: FloatArray) -> FloatArray:
    """``images`` ``(N, ...)``, each with mean 0 and standard deviation 1 (0 where it is constant)."""
    axes = tuple(range(1, images.ndim))
    centred = images - images.mean(axis=axes, keepdims=True)
    return np.asarray(centred / (centred.std(axis=axes, keepdims=True) + 1e-6), dtype=np.float32)


def local_contrast(images: FloatArray, fine: float, coarse: float, floor: float) -> FloatArray:
    """Detail between two scales, divided by its local strength.

    Without the division the bright skull and fat outweigh the brain, and two neighbouring slices with one skull look
    alike; with it every region counts, and changes of contrast, even saturated ones, drop out.
    (Jarrett et al. 2009, "What is the best multi-stage architecture for object recognition?", section 2.2.)

    Args:
        images: ``(N, SIDE, SIDE)``.
        fine, coarse: sigmas of the two Gaussians, pixels.
        floor: strength, as a share of the image's standard deviation, under which detail counts as noise.
    """
    detail = blur(images, fine) - blur(images, coarse)
    spread = images.std(axis=(1, 2), keepdims=True)
    return np.asarray(detail / np.sqrt(blur(detail * detail, coarse) + (floor * spread) ** 2 + 1e-12), np.float32)


def correlation(a: FloatArray, b: FloatArray) -> FloatArray:
    """Pearson correlation of each pair of ``(N, ...)`` images: ``(N,)``; 0 where one is constant."""
    x, y = standardise(a).reshape(len(a), -1), standardise(b).reshape(len(b), -1)
    return np.asarray((x * y).mean(axis=1), dtype=np.float32)


def _sampling(scale: FloatArray, shift: FloatArray) -> FloatArray:
    # Linear interpolation along one axis as a matrix (N, SIDE, SIDE): warping is then two matrix products.
    position = np.clip(_GRID * (1 + scale[:, None]) + shift[:, None] + (SIDE - 1) / 2, 0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(position[:, :, None] - np.arange(SIDE, dtype=np.float32)))


def warp(images: FloatArray, motion: FloatArray) -> FloatArray:
    """``images`` zoomed and shifted by ``motion`` ``(N, 4)``: zoom and shift in y, then in x."""
    rows = _sampling(motion[:, 0], motion[:, 1])
    columns = _sampling(motion[:, 2], motion[:, 3])
    return np.asarray(rows @ images @ columns.swapaxes(1, 2), dtype=np.float32)


def align(fixed: FloatArray, moving: FloatArray) -> FloatArray:
    """The zoom and shift ``(N, 4)`` that lay each ``moving`` image over its ``fixed`` one, for :func:`warp`.

    Gauss-Newton on the difference, coarse then fine, with gain and offset of the grey levels solved for as well
    (Baker and Matthews 2004, "Lucas-Kanade 20 years on"). The axes are free of each other because the thumbnails
    are stretched to squares.
    """
    motion = np.zeros((len(fixed), 4), np.float32)
    for sigma, steps in ((2.0, 3), (1.0, 3)):
        target, source = standardise(blur(fixed, sigma)), blur(moving, sigma)
        for _ in range(steps):
            image = standardise(warp(source, motion))
            slope_y, slope_x = np.gradient(image, axis=(1, 2))
            columns = (slope_y * _GRID[:, None], slope_y, slope_x * _GRID, slope_x, image, np.ones_like(image))
            jacobian = np.stack([c.reshape(len(fixed), -1) for c in columns], axis=1)
            residual = (target - image).reshape(len(fixed), -1, 1)
            normal = jacobian @ jacobian.swapaxes(1, 2) + 1e-2 * np.eye(6, dtype=np.float32)
            step = np.linalg.solve(normal, jacobian @ residual)[:, :4, 0]
            motion = np.clip(motion + step, -_LIMITS, _LIMITS).astype(np.float32)
    return motion


def similarity(fixed: FloatArray, moving: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How alike the detail of each pair is after alignment.

    Args:
        fixed, moving: ``(N, SIDE, SIDE)`` float32 thumbnails in the same orientation.

    Returns:
        Correlation ``(N,)`` of local contrast, and the motion ``(N, 4)`` of :func:`align`.
    """
    motion = align(fixed, moving)
    inner = (slice(None), slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
    a = local_contrast(fixed, 0.7, 2.5, 0.03)
    b = local_contrast(warp(moving, motion), 0.7, 2.5, 0.03)
    return correlation(a[inner], b[inner]), motion
