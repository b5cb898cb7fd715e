"""What tells an upright head from one that is turned: oriented edges and a thumbnail of it."""

from __future__ import annotations

import numpy as np

from detectclf.imaging.framing import Framed, framed
from detectclf.types import FloatArray, Pixels

TURNS = 4
"""Upright, and turned counter-clockwise by 90, 180 and 270 degrees."""
_SIDE, _CELL, _BINS, _THUMBNAIL = 64, 16, 9, 12
UPRIGHT_SIZE = (_SIDE // _CELL - 1) ** 2 * 4 * _BINS + _THUMBNAIL**2
"""Length ``D`` of the features."""
_MARGIN = 0.04  # of the head's longer side, at each side of it
_BRIGHT = 200  # grey level of the brighter parts of the head


def upright_features(shown: Framed) -> FloatArray:
    """``(D,)``: histograms of oriented gradients (Dalal & Triggs, CVPR 2005) and a thumbnail of the head.

    What is found without a head is described as a whole.
    """
    import cv2

    square, block, cell = _square(shown), (2 * _CELL, 2 * _CELL), (_CELL, _CELL)
    gradients = cv2.HOGDescriptor((_SIDE, _SIDE), block, cell, cell, _BINS).compute(square)
    thumbnail = cv2.resize(square, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.concatenate([np.ravel(gradients), np.ravel(thumbnail) / 255.0]).astype(np.float32)


def turned_features(pixels: Pixels) -> FloatArray:
    """``(TURNS, D)``: the features of a picture ``(H, W)`` uint8 as it is and turned, each searched for its head anew.

    What turning the head alone would leave, such as a shift by half a pixel, would tell turned pictures in a fit and
    nowhere else.
    """
    turned = (np.ascontiguousarray(np.rot90(pixels, turn)) for turn in range(TURNS))
    return np.stack([upright_features(framed(each)) for each in turned])


def _square(shown: Framed) -> Pixels:
    """The head in the middle of a square of ``_SIDE`` pixels, of the same brightness for all heads."""
    import cv2

    height, width = shown.pixels.shape
    left, top, across, down = (0.0, 0.0, width, height) if shown.head is None else shown.head.box
    side = max(across, down) * (1 + 2 * _MARGIN)
    scale = _SIDE / side
    # OpenCV counts from the centres of pixels, half a pixel from the corner.
    middle = (left + across / 2 - 0.5, top + down / 2 - 0.5)
    shift = [_SIDE / 2 - 0.5 - scale * each for each in middle]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    # Averaged first, since warping takes single pixels; over an odd number of them, since an even one shifts.
    blur = 2 * round((1 / scale - 1) / 2) + 1 if scale < 1 else 1
    small = cv2.warpAffine(cv2.blur(shown.pixels, (blur, blur)), matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR)
    level = max(20.0, float(np.percentile(small, 97)))
    return np.asarray(cv2.convertScaleAbs(small, alpha=_BRIGHT / level), dtype=np.uint8)


__all__ = ["TURNS", "UPRIGHT_SIZE", "turned_features", "upright_features"]
