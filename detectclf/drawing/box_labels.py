"""Boxes and their labels on a slice, drawn with Pillow: each label at its box, inside the picture, off the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from detectclf.drawing.palette import Rgb, text_color_on
from detectclf.drawing.panel import font, shorten
from detectclf.types import FloatArray

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Area = tuple[float, float, float, float]
"""xyxy, pixels."""


def draw_boxes(draw: ImageDraw, boxes: FloatArray, colors: Sequence[Rgb], line: int) -> None:
    """Draws boxes with a dark rim, which makes them visible on bright tissue, the lines centred on their edges.

    Args:
        draw: of the picture.
        boxes: ``(N, 4)`` xyxy, pixels of the picture.
        colors: one of each box.
        line: width of the coloured lines, pixels.
    """
    for rim in (1, 0):  # all rims first, so that none crosses a coloured line
        reach = line // 2 + rim
        for (x1, y1, x2, y2), color in zip(boxes.round().tolist(), colors, strict=True):
            ink = (0, 0, 0) if rim else color
            draw.rectangle((x1 - reach, y1 - reach, x2 + reach, y2 + reach), outline=ink, width=line + 2 * rim)


def draw_labels(
    draw: ImageDraw, boxes: FloatArray, texts: Sequence[str], colors: Sequence[Rgb], unit: int, size: tuple[int, int]
) -> None:
    """Draws the label of each box, in its colour.

    Args:
        draw: of the picture.
        boxes: ``(N, 4)`` xyxy, pixels of the picture, the most important first: it keeps its place.
        texts, colors: one of each box.
        unit: height of the text, pixels.
        size: width and height of the picture.
    """
    face, padding = font(unit), max(3, unit // 4)
    taken: list[Area] = []
    for box, text, color in zip(boxes.tolist(), texts, colors, strict=True):
        shown = shorten(text, face, size[0] - 2 * padding)
        area = place(box, (math.ceil(face.getlength(shown)) + 2 * padding, unit + 2 * padding), size, taken)
        taken.append(area)
        draw.rectangle((area[0], area[1], area[2] - 1, area[3] - 1), fill=color)
        middle = (area[1] + area[3]) / 2
        draw.text((area[0] + padding, middle), shown, font=face, fill=text_color_on(color), anchor="lm")


def place(box: Sequence[float], label: tuple[int, int], size: tuple[int, int], taken: Sequence[Area]) -> Area:
    """Where a label goes: above its box, else below, else inside, else in the nearest free row.

    Args:
        box: xyxy.
        label: its width and height.
        size: width and height of the picture.
        taken: where other labels are.

    Returns:
        Whole pixels inside the picture; over another label only where there is no room.
    """
    rows = list(_rows(box, label[1], size[1]))
    areas = [
        (left, row, left + label[0], row + label[1])
        for row in rows
        for left in (_between(box[0], size[0] - label[0]), _between(box[2] - label[0], size[0] - label[0]))
    ]
    free = (area for area in areas if not any(_meet(area, other) for other in taken))
    return next(free, areas[0])


def _rows(box: Sequence[float], height: int, most: int) -> Iterator[int]:
    """Tops of a label of ``height``, best first, that lie in a picture ``most`` pixels high."""
    top, bottom = round(box[1]), round(box[3])
    for row in (top - height, bottom, top, bottom - height):
        if 0 <= row <= most - height:
            yield row
    start = _between(top, most - height)
    yield start
    yield from sorted(range(start % height, most - height + 1, height), key=lambda row: abs(row - start))


def _between(value: float, most: int) -> int:
    return round(min(max(value, 0), max(most, 0)))


def _meet(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


__all__ = ["draw_boxes", "draw_labels", "place"]
