"""Shapes of real tumours: their masks, cut out, to be turned and pasted elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from detectclf.errors import DataError
from detectclf.imaging.intensity import decoding
from detectclf.types import Pixels

Mask = npt.NDArray[np.bool_]
"""``(H, W)`` bool, one slice."""

FRAME_MM = 230.0
"""Usual edge of the frame that masks were drawn on: figshare 1512427 has 512 px of 0.49 mm, padding left out."""

LARGEST_TURN = {"pituitary": 12.0}
"""Degrees by which a shape is turned at most; others are turned all the way round. An adenoma grows upwards."""

LEAST_PIXELS = 24
"""Area of the smallest shape that is drawn; what is smaller is a slip of the pen or the tip of a tumour."""


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

    @staticmethod
    def of(masks: Mapping[str, Sequence[Mask]]) -> MaskShapes:
        """Cuts shapes out of masks of whole slices; of several pieces, the largest.

        Args:
            masks: class name -> ``(H, W)`` bool masks of the whole frame, so that a tumour's share of it is known.

        Raises:
            DataError: a class without a single mask of ``LEAST_PIXELS``.
        """
        shapes: dict[str, tuple[TumorShape, ...]] = {}
        for name, frames in masks.items():
            cut_out = tuple(shape for frame in frames if (shape := _cut_out(frame)) is not None)
            if not cut_out:
                raise DataError(f"no tumour mask of class {name}", remedy="give masks of every tumour class")
            shapes[name] = cut_out
        return MaskShapes(shapes)

    @staticmethod
    def load(files: Iterable[tuple[Path, str]]) -> MaskShapes:
        """Reads 1-bit pictures of masks, each with its class.

        Raises:
            DataError: a file cannot be read, or as of :meth:`of`.
        """
        masks: dict[str, list[Mask]] = {}
        for file, name in files:
            with decoding(file, "tumour mask"):
                picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_GRAYSCALE)
                masks.setdefault(name, []).append(np.asarray(picture) > 0)
        return MaskShapes.of(masks)

    def draw(self, tumor_class: str, step_mm: float, scale: float, rng: np.random.Generator) -> Pixels:
        """A shape of ``tumor_class``, mirrored and turned at random.

        Args:
            tumor_class: one of ``by_class``.
            step_mm: edge of a pixel of the slice.
            scale: factor on the shape's size.
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
        return _turned(mask, float(rng.uniform(-limit, limit)), scale * shape.pixel_mm / step_mm)


def _cut_out(frame: Mask) -> TumorShape | None:
    """The largest piece of a mask."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(frame.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height, area = (int(v) for v in stats[largest])
    if area < LEAST_PIXELS:
        return None
    mask = pieces[top : top + height, left : left + width] == largest
    return TumorShape(mask, FRAME_MM / max(frame.shape))


def _turned(mask: Pixels, degrees: float, scale: float) -> Pixels:
    """``mask`` turned and resized about its middle, cut to its extent; at least 3 px wide and high."""
    height, width = mask.shape
    scale = max(scale, 3 / min(height, width))
    edge = int(np.ceil(np.hypot(height, width) * scale)) + 4
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale), dtype=np.float64)
    turn[:, 2] += edge / 2 - np.array([width, height]) / 2
    large = cv2.warpAffine(mask * 255, turn, (edge, edge), flags=cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR)
    turned = (large > 127).astype(np.uint8)
    if not turned.any():
        turned[edge // 2 - 1 : edge // 2 + 2, edge // 2 - 1 : edge // 2 + 2] = 1
    rows, columns = np.flatnonzero(turned.any(axis=1)), np.flatnonzero(turned.any(axis=0))
    return turned[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
