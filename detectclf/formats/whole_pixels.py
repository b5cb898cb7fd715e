"""Rounds boxes for formats that store integers."""

from __future__ import annotations

from detectclf.types import FloatArray


def whole_pixels(box: FloatArray, width: int, height: int) -> tuple[int, int, int, int]:
    """Rounds ``box`` to whole pixels; it stays inside the image and at least one pixel wide and high.

    Args:
        box: ``(4,)`` ``xyxy`` pixels.
        width, height: size of the image, pixels.
    """
    x1, x2 = _side(float(box[0]), float(box[2]), width)
    y1, y2 = _side(float(box[1]), float(box[3]), height)
    return x1, y1, x2, y2


def _side(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(max(round(low), 0), size - 1)
    return first, min(max(round(high), first + 1), size)


__all__ = ["whole_pixels"]
