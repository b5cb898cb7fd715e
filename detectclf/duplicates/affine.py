"""Similarity of two thumbnails after an affine alignment: for copies that were rotated, sheared or cropped.

Parts that only one of the two shows do not count: what a rotation or crop has moved out, and blocks that were cut out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.duplicates.alignment import blur, correlation, halve, local_contrast, standardise
from detectclf.types import FloatArray

IDENTITY: FloatArray = np.array([[1, 0, 0], [0, 1, 0]], np.float32)

_STEPS_HALF, _STEPS_FULL = 8, 4
_HOPELESS = 0.6
"""Pairs less similar than this after alignment at half size are not copies."""
_LEAST_OVERLAP = 0.35
"""Share of the thumbnail that both show."""
_STRETCH = (0.7, 1.45)
"""Least and largest stretch of an alignment: versions are cropped by a fifth and sheared by 15 degrees at most."""
_EDGE = 3
_MISLED, _SURE = 0.8, 0.96

Bools = npt.NDArray[np.bool_]


def rotation(degrees: float) -> FloatArray:
    """A rotation about the centre."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0], [s, c, 0]], np.float32)


def warp(images: FloatArray, motions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``images`` ``(N, S, S)`` moved by affine ``motions``, and which pixels come from inside them (1 or 0).

    Args:
        images: ``(N, S, S)``.
        motions: ``(N, 2, 3)``: where each pixel comes from, in shares of the side from the centre.
    """
    import cv2

    side = images.shape[-1]
    moved, inside = np.empty_like(images), np.empty_like(images)
    ones, centre = np.ones((side, side), np.float32), (side - 1) / 2
    for i, motion in enumerate(motions):
        linear = motion[:, :2]
        offset = centre + motion[:, 2] * side - linear @ np.full(2, centre)
        matrix = np.concatenate([linear, offset[:, None]], axis=1).astype(np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved[i] = cv2.warpAffine(images[i], matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        inside[i] = cv2.warpAffine(ones, matrix, (side, side), flags=flags) > 0.99
    return moved, inside


def align(
    fixed: FloatArray, moving: FloatArray, motions: FloatArray, steps: int, cut: Bools | None = None
) -> FloatArray:
    """Improves the affine ``motions`` ``(N, 2, 3)`` of ``moving`` onto ``fixed``: Gauss-Newton, as in ``alignment``.

    Pixels ``cut`` ``(N, S, S)`` of ``fixed`` do not count.
    """
    count, side, _ = fixed.shape
    along = ((np.arange(side) - (side - 1) / 2) / side).astype(np.float32)
    x, y = np.broadcast_to(along, (side, side)), np.broadcast_to(along[:, None], (side, side))
    target, source = standardise(blur(fixed, 1.0)), standardise(blur(moving, 1.0))
    jacobian = np.empty((count, 8, side, side), np.float32)
    for _ in range(steps):
        image, inside = warp(source, motions)
        across, down = np.zeros_like(image), np.zeros_like(image)
        across[:, :, 1:-1] = (image[:, :, 2:] - image[:, :, :-2]) * (side / 2)
        down[:, 1:-1] = (image[:, 2:] - image[:, :-2]) * (side / 2)
        for row, part in enumerate((across * x, across * y, across, down * x, down * y, down, image)):
            jacobian[:, row] = part
        jacobian[:, 7] = 1
        if cut is not None:
            inside *= ~cut
        weighted = (jacobian * inside[:, None]).reshape(count, 8, -1)
        normal = weighted @ jacobian.reshape(count, 8, -1).swapaxes(1, 2) + 1e-2 * np.eye(8, dtype=np.float32)
        step = np.linalg.solve(normal, weighted @ (target - image).reshape(count, -1, 1))[:, :6, 0].reshape(count, 2, 3)
        step[:, [0, 1], [0, 1]] += 1
        linear = motions[:, :, :2] @ step[:, :, :2]
        shift = motions[:, :, :2] @ step[:, :, 2:] + motions[:, :, 2:]
        motions = np.concatenate([linear.clip(-1.6, 1.6), shift.clip(-0.4, 0.4)], axis=2)
    return np.asarray(motions, np.float32)


def affine_similarity(fixed: FloatArray, moving: FloatArray, motions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How alike two thumbnails are after alignment.

    Args:
        fixed, moving: ``(N, S, S)`` float32 thumbnails in the same orientation.
        motions: ``(N, 2, 3)`` to start from.

    Returns:
        Correlation ``(N,)`` of the detail that both show, 0 where they are surely no copies; the motion ``(N, 2, 3)``.
    """
    found = np.zeros(len(fixed), np.float32)
    if not len(fixed):
        return found, motions
    motions = align(halve(fixed), halve(moving), motions, _STEPS_HALF)
    coarse = correlation(
        *(local_contrast(im, 0.7, 2.5, 0.03) for im in (halve(fixed), warp(halve(moving), motions)[0]))
    )
    worth = np.flatnonzero((coarse >= _HOPELESS) & _plausible(motions))
    if len(worth):
        a, b = fixed[worth], moving[worth]
        refined = align(a, b, motions[worth], _STEPS_FULL)
        alike = _shared_detail(a, b, refined)
        # Blocks that were cut out have misled the alignment: again without them, once it is known where they lie.
        for _ in range(2):
            again = np.flatnonzero((alike >= _MISLED) & (alike < _SURE))
            if len(again):
                c, d = a[again], b[again]
                nearer = align(c, d, refined[again], _STEPS_FULL, _cut(c, warp(d, refined[again])[0]))
                better = _shared_detail(c, d, nearer)
                gained = better > alike[again]
                refined[again[gained]], alike[again[gained]] = nearer[gained], better[gained]
        found[worth] = np.where(_plausible(refined), alike, 0)
        motions[worth] = refined
    return found, motions


def _cut(fixed: FloatArray, moved: FloatArray) -> Bools:
    """Where only one of the two is flat."""
    return np.stack([flat(a) != flat(b) for a, b in zip(fixed, moved, strict=True)])


def _plausible(motions: FloatArray) -> Bools:
    stretch = np.linalg.svd(motions[:, :, :2], compute_uv=False)
    return np.asarray((stretch.min(axis=1) > _STRETCH[0]) & (stretch.max(axis=1) < _STRETCH[1]))


def _shared_detail(fixed: FloatArray, moving: FloatArray, motions: FloatArray) -> FloatArray:
    import cv2

    moved, inside = warp(moving, motions)
    found = np.zeros(len(fixed), np.float32)
    for i in range(len(fixed)):
        a, b = standardise(fixed[i : i + 1]), standardise(moved[i : i + 1])
        flat_a, flat_b = flat(fixed[i]), flat(moved[i])
        # Blocks cut out of one are filled from the other, so that their edges are no detail.
        cut_a, cut_b = flat_a & ~flat_b, flat_b & ~flat_a
        a[0][cut_a], b[0][cut_b] = b[0][cut_a], a[0][cut_b]
        shown = cv2.erode(inside[i].astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=0) * ~(cut_a | cut_b)
        shown[:_EDGE] = shown[-_EDGE:] = 0
        shown[:, :_EDGE] = shown[:, -_EDGE:] = 0
        seen = shown > 0
        if seen.mean() >= _LEAST_OVERLAP:
            first, second = (local_contrast(image, 0.7, 2.5, 0.03)[0][seen] for image in (a, b))
            found[i] = correlation(first[None], second[None])[0]
    return found


def flat(image: FloatArray) -> Bools:
    """Where ``(S, S)`` grey levels hardly change within 5 x 5 pixels, with what the blur of shrinking adds round it."""
    import cv2

    near = np.ones((5, 5), np.uint8)
    still = (cv2.dilate(image, near) - cv2.erode(image, near) < 4).astype(np.uint8)
    return np.asarray(cv2.dilate(still, np.ones((7, 7), np.uint8)) > 0)


__all__ = ["IDENTITY", "affine_similarity", "align", "flat", "rotation", "warp"]
