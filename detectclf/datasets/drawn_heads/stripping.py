"""Skull stripping of drawn heads, as well or badly as tools do it."""

from __future__ import annotations

import cv2
import numpy as np

from detectclf.datasets.drawn_heads.planes import smooth_field
from detectclf.datasets.drawn_heads.tissues import INSIDE_BRAIN, Tissue, where
from detectclf.types import FloatArray, Mask, Pixels

IMPERFECT_SHARE = 0.4


def brain_only(tissues: Pixels, tumor: Mask | None, rng: np.random.Generator) -> FloatArray:
    """``(H, W)`` float32 from 0 to 1: what is left of each pixel when all but the brain is taken away.

    The fluid between the convolutions stays, that under the skull goes. Some borders are uneven: a little too wide here
    and too narrow there. A tumour stays whole, wherever it is.
    """
    size = len(tissues)
    brain = where(tissues, *INSIDE_BRAIN).astype(np.uint8)
    reach = max(round(size * float(rng.uniform(0.01, 0.03))), 1)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    closed = cv2.morphologyEx(brain, cv2.MORPH_CLOSE, around)
    keep = closed.astype(np.float32)
    if rng.random() < IMPERFECT_SHARE:
        wide = cv2.GaussianBlur(keep, (0, 0), 0.008 * size + 0.5)
        keep = (wide + 0.25 * smooth_field(9, size, rng) > float(rng.uniform(0.35, 0.55))).astype(np.float32)
        keep *= cv2.dilate(closed, around)
    keep[tissues == Tissue.AIR] = 0
    if tumor is not None:
        keep[tumor] = 1
    return np.asarray(cv2.GaussianBlur(keep, (0, 0), 0.5), dtype=np.float32)
