"""Descriptors of slices that rotation, mirroring and shift leave as they are, and crop, shear and cut-outs nearly.

Detail is filtered by rings of several radii with 0 to 4 waves round them (circular harmonics). The magnitude of what a
filter answers does not change when the slice turns or is mirrored. How the magnitudes vary together over all places
(their means, deviations and correlations) does not change when the slice is shifted, and little when a part is missing
(Tuzel et al. 2006, "Region covariance"). Of these numbers those are kept that differ most between slices and least
between the versions of one slice, learned from altered thumbnails of the set itself (linear discriminant analysis).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from detectclf.duplicates.affine import rotation, warp
from detectclf.duplicates.alignment import halve, local_contrast
from detectclf.duplicates.fingerprints import SIDE
from detectclf.types import FloatArray

Indices = npt.NDArray[np.int64]

ZOOMS = (1.0, 0.9, 0.81)
"""Shares of the side that are looked at, in the middle: a slice of which a fifth was cropped is like the last."""

_RINGS = ((2.0, 1.2), (3.5, 1.8), (6.0, 3.0))  # radius and width, pixels of the thumbnail
_ORDERS = 5
_FILTERS = len(_RINGS) * _ORDERS
_DIMENSIONS = 64
_BATCH = 256
_LEARNED, _VERSIONS = 200, 6  # slices, and versions of each, that the directions are learned from
_ROWS = 64  # slices whose neighbours are looked for at once
_BLOCK = 64


@cache
def _filters() -> npt.NDArray[np.complex64]:
    """``(15, 32, 32)``: transforms of the filters, for results at every other pixel."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    found = []
    for size, width in _RINGS:
        for order in range(_ORDERS):
            ring = np.exp(-0.5 * ((radius - size) / width) ** 2) * np.exp(1j * order * angle)
            if order == 0:  # without the mean, as the others
                disc = np.exp(-0.5 * (radius / (1.5 * size)) ** 2)
                ring = ring - ring.sum() * disc / disc.sum()
            found.append(np.fft.fft2(np.fft.ifftshift(ring / np.linalg.norm(ring))))
    return np.asarray(np.stack(found)[:, _kept()][:, :, _kept()], np.complex64)


def _kept() -> Indices:
    return np.concatenate([np.arange(SIDE // 4), np.arange(SIDE - SIDE // 4, SIDE)])


def texture(thumbs: FloatArray) -> FloatArray:
    """``(N, 135)`` of thumbnails ``(N, 64, 64)``: how strong the filters answer, and how alike at the same places.

    Flat places do not count: air, and blocks that were cut out.
    """
    parts = []
    upper = np.triu_indices(_FILTERS, 1)
    for start in range(0, len(thumbs), _BATCH):
        some = thumbs[start : start + _BATCH].astype(np.float32)
        shares = _shares(some)
        waves = np.fft.fft2(local_contrast(some, 0.7, 4.0, 0.1))[:, _kept()][:, :, _kept()].astype(np.complex64)
        answers = np.sqrt(np.abs(np.fft.ifft2(waves[:, None] * _filters())) / 4).reshape(len(some), _FILTERS, -1)
        mean = (answers * shares).sum(axis=2)
        answers -= mean[:, :, None]
        together = (answers * shares) @ answers.swapaxes(1, 2)
        spread = np.sqrt(np.einsum("nii->ni", together)) + 1e-4
        alike = (together / spread[:, :, None] / spread[:, None])[:, upper[0], upper[1]]
        parts.append(np.concatenate([_unit(mean), _unit(spread), _unit(alike)], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _shares(thumbs: FloatArray) -> FloatArray:
    """``(N, 1, 1024)``: how much every other pixel counts, less where grey levels hardly change; sums of 1."""
    import cv2

    found = np.empty((len(thumbs), SIDE // 2, SIDE // 2), np.float32)
    near, reach = np.ones((5, 5), np.uint8), np.ones((7, 7), np.uint8)
    for share, image in zip(found, thumbs, strict=True):
        change = cv2.dilate(image, near) - cv2.erode(image, near)
        still = change < np.clip(1.6 * np.quantile(change[::2, ::2], 0.05), 4, 16)  # noise changes air too
        share[:] = 1.05 - cv2.dilate(still.astype(np.uint8), reach)[::2, ::2]
    return np.asarray(found / found.sum(axis=(1, 2), keepdims=True), np.float32).reshape(len(found), 1, -1)


def _unit(rows: npt.NDArray[np.floating]) -> FloatArray:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6), np.float32)


def views(thumbs: npt.NDArray[np.uint8]) -> FloatArray:
    """Unit vectors ``(V, N, D)`` of each slice at each of :data:`ZOOMS`: those of versions of one slice are close."""
    mean, directions = _directions(thumbs)
    found = np.empty((len(ZOOMS), len(thumbs), directions.shape[1]), np.float32)
    for start in range(0, len(thumbs), _BATCH):
        some = slice(start, start + _BATCH)
        for view, zoom in enumerate(ZOOMS):
            motion = np.broadcast_to(zoom * rotation(0), (len(thumbs[some]), 2, 3)).astype(np.float32)
            seen = warp(thumbs[some].astype(np.float32), motion)[0]
            found[view, some] = _unit((texture(seen) - mean) @ directions)
    return found


def _directions(thumbs: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
    """The mean of the textures ``(135,)`` and the directions ``(135, D)`` that tell slices apart, versions alike."""
    rng = np.random.default_rng(0)
    chosen = thumbs[np.linspace(0, len(thumbs) - 1, min(len(thumbs), _LEARNED)).astype(int)].astype(np.float32)
    versions = np.stack([texture(chosen), *(texture(_altered(chosen, rng)) for _ in range(_VERSIONS))])
    own = versions.mean(axis=0)
    inside, outside = (versions - own).reshape(-1, own.shape[1]), own - own.mean(axis=0)
    within = inside.T @ inside / len(inside)
    within += 0.05 * np.trace(within) / len(within) * np.eye(len(within), dtype=np.float32)
    whitened = np.linalg.inv(np.linalg.cholesky(within))
    strength, turned = np.linalg.eigh(whitened @ (outside.T @ outside / len(outside)) @ whitened.T)
    strength, turned = strength[-_DIMENSIONS:].clip(0), turned[:, -_DIMENSIONS:]
    # Directions that tell nothing apart count nothing, as where there are few slices.
    return own.mean(axis=0), np.asarray(whitened.T @ turned * np.sqrt(strength / (1 + strength)), np.float32)


def _altered(thumbs: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Thumbnails rotated, sheared, cropped, with black blocks and noise."""
    motions = np.empty((len(thumbs), 2, 3), np.float32)
    for motion in motions:
        share = 1 - rng.uniform(0, 0.2) * (rng.random() < 0.6)
        across, down = np.tan(np.deg2rad(rng.uniform(-10, 10, 2)))
        motion[:, :2] = share * rotation(rng.uniform(-15, 15))[:, :2] @ np.array([[1, across], [down, 1]])
        motion[:, 2] = rng.uniform(-1, 1, 2) * (1 - share) / 2
    found = warp(thumbs, motions)[0]
    for image in found:
        for _ in range(4 * (rng.random() < 0.4)):
            side = int(SIDE * rng.uniform(0.08, 0.15))
            y, x = rng.integers(4, SIDE - 4 - side, 2)
            image[y : y + side, x : x + side] = 0
        image += rng.normal(0, rng.uniform(1, 5) * (rng.random() < 0.3), image.shape)
    return found


def layout(thumbs: npt.NDArray[np.uint8]) -> FloatArray:
    """Unit vectors ``(N, 256)`` of the detail of slices place by place."""
    found = np.empty((len(thumbs), (SIDE // 4) ** 2), np.float32)
    for start in range(0, len(thumbs), _BATCH):
        some = halve(halve(local_contrast(thumbs[start : start + _BATCH].astype(np.float32), 1.0, 4.0, 0.1)))
        rows = some.reshape(len(some), -1)
        found[start : start + _BATCH] = _unit(rows - rows.mean(axis=1, keepdims=True))
    return found


def nearest(base: FloatArray, view: FloatArray, wanted: int) -> tuple[FloatArray, Indices]:
    """Cosines and indices ``(N, wanted)`` of the rows of ``base`` ``(N, D)`` most like each of ``view``; itself not.

    Every pair is compared, by matrix products: 100,000 slices take about a minute of a core with 64 numbers each, two
    with 256. In blocks, of which only those with the highest cosines are sorted.
    """
    count = len(base)
    padded = np.concatenate([base, np.zeros((-count % _BLOCK, base.shape[1]), np.float32)]).T
    wanted = min(wanted, count - 1)
    cosines, indices = np.empty((count, wanted), np.float32), np.empty((count, wanted), np.int64)
    for start in range(0, count, _ROWS):
        rows = np.arange(len(view[start : start + _ROWS]))
        found = view[start : start + _ROWS] @ padded
        found[rows, start + rows] = -2
        found[:, count:] = -2
        blocks = found.reshape(len(rows), -1, _BLOCK)
        best = np.argsort(-blocks.max(axis=2), axis=1, kind="stable")[:, :wanted]
        near = (best[:, :, None] * _BLOCK + np.arange(_BLOCK)).reshape(len(rows), -1)
        values = np.take_along_axis(found, near, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :wanted]
        cosines[start + rows] = np.take_along_axis(values, order, axis=1)
        indices[start + rows] = np.take_along_axis(near, order, axis=1)
    return cosines, indices


__all__ = ["ZOOMS", "layout", "nearest", "texture", "views"]
