"""Finds the head in a picture: a slice, a screenshot, a page, a photograph of a screen.

No network: thresholds give outlines, and an outline is a head where its shape is compact but no rectangle, where it is
about as wide as high, and where it stands out from a ring of air round it. The largest such outline is the head. Where
pages, panels and frames (outlines with four corners) are in the picture, their insides are searched on their own, since
a neck that reaches the edge of a slice joins the head to the page around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from detectclf.types import Pixels

SIDE = 192
"""The longer side, in pixels, that pictures are shrunk to before they are searched."""
LARGE = 0.6
"""Share of the picture's longer side from which on a head counts as large: it is accepted in more shapes, as the
picture is then shown whole."""
LEAST = 0.12
"""Least longer side of a head, as a share of the picture's."""

_LONGEST = 2.6  # longer over shorter side of a head: slices are now and then stretched
_EXTENT = (0.6, 0.93)  # share of the upright box that an outline's hull fills; an ellipse fills 0.785
_SOLID, _LARGE_SOLID = 0.8, 0.55  # least share of its hull that an outline fills: shoulders and ears make it lower
_CORNERS, _QUAD = 0.04, 0.93  # tolerance of a polygon, share of the circumference; share of the hull that it must fill
_CONTACT = 0.33  # most of the picture's border that a head touches: a neck at one side, a little of the others
_STEP = 0.3  # least step at the outline, as a share of the contrast between head and air
_LEAST_CLEAR = 0.6  # least share of the outline that is such a step
_SURE = 0.9  # the share from which on nothing else is looked for
_RING = 7  # pixels round an outline that are looked at
_LEAST_TEXTURE = 6.0  # grey levels: what is more even is no tissue
PANEL_RIM = 1.5  # pixels of a small picture that are cut off a panel, so that no light edge is left

_Grey = npt.NDArray[np.integer[Any] | np.floating[Any]]  # as OpenCV's stubs give it


class Box(NamedTuple):
    """An upright box, pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def longer(self) -> float:
        """The longer side."""
        return max(self.width, self.height)

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.width * self.height

    def moved(self, left: float, top: float) -> Box:
        """The box of a part at ``left``, ``top`` of a picture, in that picture."""
        return Box(self.left + left, self.top + top, self.width, self.height)

    def inside(self, other: Box) -> float:
        """The share of this box that lies in ``other``."""
        width = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        height = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0) / self.area


class Head(NamedTuple):
    """A head: its box in pixels, its outline ``(N, 2)`` float32, x and y, and the share of that which stands out."""

    box: Box
    outline: npt.NDArray[np.float32]
    clear: float

    @property
    def weight(self) -> float:
        """How good a head this is among those that overlap: with text or a glow it would be larger and less clear."""
        return self.box.area * self.clear**4

    def moved(self, left: float, top: float) -> Head:
        """The head of a part at ``left``, ``top`` of a picture, in that picture."""
        return Head(self.box.moved(left, top), self.outline + np.array([left, top], np.float32), self.clear)


class _Weighed(Protocol):
    @property
    def box(self) -> Box: ...

    @property
    def weight(self) -> float: ...


Placed = TypeVar("Placed", bound=_Weighed)


class _Outline(NamedTuple):
    contour: _Grey
    box: tuple[int, int, int, int]
    solidity: float
    hull_area: float
    quad: bool
    contact: float  # share of the picture's border that it touches

    def holds(self, other: _Outline) -> bool:
        x, y, width, height = self.box
        a, b, w, h = other.box
        return x - 1 <= a and y - 1 <= b and a + w <= x + width + 1 and b + h <= y + height + 1


class Found(NamedTuple):
    """What one look at a picture finds: heads and panels, the best and the largest first; heads lie apart."""

    heads: list[Head]
    panels: list[Box]


def look(pixels: Pixels, *, whole: bool) -> Found:
    """The heads and panels in pixels ``(H, W)``, without looking into the panels.

    Args:
        pixels: of a picture or of a panel.
        whole: whether they are the whole picture, whose head may have shoulders and ears.
    """
    small, scale = _shrunk(pixels), max(pixels.shape) / SIDE
    least_solid = _LARGE_SOLID if whole else _SOLID
    quads: list[_Outline] = []
    heads: list[Head] = []
    for mask in _masks(small):
        outlines = list(_outlines(mask))
        quads += [each for each in outlines if each.quad and each.hull_area < 0.85 * small.size]
        for each in outlines:
            clear = _clearness(each, small) if _shaped(each, quads, least_solid) else 0.0
            if clear >= _LEAST_CLEAR:
                heads.append(_head(each, scale, clear))
        if any(each.box.longer >= LARGE * max(pixels.shape) and each.clear >= _SURE for each in heads):
            break  # the usual slice: nothing in it could be larger
    inner = [
        (x + PANEL_RIM, y + PANEL_RIM, width - 2 * PANEL_RIM, height - 2 * PANEL_RIM)
        for x, y, width, height in (each.box for each in _distinct(quads))
    ]
    return Found(apart(heads), [Box(*(round(value * scale) for value in box)) for box in inner])


def apart(found: Iterable[Placed]) -> list[Placed]:
    """``found``, of the largest weight first, without what overlaps with something of a larger one."""
    kept: list[Placed] = []
    for each in sorted(found, key=lambda one: -one.weight):
        if all(max(each.box.inside(other.box), other.box.inside(each.box)) < 0.5 for other in kept):
            kept.append(each)
    return kept


def _distinct(quads: list[_Outline]) -> list[_Outline]:
    """One of each group of nearly equal boxes, the largest first."""
    kept: list[_Outline] = []
    for each in sorted(quads, key=lambda quad: -quad.hull_area):
        if all(np.abs(np.subtract(each.box, other.box)).max() > 0.05 * SIDE for other in kept):
            kept.append(each)
    return kept


def shrink(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """``pixels`` with ``size`` as width and height, each pixel the mean of what it covers.

    By halves first, which OpenCV does twenty times as fast as other factors.
    """
    import cv2

    height, width = pixels.shape
    while width >= 2 * size[0] and height >= 2 * size[1] and width % 2 == 0 and height % 2 == 0:
        width, height = width // 2, height // 2
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shrunk(pixels: Pixels) -> Pixels:
    import cv2

    scale = SIDE / max(pixels.shape)
    size = (max(8, round(pixels.shape[1] * scale)), max(8, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.GaussianBlur(shrink(pixels, size), (0, 0), 0.8), dtype=np.uint8)


def _masks(small: Pixels) -> Iterator[Pixels]:
    """What is brighter than air of several levels, then what differs from the picture's border, if that is not dark."""
    import cv2

    otsu, _ = cv2.threshold(small, 0, 255, cv2.THRESH_OTSU)
    dark = small[small <= otsu]
    air, _ = cv2.threshold(dark[None], 0, 255, cv2.THRESH_OTSU)
    levels = {max(8, int(level)) for level in (0.45 * otsu, 0.7 * otsu, 0.25 * otsu, otsu, air, 1.5 * air, 0.6 * air)}
    for level in sorted(levels):
        yield (small > level).astype(np.uint8)
    border = int(
        np.median(np.concatenate([small[:3].ravel(), small[-3:].ravel(), small[:, :3].ravel(), small[:, -3:].ravel()]))
    )
    if border > 24:
        for difference in (12, 28):
            yield (np.abs(small.astype(np.int16) - border) > difference).astype(np.uint8)


def _outlines(mask: Pixels) -> Iterator[_Outline]:
    """The outlines in a mask, of parts and of holes, that are large and compact enough to be a head or a panel."""
    import cv2

    height, width = mask.shape
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    for contour in cv2.findContours(opened, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]:
        x, y, w, h = cv2.boundingRect(contour)
        if max(w, h) < LEAST * SIDE or min(w, h) < LEAST * SIDE / 2:
            continue
        hull = cv2.convexHull(contour)
        hull_area = float(cv2.contourArea(hull))
        solidity = float(cv2.contourArea(contour)) / max(hull_area, 1.0)
        quad = solidity >= 0.3 and _is_quad(hull, hull_area)
        if quad or solidity >= _LARGE_SOLID:
            column, row = contour[:, 0, 0], contour[:, 0, 1]
            edge = (column <= 1) | (row <= 1) | (column >= width - 2) | (row >= height - 2)
            contact = float(edge.sum()) / (2 * (width + height))
            yield _Outline(contour, (x, y, w, h), solidity, hull_area, quad, contact)


def _is_quad(hull: _Grey, area: float) -> bool:
    import cv2

    polygon = cv2.approxPolyDP(hull, _CORNERS * cv2.arcLength(hull, True), True)
    if len(polygon) == 4 and cv2.contourArea(polygon) >= _QUAD * area:
        return True
    (_, (width, height), _) = cv2.minAreaRect(hull)
    return area >= 0.9 * width * height


def _shaped(outline: _Outline, quads: list[_Outline], large_solid: float) -> bool:
    """Whether an outline has the shape of a head."""
    _, _, width, height = outline.box
    large = max(width, height) >= LARGE * SIDE
    if outline.quad or outline.contact > _CONTACT or outline.solidity < (large_solid if large else _SOLID):
        return False
    if not _EXTENT[0] <= outline.hull_area / (width * height) <= _EXTENT[1]:
        return False
    if max(width, height) > _LONGEST * min(width, height):
        return False
    # A page or a screen of uneven light is no rectangle, but shows one.
    return not any(outline.holds(quad) and 0.05 < quad.hull_area / outline.hull_area < 0.9 for quad in quads)


def _clearness(outline: _Outline, small: Pixels) -> float:
    """The share of the outline that is a step to darker air; 1 where the air is even and brighter, as on a page."""
    import cv2

    x, y, width, height = outline.box
    left, top = max(0, x - _RING), max(0, y - _RING)
    region = small[top : y + height + _RING, left : x + width + _RING]
    filled = np.zeros(region.shape, np.uint8)
    cv2.drawContours(filled, [outline.contour], -1, 255, -1, offset=(-left, -top))
    square = np.ones((3, 3), np.uint8)
    ring = region[(cv2.dilate(filled, square, iterations=4) > 0) & (cv2.dilate(filled, square, iterations=2) == 0)]
    inside = region[filled > 0]
    if not ring.size or inside.std() < _LEAST_TEXTURE:
        return 0.0
    air = float(np.median(ring))
    usual, most = (float(value) - air for value in np.percentile(inside, (90, 99)))
    contrast = max(usual, most / 2)
    if contrast <= 10:
        return float(air > 150 and (np.abs(ring.astype(np.float32) - air) < 8).mean() > 0.8)
    near = np.ones((7, 7), np.uint8)
    steps = cv2.dilate(cv2.bitwise_and(region, filled), near).astype(np.float32) - cv2.erode(region, near)
    points = outline.contour.reshape(-1, 2)
    rows, columns = points[:, 1], points[:, 0]
    free = (rows > 1) & (columns > 1) & (rows < small.shape[0] - 2) & (columns < small.shape[1] - 2)
    along = steps[rows[free] - top, columns[free] - left]
    return float((along >= _STEP * contrast).mean()) if along.size else 0.0


def _head(outline: _Outline, scale: float, clear: float) -> Head:
    points = (outline.contour.reshape(-1, 2).astype(np.float32) + np.float32(0.5)) * np.float32(scale)
    return Head(Box(*(value * scale for value in outline.box)), points, clear)


__all__ = ["LARGE", "SIDE", "Box", "Found", "Head", "apart", "look", "shrink"]
