"""Finds the part of a picture that is a slice: the head with some air round it, whatever else the picture shows.

The networks are trained on slices whose head fills most of the frame. So a slice is shown to them whole where its head
is large. A smaller head is cropped to; and where the head is large in a panel of the picture, such as the slice on a
page, that panel is taken. A bright background and words beside the head are made black, as air is. Air that is dark
stays as it is: the networks know its noise from their training, and say other things where it is gone (docs/log.md).
Boxes are mapped back by :attr:`Framed.part`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from detectclf.imaging.heads import LARGE, SIDE, Box, Head, apart, look, shrink
from detectclf.types import Pixels

Number = TypeVar("Number", np.uint8, np.float32)

LONGEST_SLICE = 1.5
"""Aspect ratio (longer over shorter side) up to which an image is kept whole: slices are about as wide as high."""
HEAD_SHARE = 0.82
"""Share of the longer side of a crop that its head has, as in most training slices."""
_AIR = 0.05  # width of the air that is kept round a head, as a share of its longer side: outlines are not exact
_BLOCK, _BRIGHT, _BRIGHT_SHARE = 6, 40, 0.5
"""Squares of so many pixels, which are bright with more than so many grey levels; the background is, with this share of
bright ones."""
_ALIKE = 0.3  # least area of another slice, as a share of that of the first
_EVEN = 24  # most grey levels between the darkest and the brightest squares of an even frame
_PANELS, _DEPTH = 3, 2  # panels searched in one picture; how deep they are nested
_LEAST_IN_PANEL = 0.2  # longer side of a head as a share of the panel's: what is smaller is a part of a head
_LEAST_SIDE = 48  # pixels of the shorter side of a picture or panel in which heads are looked for
_GREY = 20  # most grey levels of air
_EVEN_SHARE = 0.8  # least share of the border that has one grey level, where the background is even
_STILL = 3  # most grey levels that an even background varies without noise
_ABOUT_AS_LARGE, _LARGER = 0.97, 1.1
"""How large a head on black is at least, by the head found otherwise; the second where that lies in a panel, such as
the slice on a page, which is a better bound than the background."""
_FLAT = 8
"""Most grey levels that a flat line may span, or differ from the outermost line, because JPEG adds ripples."""


class Part(NamedTuple):
    """A rectangle in an image, pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """The pixels of the rectangle, as a view."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


class Framed(NamedTuple):
    """What the networks see of a picture.

    Attributes:
        part: the rectangle of the picture.
        pixels: its pixels, without a bright background or words.
        head: the head in these pixels, or ``None``.
        several: whether the picture shows other heads of about this size.
        more: whether the picture shows anything outside the part, such as words; an even frame is nothing.
    """

    part: Part
    pixels: Pixels
    head: Head | None
    several: bool
    more: bool


class _Slice(NamedTuple):
    """A place where a slice may be: its head, and the panel that frames it; one of them may be unknown."""

    head: Head | None
    panel: Box | None

    @property
    def box(self) -> Box:
        box = self.panel if self.head is None else self.head.box
        assert box is not None
        return box

    @property
    def weight(self) -> float:
        """Of equal heads the one with a panel is better."""
        return 0.0 if self.head is None else self.head.weight * (1.5 if self.panel else 1.0)

    def moved(self, left: float, top: float) -> _Slice:
        head = None if self.head is None else self.head.moved(left, top)
        panel = None if self.panel is None else self.panel.moved(left, top)
        return _Slice(head, panel)


def framed(pixels: Pixels) -> Framed:
    """What the networks see of a picture.

    Args:
        pixels: ``(H, W)`` uint8.
    """
    slices, cut = _slices(pixels, _DEPTH), pixels
    dark = _on_black(pixels)
    if dark is not None:
        # Outlines are steps to darker air, and an even background can be as bright as the head.
        others = _slices(dark, _DEPTH)
        in_panel = bool(slices) and slices[0].panel is not None and slices[0].panel.area < pixels.size
        if _largest(others) > (_LARGER if in_panel else _ABOUT_AS_LARGE) * _largest(slices):
            cut, slices = dark, others
    if not slices:
        part = _without_strips(pixels)
        return Framed(part, part.of(pixels), None, several=False, more=_shows_more(pixels, part))
    first = slices[0]
    part = _part(first, pixels)
    shown, head = part.of(cut), None
    if first.head is not None:
        head = first.head.moved(-part.left, -part.top)
        shown = _without_background(shown, head)
    alike = [each for each in slices if each.head is not None and each.box.area > _ALIKE * first.box.area]
    return Framed(part, shown, head, several=len(alike) > 1, more=_shows_more(pixels, part))


def _on_black(pixels: Pixels) -> Pixels | None:
    """The pixels with a bright and even background, as far as it is joined to the border, made black; or ``None``."""
    import cv2

    border, given = _border(pixels), pixels
    level = int(np.median(border))
    if level <= _GREY:
        return None
    # As little as the background varies: tissue of nearly its grey level is joined to it here and there.
    varies = _varies(border, level)
    if varies > _STILL:
        # Noise, as on a photograph or scan; a median leaves the edges where they are.
        pixels = np.asarray(cv2.medianBlur(pixels, 5), dtype=np.uint8)
        varies = max(_STILL, _varies(_border(pixels), level))
    if varies > _FLAT:
        return None
    # With a line round the picture all of it is one region.
    alike = np.pad(
        (cv2.absdiff(pixels, np.full_like(pixels, level)) <= varies + 1).astype(np.uint8), 1, constant_values=1
    )
    _, labels = cv2.connectedComponents(alike, connectivity=4)
    return np.where(labels[1:-1, 1:-1] == labels[0, 0], np.uint8(0), given)


def _border(pixels: Pixels) -> npt.NDArray[np.int16]:
    """The outermost pixels."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)


def _varies(border: npt.NDArray[np.int16], level: int) -> int:
    """By how many grey levels most of the border differs from its middle level at most."""
    return round(float(np.quantile(np.abs(border - level), _EVEN_SHARE)))


def _largest(slices: list[_Slice]) -> float:
    """Longer side of the head of the first slice; 0 where there is none."""
    return 0.0 if not slices or slices[0].head is None else slices[0].head.box.longer


def _slices(pixels: Pixels, depth: int) -> list[_Slice]:
    """The slices in a picture, the largest head first; panels in which no head is found come last."""
    if min(pixels.shape) < _LEAST_SIDE:
        return []
    found = look(pixels, whole=depth == _DEPTH)
    whole = Box(0, 0, pixels.shape[1], pixels.shape[0])
    if found.heads and found.heads[0].box.longer >= LARGE * whole.longer:
        return [_Slice(found.heads[0], whole)]
    slices = [_Slice(head, None) for head in found.heads]
    empty = []
    for panel in found.panels[:_PANELS] if depth else []:
        if min(panel.width, panel.height) < _LEAST_SIDE:
            continue
        part = Part(*(int(value) for value in panel))
        inside = [each.moved(part.left, part.top) for each in _slices(part.of(pixels), depth - 1)]
        if inside and (inside[0].panel is not None or inside[0].box.longer >= _LEAST_IN_PANEL * panel.longer):
            slices += inside
        else:
            empty.append(_Slice(None, panel))
    heads = [each for each in slices if each.head is not None]
    rest = [each for each in slices if each.head is None] + empty
    # A small head in an empty panel is a part of the head that fills the panel.
    heads = [
        h
        for h in heads
        if not any(h.box.inside(e.box) > 0.5 and h.box.longer < _LEAST_IN_PANEL * e.box.longer for e in empty)
    ]
    return apart(heads) + sorted(rest, key=lambda each: -each.box.area)


def _part(found: _Slice, pixels: Pixels) -> Part:
    """The panel of a slice, or a square round its head, as far as the picture reaches."""
    height, width = pixels.shape
    if found.panel is not None:
        left, top, across, down = found.panel
    else:
        side = found.box.longer / HEAD_SHARE
        left = found.box.left + (found.box.width - side) / 2
        top = found.box.top + (found.box.height - side) / 2
        across = down = side
    x0, y0 = max(0, int(left)), max(0, int(top))
    x1, y1 = min(width, round(left + across)), min(height, round(top + down))
    return Part(x0, y0, x1 - x0, y1 - y0)


def _without_background(pixels: Pixels, head: Head) -> Pixels:
    """The pixels without what is bright outside the head: a background of one level, or words and lines."""
    import cv2

    outline = head.outline.round().astype(np.int32)
    hull, rim = cv2.convexHull(outline), max(1, round(2 * _AIR * head.box.longer))
    near = np.zeros(pixels.shape, dtype=np.uint8)
    cv2.fillConvexPoly(near, hull, 255)
    cv2.polylines(near, [hull], True, 255, thickness=rim)
    bright, around = _squares(pixels) > _BRIGHT, _squares(near) > 0
    far = bright[~around]
    if not far.any():
        return pixels
    if far.mean() > _BRIGHT_SHARE:
        return _cut_out(pixels, outline, near)
    # What is joined to the head, or nearly, is neck or shoulder.
    square = np.ones((3, 3), np.uint8)
    _, labels = cv2.connectedComponents(cv2.dilate((bright | around).astype(np.uint8), square))
    strange = bright & ~np.isin(labels, np.unique(labels[around]))
    if not strange.any():
        return pixels
    grown = cv2.dilate(strange.astype(np.uint8), square)
    cut = cv2.resize(grown, pixels.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.where((cut > 0) & (near == 0), np.uint8(0), pixels)


def _cut_out(pixels: Pixels, outline: npt.NDArray[np.int32], near: Pixels) -> Pixels:
    """The pixels, black where ``near`` is 0, and everywhere outside the outline if it is bright up to there."""
    import cv2

    tight = np.zeros(pixels.shape, dtype=np.uint8)
    cv2.fillPoly(tight, [outline], 255)
    air = _squares(pixels)[(_squares(near) == 255) & (_squares(tight) == 0)]
    if not air.size or float(np.median(air)) <= _BRIGHT:
        return np.asarray(cv2.bitwise_and(pixels, near), dtype=np.uint8)
    # The outline is as coarse as the small picture that it was found on.
    cv2.polylines(tight, [outline], True, 0, thickness=max(1, round(2 * max(pixels.shape) / SIDE)))
    return np.asarray(cv2.bitwise_and(pixels, tight), dtype=np.uint8)


def _shows_more(pixels: Pixels, part: Part) -> bool:
    if part == (0, 0, pixels.shape[1], pixels.shape[0]):
        return False  # as nearly always, and it takes a tenth of the search otherwise
    outside = np.full(pixels.shape, 255, dtype=np.uint8)
    part.of(outside)[:] = 0
    levels = _squares(pixels)[_squares(outside) == 255]
    return levels.size > 0 and float(np.ptp(np.percentile(levels, (1, 99)))) > _EVEN


def _squares(pixels: Pixels) -> Pixels:
    """The mean of each square of ``_BLOCK`` pixels, so that noise is even."""
    height, width = pixels.shape
    return shrink(pixels, (max(1, width // _BLOCK), max(1, height // _BLOCK)))


def _without_strips(pixels: Pixels) -> Part:
    """The part of a picture without a head: all of it, or of a very long picture what is between flat strips.

    With strips of one grey level at both ends, the slice between them would become small and unlike the training data.
    The flat strips are cut, but no more than makes the image square; the rest is centred on the part that is not flat.

    Args:
        pixels: ``(H, W)`` uint8.
    """
    height, width = pixels.shape
    shorter, longer = sorted((height, width))
    whole = Part(0, 0, width, height)
    if longer <= LONGEST_SLICE * shorter:
        return whole
    lines = pixels if height > width else pixels.T
    before, after = _flat_lines(lines), _flat_lines(lines[::-1])
    if before == longer:
        return whole  # all of it is flat
    length = max(shorter, longer - before - after)
    middle = (before + longer - after) / 2
    start = min(max(0, round(middle - length / 2)), longer - length)
    return Part(0, start, width, length) if height > width else Part(start, 0, length, height)


def _flat_lines(lines: npt.NDArray[np.uint8]) -> int:
    """How many of the ``(N, L)`` lines, counted from the first, have the same single grey level."""
    least, most = lines.min(axis=1).astype(int), lines.max(axis=1).astype(int)
    level = int(np.median(lines[0]))
    uneven = (most - least > _FLAT) | (abs(least - level) > _FLAT) | (abs(most - level) > _FLAT)
    return int(uneven.argmax()) if uneven.any() else len(lines)


__all__ = ["HEAD_SHARE", "LONGEST_SLICE", "Framed", "Part", "framed"]
