"""The panel beside a drawn slice: class, probabilities, boxes, flags and truth. It covers no part of the slice."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.drawing.palette import Rgb, color_of, text_color_on
from detectclf.errors import one_line
from detectclf.types import (
    ARTEFACTS,
    CLASS_BOX_CONFLICT,
    CROPPED,
    LOW_CONFIDENCE,
    NOT_A_BRAIN_MRI,
    ORIENTATION,
    SEVERAL_SLICES,
    TUMOR_WITHOUT_BOX,
    FusedOutputs,
    Sample,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont


BACKGROUND: Rgb = (18, 20, 24)
INK: Rgb = (238, 240, 243)
FAINT: Rgb = (160, 166, 175)
_TRACK: Rgb = (52, 57, 65)
_WARNING: Rgb = (255, 196, 61)

FOOTER = "Research use, not for diagnosis"

MOST_CLASSES = 8
"""Classes shown; of more classes, the most probable ones are."""
MOST_BOXES = 6
"""Boxes listed."""

CROP_ADVICE = "crop to the slice"
"""What to do with a picture that shows more than a slice."""

FLAG_TEXTS = {
    CLASS_BOX_CONFLICT: "the boxes alone say another class",
    LOW_CONFIDENCE: "low confidence",
    TUMOR_WITHOUT_BOX: "tumour called, no sure box",
    NOT_A_BRAIN_MRI: f"no brain MRI; if it is a screen or a page, {CROP_ADVICE}",
    SEVERAL_SLICES: f"one of several heads: {CROP_ADVICE}",
    CROPPED: f"the head in a larger picture: {CROP_ADVICE}",
    ARTEFACTS: "noise, stripes or dots were removed",
    ORIENTATION: "seems turned: set it upright",
}
"""Flag -> text on the panel; a flag that is not listed is its own text."""


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib ships, in ``size`` pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(font_file(bold), size)


@lru_cache(maxsize=2)
def font_file(bold: bool = False) -> str:
    """Path of the font."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    package = find_spec("matplotlib")
    # Where its wheels have the fonts, so that matplotlib itself is not imported, which takes longer than a prediction.
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / name
        if file.is_file():
            return str(file)
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


def shorten(text: str, face: FreeTypeFont, width: float) -> str:
    """``text`` on one line; where it is wider than ``width`` pixels, its middle is replaced by an ellipsis."""
    text = one_line(text)
    if face.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        cut = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if face.getlength(cut) <= width:
            return cut
    return "…"


def wrapped(text: str, face: FreeTypeFont, width: float) -> list[str]:
    """``text`` as lines of at most ``width`` pixels, broken at spaces, but not before a per cent sign."""
    lines: list[str] = []
    row = ""
    for word in text.replace(" %", "\u00a0%").split(" "):
        longer = f"{row} {word}".strip(" ")
        if row and face.getlength(longer) > width:
            lines.append(row)
            longer = word
        row = longer
    return [*lines, row]


def panel(
    fused: FusedOutputs, truth: Sample | None, shown: Sequence[int], unit: int, least_height: int, model: str
) -> Image:
    """The panel of one slice, at least ``least_height`` high.

    Args:
        fused: class, boxes and flags of the slice.
        truth: the labelled sample, or ``None``.
        shown: indices of the boxes that are drawn.
        unit: height of the text, pixels; every other length is a multiple of it.
        least_height: pixels.
        model: name and version of the model, for the footer.
    """
    from PIL import Image, ImageDraw

    width = 21 * unit
    # The height is known only at the end, so the sheet is made long enough for anything and then cropped.
    longest = least_height + unit * (2 * (MOST_CLASSES + MOST_BOXES + 3 * len(fused.flags)) + 40)
    sheet = Image.new("RGB", (width, longest), BACKGROUND)
    pen = _Pen(ImageDraw.Draw(sheet), unit, width)
    if fused.judged:
        _class_lines(pen, fused)
        _probability_lines(pen, fused)
        _box_lines(pen, fused, shown)
    else:
        pen.heading("Slice class")
        pen.line("refused", INK, bold=True, scale=1.5)
    if fused.flags:
        pen.heading("For review")
        for flag in fused.flags:
            pen.paragraph(f"! {FLAG_TEXTS.get(flag, flag.replace('_', ' '))}", _WARNING)
    if truth is not None:
        _truth_lines(pen, fused, truth)
    height = max(least_height, pen.y + 5 * unit)
    sheet = sheet.crop((0, 0, width, height))
    pen = _Pen(ImageDraw.Draw(sheet), unit, width)
    pen.y = height - round(3.9 * unit)
    pen.line(FOOTER, INK, bold=True, scale=0.85)
    pen.line(model, FAINT, scale=0.85)
    return sheet


class _Pen:
    """Writes lines of text, each below the one before."""

    def __init__(self, draw: ImageDraw, unit: int, width: int) -> None:
        self.draw, self.unit = draw, unit
        self.left, self.right = unit, width - unit
        self.y = unit

    def heading(self, text: str) -> None:
        self.y += round(0.7 * self.unit)
        self.line(text, FAINT, scale=0.85)

    def line(self, text: str, color: Rgb = INK, *, bold: bool = False, scale: float = 1.0, indent: float = 0.0) -> None:
        face = font(round(self.unit * scale), bold)
        x = self.left + indent * self.unit
        self.draw.text((x, self.y), shorten(text, face, self.right - x), font=face, fill=color)
        self.y += round(1.5 * self.unit * scale)

    def paragraph(self, text: str, color: Rgb) -> None:
        """Several lines where one is too short: what a human has to do is not cut out of the middle."""
        for row in wrapped(text, font(self.unit), self.right - self.left):
            self.line(row, color)

    def swatch(self, color: Rgb) -> None:
        top = self.y + round(0.12 * self.unit)
        self.draw.rectangle((self.left, top, self.left + round(0.8 * self.unit), top + round(0.8 * self.unit)), color)


def _class_lines(pen: _Pen, fused: FusedOutputs) -> None:
    color = color_of(fused.label, tuple(fused.probabilities))
    unit = pen.unit
    face, small = font(round(1.5 * unit), bold=True), font(round(1.25 * unit), bold=True)
    pen.line("Slice class", FAINT, scale=0.85)
    chance = "" if fused.confidence is None else percent(fused.confidence)
    room = pen.right - pen.left
    text = shorten((fused.label or "?").replace("_", " "), face, room - 1.2 * unit)
    tag_width = face.getlength(text) + 1.2 * unit
    # A tag in the class's colour, which the boxes of the class have too.
    tag = (pen.left, pen.y, pen.left + tag_width, pen.y + 2.4 * unit)
    pen.draw.rounded_rectangle(tag, radius=0.4 * unit, fill=color)
    middle = pen.y + 1.2 * unit
    pen.draw.text((pen.left + 0.6 * unit, middle), text, font=face, fill=text_color_on(color), anchor="lm")
    if tag_width + small.getlength(chance) + 0.6 * unit > room:
        middle += 2.3 * unit
    pen.draw.text((pen.right, middle), chance, font=small, fill=INK, anchor="rm")
    pen.y = round(middle + 1.7 * unit)
    likeliest = max(fused.probabilities, key=lambda name: fused.probabilities[name], default=None)
    if likeliest not in (None, fused.label):
        # The operating point chose another class than the most probable one.
        pen.line(f"{str(likeliest).replace('_', ' ')} is likelier, not sure enough", _WARNING, scale=0.85)


def percent(share: float) -> str:
    """``share`` in per cent; only 0 and 1 themselves become 0 % and 100 %."""
    if share > 0.999:
        return "> 99.9 %" if share < 1 else "100 %"
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _probability_lines(pen: _Pen, fused: FusedOutputs) -> None:
    pen.heading("Probability of each class")
    names = tuple(fused.probabilities)
    unit, small = pen.unit, font(round(0.9 * pen.unit))
    for name in sorted(names, key=lambda name: -fused.probabilities[name])[:MOST_CLASSES]:
        share = fused.probabilities[name]
        start, end = pen.left + 6.8 * unit, pen.right - 5.2 * unit
        middle = pen.y + 0.65 * unit
        text = shorten(name.replace("_", " "), small, 6.4 * unit)
        pen.draw.text((pen.left, middle), text, font=small, fill=INK, anchor="lm")
        pen.draw.rectangle((start, middle - 0.35 * unit, end, middle + 0.35 * unit), _TRACK)
        if share > 0:
            bar = (start, middle - 0.35 * unit, start + share * (end - start), middle + 0.35 * unit)
            pen.draw.rectangle(bar, color_of(name, names))
        pen.draw.text((pen.right, middle), percent(share), font=small, fill=INK, anchor="rm")
        pen.y += round(1.5 * unit)
    if len(names) > MOST_CLASSES:
        pen.line(f"and {len(names) - MOST_CLASSES} less likely ones", FAINT, scale=0.85)


def _box_lines(pen: _Pen, fused: FusedOutputs, shown: Sequence[int]) -> None:
    pen.heading("Boxes (score)")
    names = tuple(fused.probabilities)
    for i in shown[:MOST_BOXES]:
        pen.swatch(color_of(fused.box_labels[i], names))
        note = " (unsure)" if fused.scores[i] < fused.box_threshold else ""
        pen.line(f"{fused.box_labels[i].replace('_', ' ')}  {fused.scores[i]:.2f}{note}", indent=1.3)
    if len(shown) > MOST_BOXES:
        pen.line(f"and {len(shown) - MOST_BOXES} more", FAINT, scale=0.85)
    if not shown:
        pen.line(f"none of {fused.box_threshold:.2f} or more")


def _truth_lines(pen: _Pen, fused: FusedOutputs, truth: Sample) -> None:
    pen.heading("Truth (dashed)")
    label = "not known" if truth.label is None else truth.label.replace("_", " ")
    verdict = "" if truth.label is None else " - as predicted" if truth.label == fused.label else " - differs"
    pen.swatch(color_of(truth.label, tuple(fused.probabilities)))
    pen.line(label + verdict, indent=1.3)
    boxes = (
        f"{len(truth.box_labels)} box{'' if len(truth.box_labels) == 1 else 'es'}" if truth.boxed else "boxes unknown"
    )
    pen.line(boxes, FAINT, scale=0.85, indent=1.3)
