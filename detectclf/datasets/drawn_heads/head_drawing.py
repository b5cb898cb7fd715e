"""Drawn slices of the classes of a data set, as its augmentation asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from detectclf.datasets.drawn_heads.drawing import draw_slice
from detectclf.datasets.drawn_heads.label_maps import LabelMaps
from detectclf.datasets.drawn_heads.shapes import FRAME_MM, MaskShapes, TumorShape
from detectclf.datasets.lesion_masks import LesionMask
from detectclf.errors import DataError
from detectclf.types import FloatArray, Pixels


class HeadDrawing:
    """Draws slices with a tumour of a given class, or without any.

    Args:
        maps: heads that slices are cut from.
        masks: class -> masks of its tumours. A class without masks is drawn with those of another one.

    Raises:
        DataError: no mask at all.
    """

    def __init__(self, maps: LabelMaps, masks: Mapping[str, Sequence[LesionMask]]) -> None:
        shapes = {
            name: tuple(TumorShape(m.crop, FRAME_MM * m.of_frame / max(m.crop.shape)) for m in kind)
            for name, kind in masks.items()
        }
        if not shapes:
            raise DataError("no mask of a tumour to draw", remedy="name a folder in data.lesion_masks")
        self.maps, self.shapes = maps, MaskShapes(shapes)

    def __call__(self, label: str | None, rng: np.random.Generator, size: int) -> tuple[Pixels, FloatArray]:
        """``(size, size)`` uint8 and ``(N, 4)`` boxes of a slice with a tumour of class ``label``, or without any."""
        names = sorted(self.shapes.by_class)
        if label is not None and label not in names:
            label = names[int(rng.integers(len(names)))]
        return draw_slice(self.maps, self.shapes, label, rng, size)
