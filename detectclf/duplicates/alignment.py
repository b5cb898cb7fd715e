"""Similarity of two thumbnails after alignment: the step that tells a copy from a neighbouring slice."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

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
"""The eight symmetries of a square: what each does to a slice, and how."""

# Largest zoom (as a share) and shift (as a share of the side): a crop of 3 % at each side, with room for the head box.
_LIMITS = np.array([0.08, 0.06, 0.08, 0.06], np.float32)
_EDGE = 3
# Pairs less similar than this after coarse alignment are not copies: of 3,790 real and planted pairs of copies the
# least similar had 0.84.
_HOPELESS = 0.75
DOUBTFUL = 0.85
"""Pairs less similar than this after full alignment are not copies as whole slices; their regions are not compared."""


@cache
def _gaussian(side: int, sigma: float) -> FloatArray:
    x = np.arange(side)
    weights = np.exp(-0.5 * ((x[:, None] - x) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


@cache
def _grid(side: int) -> FloatArray:
    return np.asarray(np.arange(side) - (side - 1) / 2, np.float32)


def blur(images: FloatArray, sigma: float) -> FloatArray:
    """``images`` ``(N, S, S)`` smoothed by a Gaussian of ``sigma`` pixels."""
    g = _gaussian(images.shape[-1], sigma)
    return np.asarray(g @ images @ g.T, np.float32)


def halve(images: FloatArray) -> FloatArray:
    """``images`` ``(N, S, S)`` at half the size, each pixel the mean of four."""
    return np.asarray(
        (images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]) / 4, np.float32
    )


def standardise(images: FloatArray) -> FloatArray:
    """``images`` ``(N, ...)``, each with mean 0 and standard deviation 1 (0 where it is constant)."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.einsum("ij,ij->i", flat, flat) / flat.shape[1])[:, None]
    return np.asarray(flat / (spread + 1e-6), np.float32).reshape(images.shape)


def local_contrast(images: FloatArray, fine: float, coarse: float, floor: float) -> FloatArray:
    """Detail between two scales, divided by its local strength.

    Without the division, bright skull and fat outweigh the brain, and two neighbouring slices with the same skull look
    alike. With it every region counts, and changes of contrast, even saturated ones, cancel out.
    (Jarrett et al. 2009, "What is the best multi-stage architecture for object recognition?", section 2.2.)

    Args:
        images: ``(N, S, S)``.
        fine, coarse: sigmas of the two Gaussians, pixels.
        floor: strength, as a share of the image's standard deviation, under which detail counts as noise.
    """
    detail = blur(images, fine) - blur(images, coarse)
    spread = images.std(axis=(1, 2), keepdims=True)
    return np.asarray(detail / np.sqrt(blur(detail * detail, coarse) + (floor * spread) ** 2 + 1e-12), np.float32)


def correlation(a: FloatArray, b: FloatArray) -> FloatArray:
    """Pearson correlation of each pair of ``(N, ...)`` images: ``(N,)``; 0 where one is constant."""
    x, y = standardise(a).reshape(len(a), -1), standardise(b).reshape(len(b), -1)
    return np.asarray(np.einsum("ij,ij->i", x, y) / x.shape[1], np.float32)


def _sampling(side: int, scale: FloatArray, shift: FloatArray) -> FloatArray:
    # Linear interpolation along one axis as a matrix (N, S, S): warping is then two matrix products.
    position = _grid(side) * (1 + scale[:, None]) + side * shift[:, None] + (side - 1) / 2
    position = np.clip(position, 0, side - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(position[:, :, None] - np.arange(side, dtype=np.float32))), np.float32)


def warp(images: FloatArray, motion: FloatArray) -> FloatArray:
    """``images`` zoomed and shifted by ``motion`` ``(N, 4)``: zoom and shift in y, then in x, as shares of the side."""
    rows = _sampling(images.shape[-1], motion[:, 0], motion[:, 1])
    columns = _sampling(images.shape[-1], motion[:, 2], motion[:, 3])
    return np.asarray(rows @ images @ columns.swapaxes(1, 2), np.float32)


def head_view(thumbs: FloatArray, boxes: FloatArray) -> FloatArray:
    """The heads alone, each stretched over the whole square.

    Args:
        thumbs: ``(N, S, S)`` thumbnails of whole slices.
        boxes: ``(N, 4)`` head boxes ``xyxy`` as shares of width and height.
    """
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2 - 0.5, boxes[:, 2:] - boxes[:, :2]
    return warp(thumbs, np.stack([extent[:, 1] - 1, centre[:, 1], extent[:, 0] - 1, centre[:, 0]], axis=1))


def align(fixed: FloatArray, moving: FloatArray, motion: FloatArray, steps: int) -> FloatArray:
    """Improves the ``motion`` ``(N, 4)`` that aligns each ``moving`` image ``(N, S, S)`` with its ``fixed`` one.

    Gauss-Newton on the difference, with gain and offset of the grey levels solved for as well (Baker and Matthews
    2004, "Lucas-Kanade 20 years on"). The axes are free of each other because thumbnails are stretched to squares.
    """
    side, count = fixed.shape[-1], len(fixed)
    target, source = standardise(blur(fixed, 1.0)), blur(moving, 1.0)
    jacobian = np.ones((count, 6, side, side), np.float32)
    for _ in range(steps):
        image = standardise(warp(source, motion))
        jacobian[:, 1, 1:-1] = (image[:, 2:] - image[:, :-2]) * (side / 2)
        jacobian[:, 1, 0] = jacobian[:, 1, -1] = 0
        jacobian[:, 3, :, 1:-1] = (image[:, :, 2:] - image[:, :, :-2]) * (side / 2)
        jacobian[:, 3, :, 0] = jacobian[:, 3, :, -1] = 0
        jacobian[:, 0] = jacobian[:, 1] * (_grid(side)[:, None] / side)
        jacobian[:, 2] = jacobian[:, 3] * (_grid(side) / side)
        jacobian[:, 4] = image
        flat = jacobian.reshape(count, 6, -1)
        normal = flat @ flat.swapaxes(1, 2) + 1e-2 * np.eye(6, dtype=np.float32)
        step = np.linalg.solve(normal, flat @ (target - image).reshape(count, -1, 1))[:, :4, 0]
        motion = np.asarray(np.clip(motion + step, -_LIMITS, _LIMITS), np.float32)
    return motion


def similarity(fixed: FloatArray, moving: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Similarity of the detail of each pair after alignment, at half size first, then at full size where promising.

    Args:
        fixed, moving: ``(N, S, S)`` float32 thumbnails in the same orientation.

    Returns:
        Correlation ``(N,)`` of local contrast (0 where the coarse test rejects the pair), the motion ``(N, 4)``, and
        the correlation of the least similar regions (:func:`_weakest_regions`, 0 where the whole correlates little).
    """
    small_fixed, small_moving = halve(fixed), halve(moving)
    motion = align(small_fixed, small_moving, np.zeros((len(fixed), 4), np.float32), 3)
    coarse = correlation(_detail(small_fixed), _detail(warp(small_moving, motion)))
    alike, weak = np.zeros(len(fixed), np.float32), np.zeros(len(fixed), np.float32)
    worth = np.flatnonzero(coarse >= _HOPELESS)
    if len(worth):
        a, b = fixed[worth], moving[worth]
        motion[worth] = align(a, b, motion[worth], 2)
        a, b = _detail(a), _detail(warp(b, motion[worth]))
        alike[worth] = correlation(a, b)
        doubtful = np.flatnonzero(alike[worth] >= DOUBTFUL)
        if len(doubtful):
            weak[worth[doubtful]] = _weakest_regions(a[doubtful], b[doubtful])
    return alike, motion, weak


def _detail(images: FloatArray) -> FloatArray:
    # Without the outermost pixels: a crop leaves nothing to compare there.
    inner = (slice(None), slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
    return local_contrast(images, 0.7, 2.5, 0.03)[inner]


def _weakest_regions(a: FloatArray, b: FloatArray) -> FloatArray:
    """The 20th percentile ``(N,)`` over pixels of the local correlation round each pixel.

    A sharpened copy differs a little everywhere. A neighbouring slice may agree better on the whole and still differ
    clearly in some regions: a ventricle, a fold, the tumour.
    """
    both = blur(a * b, 4.0) / np.sqrt(blur(a * a, 4.0) * blur(b * b, 4.0) + 1e-9)
    return np.asarray(np.quantile(both, 0.2, axis=(1, 2)), np.float32)
