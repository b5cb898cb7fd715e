"""Slices that no scanner made, in place of some slices of a training; and the masks that augmentation uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from detectclf.datasets.lesion_masks import LesionMasks
from detectclf.types import FloatArray, Mask, Pixels

DRAWN_HEALTHY_SHARE = 0.5
"""Share of the drawn slices that show no tumour."""


class Drawing(Protocol):
    """Draws slices that no scanner made."""

    def __call__(self, label: str | None, rng: np.random.Generator, size: int) -> tuple[Pixels, FloatArray]:
        """``(size, size)`` uint8 and ``(N, 4)`` boxes of a slice with a tumour of class ``label``, or without any."""


class DrawnSlice(NamedTuple):
    """A drawn slice: ``(S, S)`` pixels, ``(N, 4)`` boxes on them, and its class."""

    pixels: Pixels
    boxes_xyxy: FloatArray
    label: str


class Synthesis(NamedTuple):
    """What augmentation knows beside the slices.

    Attributes:
        masks: of tumours, or ``None``.
        draw: draws a slice, or ``None``.
        share: of the slices that are replaced by drawn ones.
    """

    masks: LesionMasks | None = None
    draw: Drawing | None = None
    share: float = 0.0

    @property
    def shapes(self) -> list[Mask]:
        """The masks of tumours, cropped."""
        return [] if self.masks is None else [mask.crop for kind in self.masks.by_class.values() for mask in kind]

    def replacement(
        self, label: str | None, classes: Sequence[str], negative: str | None, size: int, rng: np.random.Generator
    ) -> DrawnSlice | None:
        """A drawn slice in place of one of class ``label``, where chance has it.

        A share of them shows no tumour, where a class means that, since few healthy slices of a data set look like its
        tumour slices. The others show a tumour of class ``label``, in place of healthy slices one of any class.

        Args:
            label: class of the slice; without one it is never replaced.
            classes: all classes.
            negative: the class of slices without a tumour.
            size: side of the drawn slice, pixels.
            rng: source of everything random.
        """
        if self.draw is None or label is None or rng.random() >= self.share:
            return None
        tumors = [name for name in classes if name != negative]
        shown = label if label != negative else tumors[int(rng.integers(len(tumors)))]
        if negative is not None and rng.random() < DRAWN_HEALTHY_SHARE:
            return DrawnSlice(*self.draw(None, rng, size), negative)
        return DrawnSlice(*self.draw(shown, rng, size), shown)


NO_SYNTHESIS = Synthesis()


__all__ = ["NO_SYNTHESIS", "Drawing", "DrawnSlice", "Synthesis"]
