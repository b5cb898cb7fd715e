"""Draws a slice with its predicted boxes, and beside it a panel with class, probabilities and flags."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectclf.drawing.box_labels import draw_boxes, draw_labels
from detectclf.drawing.palette import color_of
from detectclf.drawing.panel import BACKGROUND, FAINT, INK, font, panel, shorten, wrapped
from detectclf.models.map_fit import NOT_MEASURED
from detectclf.types import CLASS_BOX_CONFLICT, TUMOR_WITHOUT_BOX, FloatArray, FusedOutputs, Pixels, Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SMALLEST_SIDE, LARGEST_SIDE = 512, 1024
"""Longer side of a drawn slice, pixels: smaller slices are enlarged by a whole number, larger ones reduced."""

MOST_DRAWN = 12
"""Boxes drawn; more would hide the slice."""


class Heat(NamedTuple):
    """An activation map to be drawn.

    Attributes:
        values: ``(H, W)`` float32 in [0, 1].
        fit: how well such maps fit tumours, which is written above it.
    """

    values: FloatArray
    fit: str = NOT_MEASURED


def draw_prediction(
    pixels: Pixels,
    fused: FusedOutputs,
    *,
    title: str,
    model: str = "",
    heat: Heat | None = None,
    truth: Sample | None = None,
) -> Image:
    """The slice with its boxes, and beside it class, probabilities, flags and, where given, the truth.

    Boxes with a score of at least ``fused.box_threshold`` are drawn. Where no box reaches it and a flag says that class
    and boxes disagree, the best box is drawn thin and marked as unsure. The boxes of the truth are dashed. The map is
    drawn on a second copy of the slice.

    Args:
        pixels: the slice, ``(H, W)``.
        fused: class, boxes and flags of the slice.
        title: name of the slice.
        model: name and version of the model.
        heat: activation map of the class.
        truth: the labelled sample.

    Returns:
        An RGB picture; the slice's longer side is 512 to 1024 pixels of it.
    """
    from PIL import Image, ImageDraw

    scale = _scale(*pixels.shape)
    slice_picture = _resized(pixels, scale)
    unit = max(14, round(max(slice_picture.size) / 38))
    shown = shown_boxes(fused)
    small = font(round(0.85 * unit))
    tiles = [(["Prediction"], _with_boxes(slice_picture, fused, shown, truth, scale, unit))]
    if heat is not None:
        # A map of zeros looks like the bare slice, so the caption says that it is one.
        what = "Evidence" if heat.values.max() > 0 else "No evidence"
        caption = f"{what} for {(fused.label or '?').replace('_', ' ')} (LayerCAM)"
        lines = [shorten(caption, small, slice_picture.width), *wrapped(heat.fit, small, slice_picture.width)]
        tiles.append((lines, _with_heat(slice_picture, heat.values)))
    side = panel(fused, truth, shown, unit, slice_picture.height, model)
    gap, row = unit // 2, round(1.1 * unit)
    head = 4 * unit + row * (max(len(lines) for lines, _ in tiles) - 1)
    widths = [tile.width + gap for _, tile in tiles]
    canvas = Image.new("RGB", (gap + sum(widths) + side.width, head + side.height + gap), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    _header(draw, title, pixels, canvas.width, unit)
    left = gap
    for lines, tile in tiles:
        for above, line in enumerate(reversed(lines)):
            draw.text((left, head - 0.4 * unit - above * row), line, font=small, fill=FAINT, anchor="ls")
        canvas.paste(tile, (left, head))
        left += tile.width + gap
    canvas.paste(side, (left, head))
    return canvas


def shown_boxes(fused: FusedOutputs) -> list[int]:
    """Indices of the boxes that are drawn, best score first."""
    sure = [i for i, score in enumerate(fused.scores) if score >= fused.box_threshold]
    if not sure and len(fused.scores) and {TUMOR_WITHOUT_BOX, CLASS_BOX_CONFLICT}.intersection(fused.flags):
        return [0]
    return sure[:MOST_DRAWN]


def _scale(height: int, width: int) -> float:
    side = max(height, width)
    if side > LARGEST_SIDE:
        return LARGEST_SIDE / side
    return float(math.ceil(SMALLEST_SIDE / side))


def _resized(pixels: Pixels, scale: float) -> Image:
    from PIL import Image

    height, width = pixels.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # LANCZOS reduces without moiré; BICUBIC enlarges without ringing at the bright skull.
    kind = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return Image.fromarray(pixels).resize(size, kind).convert("RGB")


def _header(draw: ImageDraw, title: str, pixels: Pixels, width: int, unit: int) -> None:
    face, small = font(unit, bold=True), font(round(0.85 * unit))
    size = f"{pixels.shape[1]} × {pixels.shape[0]} pixels"
    room = width - small.getlength(size) - 3 * unit
    draw.text((unit // 2, 1.2 * unit), shorten(title, face, room), font=face, fill=INK, anchor="lm")
    draw.text((width - unit, 1.2 * unit), size, font=small, fill=FAINT, anchor="rm")


def _with_boxes(
    picture: Image, fused: FusedOutputs, shown: Sequence[int], truth: Sample | None, scale: float, unit: int
) -> Image:
    from PIL import ImageDraw

    picture = picture.copy()
    if truth is not None and len(truth.boxes_xyxy):
        draw = ImageDraw.Draw(picture)
        for box in _inside(truth.boxes_xyxy * scale, picture):
            _dashed(draw, box, unit)
    return _annotated(picture, fused, shown, scale, unit) if shown else picture


def _annotated(picture: Image, fused: FusedOutputs, shown: Sequence[int], scale: float, unit: int) -> Image:
    """``picture`` with boxes and their labels drawn on it."""
    from PIL import ImageDraw

    names = [fused.box_labels[i] for i in shown]
    colors = [color_of(name, tuple(fused.probabilities)) for name in names]
    boxes = _inside(fused.boxes_xyxy[list(shown)] * scale, picture)
    unsure = fused.scores[shown[0]] < fused.box_threshold
    texts = [
        f"{name.replace('_', ' ')}{'?' if unsure else ''} {fused.scores[i]:.2f}"
        for name, i in zip(names, shown, strict=True)
    ]
    draw = ImageDraw.Draw(picture)
    draw_boxes(draw, boxes, colors, 1 if unsure else max(2, unit // 7))
    draw_labels(draw, boxes, texts, colors, unit, picture.size)
    return picture


def _inside(boxes: FloatArray, picture: Image) -> FloatArray:
    """Boxes clipped so that their lines lie inside the picture; the last pixel column is at width - 1."""
    limit = np.array([picture.width, picture.height, picture.width, picture.height], dtype=np.float32) - 1
    return np.clip(boxes, 0, limit).astype(np.float32)


def _dashed(draw: ImageDraw, box: FloatArray, unit: int) -> None:
    """A white dashed rectangle with a dark rim."""
    x1, y1, x2, y2 = (float(v) for v in box)
    dash, width = 0.6 * unit, max(2, unit // 8)
    for (ax, ay), (bx, by) in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        length = math.hypot(bx - ax, by - ay)
        pieces = max(1, round(length / (2 * dash)))
        for ink, line in (((0, 0, 0), width + 2), ((255, 255, 255), width)):
            for i in range(pieces):
                start, end = i / pieces, (i + 0.5) / pieces
                points = (ax + start * (bx - ax), ay + start * (by - ay), ax + end * (bx - ax), ay + end * (by - ay))
                draw.line(points, fill=ink, width=line)


def heat_layer(heat: FloatArray) -> Pixels:
    """A heatmap ``(H, W)`` in [0, 1] as ``(H, W, 4)`` uint8 RGBA, whose opacity is its value."""
    from matplotlib import colormaps

    values = np.clip(heat, 0, 1)
    colors = np.dstack([colormaps["inferno"](values)[..., :3], values])
    return (colors * 255).round().astype(np.uint8)


def _with_heat(picture: Image, heat: FloatArray) -> Image:
    """The slice with the heatmap over it, whose opacity grows with its value, up to 0.6."""
    from PIL import Image

    small = Image.fromarray(heat).resize(picture.size, Image.Resampling.BILINEAR)
    layer = heat_layer(np.asarray(small)).astype(np.float32)
    share = 0.6 * layer[..., 3:] / 255
    return Image.fromarray((np.asarray(picture) * (1 - share) + layer[..., :3] * share).round().astype(np.uint8))
