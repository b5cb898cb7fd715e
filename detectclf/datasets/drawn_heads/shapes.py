"""Shapes of real tumours: their masks, cut out, to be turned and pasted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from detectclf.boxes import extent
from detectclf.errors import DataError
from detectclf.types import Mask, Pixels

FRAME_MM = 230.0
"""Usual edge of the frame that masks were drawn on: figshare 1512427 has 512 px of 0.49 mm, padding left out."""

LARGEST_TURN = {"pituitary": 12.0}
"""Degrees by which a shape is turned at most; others are turned all the way round. An adenoma grows upwards."""

LEAST_AREA = 0.0006
"""Area of the smallest tumour that is drawn, as a share of the slice: 61 of 320 x 320 px. Smaller ones are enlarged."""


@dataclass(frozen=True, slots=True, eq=False)
class TumorShape:
    """One tumour's mask, cut to its extent.

    Attributes:
        mask: ``(h, w)`` bool.
        pixel_mm: edge of a pixel, from the mask's share of its frame.
    """

    mask: Mask
    pixel_mm: float


@dataclass(frozen=True, slots=True, eq=False)
class MaskShapes:
    """Shapes of every class.

    Attributes:
        by_class: class name -> at least one shape.
    """

    by_class: Mapping[str, Sequence[TumorShape]]

    def draw(self, tumor_class: str, *, step_mm: float, scale: float, size: int, rng: np.random.Generator) -> Pixels:
        """A shape of ``tumor_class``, mirrored and turned at random.

        Args:
            tumor_class: one of ``by_class``.
            step_mm: edge of a pixel of the slice.
            scale: factor on the shape's size.
            size: pixels of the slice's edge, which the least area depends on.
            rng: source of the choice.

        Returns:
            ``(h, w)`` uint8 of 0 and 1, cut to its extent.

        Raises:
            DataError: there is no shape of this class.
        """
        choice = self.by_class.get(tumor_class)
        if not choice:
            raise DataError(f"no tumour mask of class {tumor_class}", remedy="give masks of every tumour class")
        shape = choice[int(rng.integers(len(choice)))]
        mask = shape.mask.astype(np.uint8)
        if rng.random() < 0.5:
            mask = mask[:, ::-1]
        limit = LARGEST_TURN.get(tumor_class, 180.0)
        # a third more than the least, since a part may be cut away where the tumour is put
        least = np.sqrt(1.35 * LEAST_AREA * size**2 / max(int(mask.sum()), 1))
        zoom = max(scale * shape.pixel_mm / step_mm, float(least))
        return _turned(mask, float(rng.uniform(-limit, limit)), zoom)


def _turned(mask: Pixels, degrees: float, scale: float) -> Pixels:
    """``mask`` turned and resized about its middle, cut to its extent."""
    height, width = mask.shape
    edge = int(np.ceil(np.hypot(height, width) * scale)) + 4
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale), dtype=np.float64)
    turn[:, 2] += edge / 2 - np.array([width, height]) / 2
    large = cv2.warpAffine(mask * 255, turn, (edge, edge), flags=cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR)
    turned = (large > 127).astype(np.uint8)
    if not turned.any():  # a sliver, thinner than a pixel
        turned[edge // 2 - 1 : edge // 2 + 2, edge // 2 - 1 : edge // 2 + 2] = 1
    x0, y0, x1, y1 = extent(turned > 0)
    return turned[y0:y1, x0:x1]
