"""The montage of a volume: slices in a grid, and below them the tumour probability along the volume.

Drawn with Pillow alone: matplotlib takes longer to import than a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from detectclf.drawing.palette import color_of
from detectclf.drawing.panel import BACKGROUND, FAINT, FLAG_TEXTS, FOOTER, INK, font, shorten
from detectclf.drawing.sheets import ALARM, Tile, contact_sheet
from detectclf.types import NOT_A_BRAIN_MRI

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_TEXTS = FLAG_TEXTS | {NOT_A_BRAIN_MRI: "no brain MRI"}
"""A volume is no screen that could be cropped."""

_COLUMNS = 4
_TEXT = 13
_CURVE_HEIGHT = 190
_GRID = (60, 66, 75)
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 26, 46


class Span(NamedTuple):
    """Slices of a finding, drawn as a bar below the curve: first, last and class."""

    first: int
    last: int
    label: str


def montage(
    tiles: Sequence[Tile],
    curve: Sequence[float | None],
    spans: Sequence[Span],
    classes: Sequence[str],
    *,
    title: str,
    flags: Sequence[str] = (),
    model: str = "",
) -> Image:
    """Slices of a volume above its probability curve.

    Args:
        tiles: the slices that are shown.
        curve: tumour probability of each slice of the volume, ``None`` where there is none: the line has a gap there.
        spans: the findings.
        classes: all classes of the model, which decide the colours.
        title: a line above.
        flags: shown under the curve.
        model: name and version of the model.

    Returns:
        An RGB picture.
    """
    from PIL import Image, ImageDraw

    sheet = contact_sheet(tiles, classes, columns=_COLUMNS, tile_size=240, title=title)
    footer = round(3.4 * _TEXT) if flags else 2 * _TEXT
    canvas = Image.new("RGB", (sheet.width, sheet.height + _CURVE_HEIGHT + footer), BACKGROUND)
    canvas.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(canvas)
    _curve(draw, curve, spans, classes, sheet.height, canvas.width)
    y = sheet.height + _CURVE_HEIGHT + _TEXT // 2
    if flags:
        text = "Look at it: " + "; ".join(_TEXTS.get(flag, flag.replace("_", " ")) for flag in flags)
        draw.text(
            (_LEFT, y), shorten(text, font(_TEXT, True), canvas.width - 2 * _LEFT), ALARM, font(_TEXT, True), "lm"
        )
        y += round(1.4 * _TEXT)
    line = " · ".join(part for part in (model, FOOTER) if part)
    draw.text((_LEFT, y), shorten(line, font(_TEXT - 1), canvas.width - 2 * _LEFT), FAINT, font(_TEXT - 1), "lm")
    return canvas


def _curve(
    draw: ImageDraw, curve: Sequence[float | None], spans: Sequence[Span], classes: Sequence[str], top: int, width: int
) -> None:
    """The axes, the line with its gaps, and a bar for each finding."""
    face = font(_TEXT - 2)
    floor, ceiling = top + _CURVE_HEIGHT - _BOTTOM, top + _TOP
    last = max(1, len(curve) - 1)

    def at(number: float, value: float) -> tuple[float, float]:
        return _LEFT + number / last * (width - _LEFT - _RIGHT), floor - value * (floor - ceiling)

    draw.text((_LEFT, top + _TEXT), "tumour probability of each slice", INK, font(_TEXT - 1), "lm")
    for value in (0.0, 0.5, 1.0):
        draw.line((*at(0, value), *at(last, value)), _GRID)
        draw.text((_LEFT - 6, at(0, value)[1]), f"{value:g}", FAINT, face, "rm")
    for tick in sorted({round(last * part / 6) for part in range(7)}):
        draw.text((at(tick, 0)[0], floor + _TEXT + 14), str(tick), FAINT, face, "mm")
    for span in spans:
        left, right = at(span.first, 0)[0], at(span.last, 0)[0]
        draw.rectangle((left - 2, floor + 5, right + 2, floor + 13), color_of(span.label, classes))
    for number, reached in enumerate(curve):
        if reached is None:
            continue
        after = curve[number + 1] if number + 1 < len(curve) else None
        x, y = at(number, reached)
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), INK)
        if after is not None:
            draw.line((x, y, *at(number + 1, after)), INK, 2)


__all__ = ["Span", "montage"]
