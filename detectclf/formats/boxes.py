"""Checks the boxes of one slice, and fixes those that can be fixed.

The rules for a box ``(x1, y1, x2, y2)`` in pixels, in the order in which they apply:

=====================  ========  =========================================  ================================
code                   severity  fault                                      fix
=====================  ========  =========================================  ================================
``box_not_finite``     error     a side is NaN, infinite or no number       drop the box
``box_inverted``       error     corners swapped, negative width or height  swap the corners
``box_zero_area``      error     no width or no height                      drop the box
``box_in_shares``      error     within one pixel of the corner: shares of  drop the box
                                 the image where pixels are wanted
``box_outside_image``  error     outside the image by more than 1 px        clip; drop if nothing is left
``box_over_edge``      warning   outside by at most 1 px: rounding          clip
``box_tiny``           warning   a side under 4 px                          none
``box_duplicate``      warning   same class and corners as another box      drop the second one
=====================  ========  =========================================  ================================
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from detectclf.formats.faults import Change, Faults
from detectclf.formats.raw import Corners, RawBox, RawSlice
from detectclf.types import FloatArray, empty_boxes

ROUNDING_PX = 1.0
"""A box may extend beyond the image by this much, because annotation tools round to whole pixels."""
TINY_PX = 4.0
"""A tumour with a shorter side is implausible: in an image of 640 px, 4 px are under 2 mm."""
_NOISE_PX = 0.01
"""A smaller overlap comes from rounded decimals and is not reported."""


def check_boxes(
    raw: RawSlice, boxes: list[RawBox], size: tuple[int, int], faults: Faults
) -> tuple[FloatArray, tuple[str, ...]]:
    """Returns the usable boxes of one slice and records each fault and change.

    Args:
        raw: the slice, for the name in messages.
        boxes: its boxes in pixels of the image.
        size: ``(width, height)`` of the image, pixels.
        faults: receives faults and changes.

    Returns:
        ``(N, 4)`` float32 boxes inside the image, with positive sides, and their ``N`` class names.
    """
    kept: dict[tuple[str, Corners], None] = {}
    for box in boxes:
        fixed, code = _check_box(box, size, raw, faults)
        if fixed is None or box.label is None:
            before = _record(box.xyxy, box.label)
            faults.changes.append(Change("drop_box", code, raw.split, raw.name, before, None))
            continue
        if code:
            before, after = _record(box.xyxy, box.label), _record(fixed, box.label)
            faults.changes.append(Change("change_box", code, raw.split, raw.name, before, after))
        x1, y1, x2, y2 = (float(np.float32(v)) for v in fixed)
        key = (box.label, (x1, y1, x2, y2))
        if key in kept:
            detail = f"{raw.name}: {box.label} box {_show(fixed)} is annotated twice"
            faults.warning("box_duplicate", raw.stated_in, detail, box.line)
            before = _record(box.xyxy, box.label)
            faults.changes.append(Change("drop_box", "box_duplicate", raw.split, raw.name, before, None))
        kept[key] = None
    if not kept:
        return empty_boxes(), ()
    return np.array([corners for _, corners in kept], dtype=np.float32), tuple(label for label, _ in kept)


def _check_box(box: RawBox, size: tuple[int, int], raw: RawSlice, faults: Faults) -> tuple[Corners | None, str]:
    """The fixed corners, or ``None`` for an unusable box; and the code of the fault that was fixed, or ``""``."""
    if box.label is None:
        return None, "unusable_annotation"
    file, line, code = raw.stated_in, box.line or raw.line, ""
    x1, y1, x2, y2 = box.xyxy
    what = f"{raw.name}: {box.label} box {_show(box.xyxy)}"
    if not all(map(math.isfinite, box.xyxy)):
        faults.error("box_not_finite", file, f"{what} has a side that is not a finite number", line)
        return None, "box_not_finite"
    if x2 < x1 or y2 < y1:
        code = "box_inverted"
        faults.error(code, file, f"{what} has its corners swapped or a negative size", line)
        x1, y1, x2, y2 = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    if x1 == x2 or y1 == y2:
        faults.error("box_zero_area", file, f"{what} has no area", line)
        return None, "box_zero_area"
    width, height = size
    near = min(x1, y1) >= -ROUNDING_PX and max(x2, y2) <= ROUNDING_PX < min(width, height)
    if near and not raw.relative:
        detail = f"{what} lies within one pixel: it seems to be in shares of the image, but pixels are wanted"
        faults.error("box_in_shares", file, detail, line)
        return None, "box_in_shares"
    over = max(-x1, -y1, x2 - width, y2 - height)
    if over > ROUNDING_PX + _NOISE_PX:
        code = "box_outside_image"
        faults.error(code, file, f"{what} leaves the {width} x {height} image by {over:.5g} px", line)
    elif over > _NOISE_PX:
        code = code or "box_over_edge"
        faults.warning("box_over_edge", file, f"{what} is over the edge of the image by {over:.2g} px", line)
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    # The box becomes float32; a side that vanishes in it would give an area of 0 and a loss of NaN.
    if np.float32(x2) <= np.float32(x1) or np.float32(y2) <= np.float32(y1):
        if code != "box_outside_image":
            faults.error("box_zero_area", file, f"{what} has no area inside the image", line)
        return None, code or "box_zero_area"
    if min(x2 - x1, y2 - y1) < TINY_PX:
        faults.warning("box_tiny", file, f"{what} has a side under {TINY_PX:.0f} px", line)
    return (x1, y1, x2, y2), code


def _record(xyxy: Corners, label: str | None) -> dict[str, Any]:
    # As text where JSON has no number for it: NaN and infinity.
    return {"xyxy": [v if math.isfinite(v) else str(v) for v in xyxy], "class": label}


def _show(xyxy: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in xyxy) + ")"


__all__ = ["ROUNDING_PX", "TINY_PX", "check_boxes"]
