"""Checking the boxes of one slice, and mending what can be mended.

The rules, in this order, for a box ``(x1, y1, x2, y2)`` in pixels:

=====================  ========  ==========================================================
code                   severity  mended by
=====================  ========  ==========================================================
``box_not_finite``     error     leaving the box out (NaN, infinite, or no number at all)
``box_inverted``       error     swapping the corners (also: negative width or height)
``box_zero_area``      error     leaving it out
``box_outside_image``  error     clipping; left out when nothing remains
``box_over_edge``      warning   clipping: beyond the edge by at most 1 px, which is rounding
``box_tiny``           warning   not at all (a side under 4 px)
``box_duplicate``      warning   leaving the repeat out (same class, same corners)
=====================  ========  ==========================================================
"""

from __future__ import annotations

import math

import numpy as np

from detectclf.data.faults import Faults
from detectclf.data.formats.raw import RawBox
from detectclf.types import FloatArray, empty_boxes

ROUNDING_PX = 1.0
"""A box may leave the image by this much: annotation tools round to whole pixels."""
TINY_PX = 4.0
"""A side shorter than this is hardly a tumour: at 640 px it is under 2 mm."""
_NOISE_PX = 0.01
"""Beyond the edge by less than this is the rounding of a decimal, not worth a word."""


def check_boxes(
    boxes: list[RawBox], size: tuple[int, int], file: str, line: int | None, name: str, faults: Faults
) -> tuple[FloatArray, tuple[str, ...]]:
    """The usable boxes of one slice.

    Args:
        boxes: in pixels of the image.
        size: ``(width, height)`` of the image, pixels.
        file: the annotation file to name in faults.
        line: its line, where a box has none of its own.
        name: the image, named in faults.
        faults: where faults go.

    Returns:
        ``(N, 4)`` float32 boxes inside the image, with positive sides, and their ``N`` class names.
    """
    kept: dict[tuple[str, tuple[float, ...]], None] = {}
    for box in boxes:
        if box.label is None:
            continue
        mended = _check_box(box, size, file, box.line or line, name, faults)
        if mended is None:
            continue
        key = (box.label, tuple(float(np.float32(v)) for v in mended))
        if key in kept:
            faults.warning("box_duplicate", file, f"{name}: {box.label} box {_show(mended)} is there twice", box.line)
        kept[key] = None
    if not kept:
        return empty_boxes(), ()
    return np.array([corners for _, corners in kept], dtype=np.float32), tuple(label for label, _ in kept)


def _check_box(
    box: RawBox, size: tuple[int, int], file: str, line: int | None, name: str, faults: Faults
) -> tuple[float, float, float, float] | None:
    width, height = size
    x1, y1, x2, y2 = box.xyxy
    what = f"{name}: {box.label} box {_show(box.xyxy)}"
    if not all(map(math.isfinite, box.xyxy)):
        faults.error("box_not_finite", file, f"{what} has a side that is not a finite number", line)
        return None
    if x2 < x1 or y2 < y1:
        faults.error("box_inverted", file, f"{what} has its corners swapped or a negative size", line)
        x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    if x1 == x2 or y1 == y2:
        faults.error("box_zero_area", file, f"{what} has no area", line)
        return None
    over = max(-x1, -y1, x2 - width, y2 - height)
    if over > ROUNDING_PX + _NOISE_PX:
        faults.error("box_outside_image", file, f"{what} leaves the {width} x {height} image by {over:.5g} px", line)
    elif over > _NOISE_PX:
        faults.warning("box_over_edge", file, f"{what} is over the edge of the image by {over:.2g} px", line)
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    # float32 is what the box becomes: sides that vanish in it would make an area of 0 and a loss of NaN.
    if np.float32(x2) <= np.float32(x1) or np.float32(y2) <= np.float32(y1):
        if over <= ROUNDING_PX + _NOISE_PX:
            faults.error("box_zero_area", file, f"{what} has no area inside the image", line)
        return None
    if min(x2 - x1, y2 - y1) < TINY_PX:
        faults.warning("box_tiny", file, f"{what} has a side under {TINY_PX:.0f} px", line)
    return x1, y1, x2, y2


def _show(xyxy: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in xyxy) + ")"


__all__ = ["ROUNDING_PX", "TINY_PX", "check_boxes"]
