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
from typing import Any

import numpy as np

from detectclf.formats.faults import Change, Faults
from detectclf.formats.raw import Corners, RawBox, RawSlice
from detectclf.types import FloatArray, empty_boxes

ROUNDING_PX = 1.0
"""A box may leave the image by this much: annotation tools round to whole pixels."""
TINY_PX = 4.0
"""A side shorter than this is hardly a tumour: at 640 px it is under 2 mm."""
_NOISE_PX = 0.01
"""Beyond the edge by less than this is the rounding of a decimal, not worth a word."""


def check_boxes(
    raw: RawSlice, boxes: list[RawBox], size: tuple[int, int], faults: Faults
) -> tuple[FloatArray, tuple[str, ...]]:
    """The usable boxes of one slice; each change is noted in ``faults``.

    Args:
        raw: the slice, named in faults.
        boxes: its boxes in pixels of the image.
        size: ``(width, height)`` of the image, pixels.
        faults: where faults and changes go.

    Returns:
        ``(N, 4)`` float32 boxes inside the image, with positive sides, and their ``N`` class names.
    """
    kept: dict[tuple[str, Corners], None] = {}
    for box in boxes:
        mended, code = _check_box(box, size, raw, faults)
        if mended is None or box.label is None:
            before = _record(box.xyxy, box.label)
            faults.changes.append(Change("drop_box", code, raw.split, raw.name, before, None))
            continue
        if code:
            before, after = _record(box.xyxy, box.label), _record(mended, box.label)
            faults.changes.append(Change("change_box", code, raw.split, raw.name, before, after))
        x1, y1, x2, y2 = (float(np.float32(v)) for v in mended)
        key = (box.label, (x1, y1, x2, y2))
        if key in kept:
            detail = f"{raw.name}: {box.label} box {_show(mended)} is there twice"
            faults.warning("box_duplicate", raw.stated_in, detail, box.line)
            before = _record(box.xyxy, box.label)
            faults.changes.append(Change("drop_box", "box_duplicate", raw.split, raw.name, before, None))
        kept[key] = None
    if not kept:
        return empty_boxes(), ()
    return np.array([corners for _, corners in kept], dtype=np.float32), tuple(label for label, _ in kept)


def _check_box(box: RawBox, size: tuple[int, int], raw: RawSlice, faults: Faults) -> tuple[Corners | None, str]:
    """The mended corners, or ``None`` for a box that is of no use; and the fault that was mended, or ``""``."""
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
    over = max(-x1, -y1, x2 - width, y2 - height)
    if over > ROUNDING_PX + _NOISE_PX:
        code = "box_outside_image"
        faults.error(code, file, f"{what} leaves the {width} x {height} image by {over:.5g} px", line)
    elif over > _NOISE_PX:
        code = code or "box_over_edge"
        faults.warning("box_over_edge", file, f"{what} is over the edge of the image by {over:.2g} px", line)
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    # float32 is what the box becomes: sides that vanish in it would make an area of 0 and a loss of NaN.
    if np.float32(x2) <= np.float32(x1) or np.float32(y2) <= np.float32(y1):
        if code != "box_outside_image":
            faults.error("box_zero_area", file, f"{what} has no area inside the image", line)
        return None, code or "box_zero_area"
    if min(x2 - x1, y2 - y1) < TINY_PX:
        faults.warning("box_tiny", file, f"{what} has a side under {TINY_PX:.0f} px", line)
    return (x1, y1, x2, y2), code


def _record(xyxy: Corners, label: str | None) -> dict[str, Any]:
    # Text for what JSON cannot spell: it has no NaN and no infinity.
    return {"xyxy": [v if math.isfinite(v) else str(v) for v in xyxy], "class": label}


def _show(xyxy: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in xyxy) + ")"


__all__ = ["ROUNDING_PX", "TINY_PX", "check_boxes"]
