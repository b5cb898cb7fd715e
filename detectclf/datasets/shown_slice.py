"""What a slice shows while augmentation changes it: pixels, tumours, and which of them there were at first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectclf.types import FloatArray, Pixels


class ShownSlice(NamedTuple):
    """A slice and the tumours on it.

    Attributes:
        pixels: ``(H, W)`` uint8.
        boxes_xyxy: ``(M, 4)`` float32 pixels, the tumours.
        rows: ``(M,)`` which of the ``N`` boxes that the slice had at first each one comes from; ``N`` for one that has
            been added.
    """

    pixels: Pixels
    boxes_xyxy: FloatArray
    rows: npt.NDArray[np.int64]

    @classmethod
    def first(cls, pixels: Pixels, boxes_xyxy: FloatArray) -> ShownSlice:
        """The slice before any change, with ``(N, 4)`` boxes."""
        return cls(pixels, boxes_xyxy, np.arange(len(boxes_xyxy)))


__all__ = ["ShownSlice"]
