"""Whether two slices are copies as they are, mirrored or turned by a right angle: by the whole slice or the head."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectclf.duplicates.alignment import (
    DOUBTFUL,
    ORIENTATIONS,
    correlation,
    halve,
    head_view,
    local_contrast,
    similarity,
)
from detectclf.duplicates.fingerprints import Rows
from detectclf.types import FloatArray

Indices = npt.NDArray[np.int64]

# Copies lie above, measured on the real slices: the most alike neighbouring slices of one head reach 0.932 as whole
# slices and 0.908 as heads alone (scripts/bench_copies.py, docs/log.md).
SAME_SLICE, SAME_HEAD = 0.935, 0.92
# For sharpened copies: heads that agree in every region; neighbouring slices reach 0.861 there. (On whole slices this
# test would fail: with changed contrast, dark neighbours reach 0.911.)
_EVEN_HEAD = 0.87
# Pairs whose detail correlates less than this before alignment, in the best orientation, are rejected.
_COARSE = 0.45


def view(rows: Rows, head: bool) -> FloatArray:
    thumbs = rows["thumb"].astype(np.float32)
    return head_view(thumbs, rows["box"]) if head else thumbs


def are_copies(a: Rows, b: Rows, head: bool) -> npt.NDArray[np.bool_]:
    alike, _, _, weak = compare(a, b, head)
    if head:
        return np.asarray((alike >= SAME_HEAD) | (weak >= _EVEN_HEAD))
    same = np.asarray(alike >= SAME_SLICE)
    # In doubtful cases the heads decide.
    doubtful = np.flatnonzero((alike >= DOUBTFUL) & ~same)
    if len(doubtful):
        same[doubtful] = are_copies(a[doubtful], b[doubtful], head=True)
    return same


def compare(a: Rows, b: Rows, head: bool = False) -> tuple[FloatArray, Indices, FloatArray, FloatArray]:
    """Compares each slice of ``a`` with its partner in ``b``, in the orientation that fits best.

    Args:
        a, b: ``(N,)`` fingerprints.
        head: compare the heads alone instead of the whole slices.

    Returns:
        Similarity ``(N,)`` in [-1, 1] (0 for pairs rejected by the coarse test), the index into ``ORIENTATIONS`` of
        what turns ``b`` into ``a``, the remaining motion ``(N, 4)``, and the similarity ``(N,)`` of the least similar
        regions.
    """
    fixed, moving = view(a, head), view(b, head)
    detail_a, detail_b = (local_contrast(halve(x), 0.8, 3.0, 0.1) for x in (fixed, moving))
    coarse = np.stack([correlation(detail_a, turn(detail_b)) for _, turn in ORIENTATIONS], axis=1)
    orientation = coarse.argmax(axis=1)
    worth = coarse.max(axis=1) >= _COARSE
    alike, weak, motion = np.zeros(len(a), np.float32), np.zeros(len(a), np.float32), np.zeros((len(a), 4), np.float32)
    for number, (_, turn) in enumerate(ORIENTATIONS):
        chosen = np.flatnonzero(worth & (orientation == number))
        if len(chosen):
            turned = np.ascontiguousarray(turn(moving[chosen]))
            alike[chosen], motion[chosen], weak[chosen] = similarity(fixed[chosen], turned)
    return alike, orientation, motion, weak


__all__ = ["SAME_HEAD", "SAME_SLICE", "are_copies", "compare", "view"]
