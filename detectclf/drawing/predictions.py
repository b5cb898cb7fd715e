"""A slice with what was predicted of it, as a radiologist would want it: anatomy free, facts beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

from detectclf.drawing.palette import color_of, text_color_on
from detectclf.drawing.panel import BACKGROUND, FAINT, INK, font, font_file, panel, shorten
from detectclf.errors import DataError
from detectclf.types import FloatArray, Pixels, Prediction, Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SMALLEST_SIDE, LARGEST_SIDE = 512, 1024
"""Longer side of a drawn slice, pixels: smaller slices are enlarged by a whole number, larger ones reduced."""

MOST_DRAWN = 12
"""Boxes drawn; more would hide the slice."""

_UNSURE_FLAGS = ("tumor_without_box", "class_box_conflict")


def draw_prediction(prediction: Prediction, *, truth: Sample | None = None, pixels: Pixels | None = None) -> Image:
    """The slice with its boxes, and beside it class, probabilities, flags and, where given, the truth (dashed).

    Boxes from ``prediction.box_threshold`` on are drawn. Where a flag says that class and boxes do not fit and no box
    reaches it, the best one is drawn thin and marked as unsure. A heat map gets a picture of its own beside the slice.

    Args:
        prediction: of a readable input.
        truth: the sample as labelled.
        pixels: the slice, where it is at hand; else it is read from the prediction's or the sample's file.

    Returns:
        An RGB picture; the slice's longer side is 512 to 1024 pixels of it.

    Raises:
        DataError: the prediction is of an unreadable input, or its image is gone.
    """
    from PIL import Image, ImageDraw

    if prediction.error is not None or prediction.label is None:
        raise DataError(
            prediction.error or "nothing was predicted", file=prediction.image, remedy="only readable slices are drawn"
        )
    pixels = _pixels_of(prediction, truth) if pixels is None else pixels
    scale = _scale(*pixels.shape)
    slice_picture = _resized(pixels, scale)
    unit = max(14, round(max(slice_picture.size) / 38))
    shown = shown_boxes(prediction)
    tiles = [("Prediction", _with_boxes(slice_picture, prediction, shown, truth, scale, unit))]
    if prediction.heatmap is not None:
        # A map of zeros looks like the bare slice; only the words tell that apart from a map that failed.
        what = "What speaks" if prediction.heatmap.max() > 0 else "Nothing speaks"
        caption = f"{what} for {prediction.label.replace('_', ' ')} (Grad-CAM)"
        tiles.append((caption, _with_heat(slice_picture, prediction.heatmap)))
    side = panel(prediction, truth, shown, unit, slice_picture.height)
    gap, head = unit // 2, 4 * unit
    widths = [tile.width + gap for _, tile in tiles]
    canvas = Image.new("RGB", (gap + sum(widths) + side.width, head + side.height + gap), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    _header(draw, prediction, canvas.width, unit)
    left = gap
    for caption, tile in tiles:
        face = font(round(0.85 * unit))
        draw.text((left, head - 0.4 * unit), shorten(caption, face, tile.width), font=face, fill=FAINT, anchor="ls")
        canvas.paste(tile, (left, head))
        left += tile.width + gap
    canvas.paste(side, (left, head))
    return canvas


def shown_boxes(prediction: Prediction) -> list[int]:
    """Indices of the boxes that are drawn, best first."""
    sure = [i for i, score in enumerate(prediction.scores) if score >= prediction.box_threshold]
    if not sure and len(prediction.scores) and any(flag in prediction.flags for flag in _UNSURE_FLAGS):
        return [0]
    return sure[:MOST_DRAWN]


def _pixels_of(prediction: Prediction, truth: Sample | None) -> Pixels:
    if prediction.pixels is not None:
        return prediction.pixels
    from detectclf.imaging.images import read_image

    if truth is not None:
        return read_image(truth.path, span=truth.span)
    if prediction.path is None:
        raise DataError("its file is not known", file=prediction.image, remedy="give the pixels to draw on")
    return read_image(prediction.path, span=prediction.span, frame=prediction.frame, axis=prediction.axis)


def _scale(height: int, width: int) -> float:
    side = max(height, width)
    if side > LARGEST_SIDE:
        return LARGEST_SIDE / side
    return float(math.ceil(SMALLEST_SIDE / side))


def _resized(pixels: Pixels, scale: float) -> Image:
    from PIL import Image

    height, width = pixels.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # LANCZOS reduces without moire; BICUBIC enlarges without ringing at the bright skull.
    kind = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return Image.fromarray(pixels).resize(size, kind).convert("RGB")


def _header(draw: ImageDraw, prediction: Prediction, width: int, unit: int) -> None:
    face, small = font(unit, bold=True), font(round(0.85 * unit))
    size = f"{prediction.width} × {prediction.height} pixels"
    room = width - small.getlength(size) - 3 * unit
    name = " ".join([PurePath(prediction.image).name, *([f"({prediction.part})"] if prediction.part else [])])
    draw.text((unit // 2, 1.2 * unit), shorten(name, face, room), font=face, fill=INK, anchor="lm")
    draw.text((width - unit, 1.2 * unit), size, font=small, fill=FAINT, anchor="rm")


def _with_boxes(
    picture: Image, prediction: Prediction, shown: Sequence[int], truth: Sample | None, scale: float, unit: int
) -> Image:
    from PIL import ImageDraw

    picture = picture.copy()
    if truth is not None and len(truth.boxes_xyxy):
        draw = ImageDraw.Draw(picture)
        for box in _inside(truth.boxes_xyxy * scale, picture):
            _dashed(draw, box, unit)
    return _annotated(picture, prediction, shown, scale, unit) if shown else picture


def _annotated(picture: Image, prediction: Prediction, shown: Sequence[int], scale: float, unit: int) -> Image:
    """Boxes and their labels by supervision's annotators."""
    import supervision as sv

    names = tuple(prediction.probabilities)
    labels = [prediction.box_labels[i] for i in shown]
    colors = [color_of(name, names) for name in labels]
    boxes = _inside(prediction.boxes_xyxy[list(shown)] * scale, picture)
    # Class ids are positions in `shown`, so that the palette gives each box the colour of its class.
    ids = np.arange(len(shown))
    palette = sv.ColorPalette([sv.Color(*color) for color in colors])
    inks = sv.ColorPalette([sv.Color(*text_color_on(color)) for color in colors])
    unsure = prediction.scores[shown[0]] < prediction.box_threshold
    line = 1 if unsure else max(2, unit // 7)
    # A dark rim keeps the line visible on bright slices, as its colour does on dark ones.
    for color, width in ((sv.Color(0, 0, 0), line + 2), (palette, line)):
        picture = sv.BoxAnnotator(color=color, thickness=width).annotate(picture, sv.Detections(boxes, class_id=ids))
    words = [
        f"{name.replace('_', ' ')}{'?' if unsure else ''} {prediction.scores[i]:.2f}"
        for name, i in zip(labels, shown, strict=True)
    ]
    above = boxes[:, 1] >= round(1.8 * unit)
    for place, rows in ((sv.Position.TOP_LEFT, ids[above]), (sv.Position.BOTTOM_LEFT, ids[~above])):
        annotator = sv.RichLabelAnnotator(
            color=palette,
            text_color=inks,
            font_path=font_file(),
            font_size=unit,
            text_padding=max(3, unit // 4),
            text_position=place,
            smart_position=True,  # moves labels apart and keeps them inside the picture
        )
        if len(rows):
            placed = sv.Detections(boxes[rows], class_id=rows)
            picture = annotator.annotate(picture, placed, labels=[words[row] for row in rows])
    return picture


def _inside(boxes: FloatArray, picture: Image) -> FloatArray:
    """Boxes whose lines lie inside the picture: the right edge ``x2`` is the pixel before it."""
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


def _with_heat(picture: Image, heat: FloatArray) -> Image:
    """The slice with the map over it: the hotter, the less the slice shows through, up to six tenths."""
    from matplotlib import colormaps
    from PIL import Image

    small = Image.fromarray(heat).resize(picture.size, Image.Resampling.BILINEAR)
    values = np.clip(np.asarray(small), 0, 1)
    colors = colormaps["inferno"](values)[..., :3] * 255
    share = 0.6 * values[..., None]
    return Image.fromarray((np.asarray(picture) * (1 - share) + colors * share).round().astype(np.uint8))
