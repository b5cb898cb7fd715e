"""Slices in the middle of a much longer picture, such as a screen or a presentation's page."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from detectclf.types import Pixels

Number = TypeVar("Number", np.uint8, np.float32)

LONGEST_SLICE = 1.5
"""Longer over shorter side up to which a picture is left as it is: slices are about as wide as high."""
_FLAT = 8
"""Grey levels that a flat line may span, and differ from the outermost one: JPEG leaves ripples."""


class Part(NamedTuple):
    """A rectangle of a picture, pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Its pixels, a view."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


def shown_part(pixels: Pixels) -> Part:
    """The part of a picture that is looked at: all of it but flat strips at the ends of one that is very long.

    A strip of one grey level on both sides would make the slice between small and far from the slices that models know.
    As much is cut as makes the picture a square, or as is flat; what is left is centred on what is not.

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
        return whole  # nothing is shown
    length = max(shorter, longer - before - after)
    middle = (before + longer - after) / 2
    start = min(max(0, round(middle - length / 2)), longer - length)
    return Part(0, start, width, length) if height > width else Part(start, 0, length, height)


def _flat_lines(lines: npt.NDArray[np.uint8]) -> int:
    """How many of the ``(N, L)`` lines from the first on are of its one grey level."""
    least, most = lines.min(axis=1).astype(int), lines.max(axis=1).astype(int)
    level = int(np.median(lines[0]))
    uneven = (most - least > _FLAT) | (abs(least - level) > _FLAT) | (abs(most - level) > _FLAT)
    return int(uneven.argmax()) if uneven.any() else len(lines)


__all__ = ["LONGEST_SLICE", "Part", "shown_part"]
