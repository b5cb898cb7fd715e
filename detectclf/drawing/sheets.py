"""Contact sheets: many slices with their boxes in one picture, in a grid or in rows with a heading each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detectclf.drawing.palette import Rgb, color_of, text_color_on
from detectclf.drawing.panel import BACKGROUND, FAINT, INK, font, shorten
from detectclf.types import Dataset, FloatArray, Pixels, Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw


GAP = 6  # pixels between tiles
ALARM: Rgb = (255, 130, 90)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One slice on a sheet.

    Attributes:
        pixels: ``(H, W)`` uint8.
        boxes_xyxy: ``(N, 4)`` float32 pixels of ``pixels``.
        box_labels: class name of each box.
        label: class of the slice, ``None`` where it is not known.
        caption: a line under the slice, such as its file name; shortened in the middle if it is too long.
    """

    pixels: Pixels
    boxes_xyxy: FloatArray
    box_labels: tuple[str, ...] = ()
    label: str | None = None
    caption: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Tiles under one heading; ``alarm`` colours the heading, as for leakage between splits."""

    heading: str
    tiles: tuple[Tile, ...]
    alarm: bool = False


def contact_sheet(
    tiles: Sequence[Tile], classes: Sequence[str], *, columns: int | None = None, tile_size: int = 240, title: str = ""
) -> Image:
    """All ``tiles`` in a grid, with a title above and the colours of the classes below.

    Args:
        tiles: any number, even none.
        classes: all classes of the data set, which decide the colours.
        columns: tiles per line; by default so many that the sheet is about 4 to 3.
        tile_size: longer side of each slice, pixels.
        title: a line above; by default the number of slices.

    Returns:
        An RGB picture.
    """
    columns = columns or max(1, min(len(tiles), round(np.sqrt(max(len(tiles), 1) * 4 / 3))))
    lines = [tuple(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return _sheet([Row("", line) for line in lines], classes, columns, tile_size, title or f"{len(tiles)} slices")


def row_sheet(
    rows: Sequence[Row], classes: Sequence[str], *, columns: int = 6, tile_size: int = 180, title: str = ""
) -> Image:
    """One heading and one line of tiles per row, such as a group of copies; the heading counts the tiles left out.

    Args:
        rows: such as groups of copies.
        classes: all classes of the data set, which decide the colours.
        columns: most tiles per row.
        tile_size: longer side of each slice, pixels.
        title: a line above; by default the number of groups.

    Returns:
        An RGB picture.
    """
    shown = []
    for row in rows:
        more = f"   (+ {len(row.tiles) - columns} more)" if len(row.tiles) > columns else ""
        shown.append(Row(row.heading + more, row.tiles[:columns], row.alarm))
    columns = max((len(row.tiles) for row in shown), default=1)
    # A heading needs the width of three tiles, even above one.
    return _sheet(shown, classes, max(columns, 3), tile_size, title or f"{len(rows)} groups")


def side_by_side(sheets: Sequence[Image]) -> Image:
    """One or more sheets in one RGB picture, left to right, aligned at the top."""
    from PIL import Image as Pillow

    whole = Pillow.new("RGB", (sum(s.width for s in sheets), max(s.height for s in sheets)), BACKGROUND)
    left = 0
    for sheet in sheets:
        whole.paste(sheet, (left, 0))
        left += sheet.width
    return whole


def tile_of(sample: Sample, pixels: Pixels, caption: str | None = None) -> Tile:
    """``sample`` as a tile; the default caption is split and name, with a note where its boxes are unknown."""
    if caption is None:
        caption = f"{sample.split}/{sample.name}" + ("" if sample.boxed else " · boxes unknown")
    return Tile(pixels, sample.boxes_xyxy, sample.box_labels, sample.label, caption)


def spread(dataset: Dataset, count: int, seed: int = 0) -> tuple[Sample, ...]:
    """At most ``count`` samples, about equally many per class, drawn at random by ``seed``; ordered by class."""
    rng = np.random.default_rng(seed)
    order = {name: number for number, name in enumerate(dataset.classes)}
    by_class: dict[str | None, list[Sample]] = {}
    for index in rng.permutation(len(dataset.samples)):
        sample = dataset.samples[index]
        by_class.setdefault(sample.label, []).append(sample)
    turns = [(turn, sample) for samples in by_class.values() for turn, sample in enumerate(samples)]
    turns.sort(key=lambda pair: (pair[0], order.get(pair[1].label or "", len(order))))
    chosen = [sample for _, sample in turns[:count]]
    return tuple(sorted(chosen, key=lambda sample: order.get(sample.label or "", len(order))))


def sample_tiles(samples: Sequence[Sample]) -> list[Tile]:
    """The tiles of ``samples``, whose pixels are read here.

    Raises:
        DataError: a slice cannot be read.
        UnsafeError: a slice is refused as unsafe.
    """
    from detectclf.imaging.images import read_pixels

    return [tile_of(sample, read_pixels(sample)) for sample in samples]


def _sheet(rows: Sequence[Row], classes: Sequence[str], columns: int, side: int, title: str) -> Image:
    from PIL import Image, ImageDraw

    text = max(11, side // 18)
    bar, head = round(1.7 * text), round(2.2 * text)
    width = max(columns * (side + GAP) + GAP, 24 * text)
    heights = [(head if row.heading else 0) + side + bar + GAP for row in rows]
    names = [name for name in classes if any(name == t.label or name in t.box_labels for r in rows for t in r.tiles)]
    legend = _legend_lines(names, text, width)
    height = head + sum(heights) + len(legend) * round(1.9 * text) + GAP
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, head / 2), shorten(title, font(text, True), width - 2 * GAP), INK, font(text, True), "lm")
    y = head
    for row, taken in zip(rows, heights, strict=True):
        _draw_row(sheet, draw, row, classes, y, side, text)
        y += taken
    for line in legend:
        for x, name in line:
            _chip(draw, x, y + text, name, classes, text)
        y += round(1.9 * text)
    return sheet


def _draw_row(sheet: Image, draw: ImageDraw, row: Row, classes: Sequence[str], y: int, side: int, text: int) -> None:
    if row.heading:
        face = font(text, row.alarm)
        middle = y + round(1.1 * text)
        draw.text(
            (GAP, middle), shorten(row.heading, face, sheet.width - 2 * GAP), ALARM if row.alarm else INK, face, "lm"
        )
        y += round(2.2 * text)
    for column, tile in enumerate(row.tiles):
        x = GAP + column * (side + GAP)
        sheet.paste(_picture(tile, classes, side), (x, y))
        color = color_of(tile.label, classes)
        draw.rectangle((x, y + side, x + side - 1, y + side + 2), fill=color)
        face = font(text - 1)
        line = shorten(tile.caption, face, side - 4)
        draw.text((x + 2, y + side + round(0.95 * text)), line, FAINT, face, "lm")


def _picture(tile: Tile, classes: Sequence[str], side: int) -> Image:
    """The slice with its boxes, resized to fit a square and centred in it."""
    from PIL import Image, ImageDraw

    height, width = tile.pixels.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.new("RGB", (side, side))
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    picture.paste(Image.fromarray(tile.pixels).convert("RGB").resize(size, Image.Resampling.LANCZOS), (left, top))
    draw = ImageDraw.Draw(picture)
    stroke = max(2, side // 120)
    for box, name in zip(tile.boxes_xyxy, tile.box_labels, strict=True):
        x1, y1, x2, y2 = (float(v) for v in box * np.float32(scale) + np.array([left, top, left, top], np.float32))
        # Outside the box, so that its content stays visible; the black line shows up on bright scalp.
        for grow, color in ((stroke + 1, (0, 0, 0)), (stroke, color_of(name, classes))):
            thick = stroke + 2 if color == (0, 0, 0) else stroke
            draw.rectangle((x1 - grow, y1 - grow, max(x1, x2 + grow - 1), max(y1, y2 + grow - 1)), None, color, thick)
    return picture


def _legend_lines(names: Sequence[str], text: int, width: int) -> list[list[tuple[float, str]]]:
    """The legend: lines of (x, class name), each at most ``width`` wide."""
    lines: list[list[tuple[float, str]]] = []
    x = float(width)
    for name in names:
        wide = font(text).getlength(name) + 2.2 * text
        if x + wide > width or not lines:
            lines.append([])
            x = GAP
        lines[-1].append((x, name))
        x += wide
    return lines


def _chip(draw: ImageDraw, x: float, y: float, name: str, classes: Sequence[str], text: int) -> None:
    color, face = color_of(name, classes), font(text)
    wide = face.getlength(name) + text
    draw.rounded_rectangle((x, y - 0.75 * text, x + wide, y + 0.75 * text), 3, color)
    draw.text((x + text / 2, y), name, text_color_on(color), face, "lm")
