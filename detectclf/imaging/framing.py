"""Finds the slice in a much longer image, such as a screenshot or a page of a presentation."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from detectclf.types import Pixels

Number = TypeVar("Number", np.uint8, np.float32)

LONGEST_SLICE = 1.5
"""Aspect ratio (longer over shorter side) up to which an image is kept whole: slices are about as wide as high."""
_FLAT = 8
"""Most grey levels that a flat line may span, or differ from the outermost line, because JPEG adds ripples."""


class Part(NamedTuple):
    """A rectangle in an image, pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """The pixels of the rectangle, as a view."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


def shown_part(pixels: Pixels) -> Part:
    """The part of an image that models see: the whole of it, or a very long image without the flat strips at its ends.

    With strips of one grey level at both ends, the slice between them would become small and unlike the training data.
    The flat strips are cut, but no more than makes the image square; the rest is centred on the part that is not flat.

    Args:
        pixels: ``(H, W)`` uint8.
    """
    height, width = pixels.shape
    shorter, longer = sorted((height, width))
    whole = Part(0, 0, width, height)
    if longer <= LONGEST_SLICE * shorter:
        return whole
    lines = pixels if height > width else pixels.T
    before, after = _flat_lines(lines), _flat_lines(lines[::-1])
    if before == longer:
        return whole  # all of it is flat
    length = max(shorter, longer - before - after)
    middle = (before + longer - after) / 2
    start = min(max(0, round(middle - length / 2)), longer - length)
    return Part(0, start, width, length) if height > width else Part(start, 0, length, height)


def _flat_lines(lines: npt.NDArray[np.uint8]) -> int:
    """How many of the ``(N, L)`` lines, counted from the first, have the same single grey level."""
    least, most = lines.min(axis=1).astype(int), lines.max(axis=1).astype(int)
    level = int(np.median(lines[0]))
    uneven = (most - least > _FLAT) | (abs(least - level) > _FLAT) | (abs(most - level) > _FLAT)
    return int(uneven.argmax()) if uneven.any() else len(lines)


__all__ = ["LONGEST_SLICE", "Part", "shown_part"]
