"""Square crops round proposed boxes, at a higher resolution: what the refiner is trained on and predicts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from detectclf.boxes import cover
from detectclf.datasets.augment import NO_TUMOR, DetectionAugment
from detectclf.datasets.loading import DetectionSlices, Item
from detectclf.types import FloatArray, Pixels, Sample, empty_boxes

# Jitter of proposals, as standard deviations: of the centre in sides of the box, of the sides as log factors.
CENTRE_SPREAD, SIDE_SPREAD = 0.12, 0.22
LARGEST_MISS = 0.45
BACKGROUND_SHARE = 0.25
"""Share of background crops among those of slices with a tumour."""
BACKGROUND_COVER = 0.1
"""A box is background if it shares at most this much of the smaller area with each tumour. IoU would not do: that of a
small box inside a large tumour is near 0."""
HARD_NEGATIVE_SHARE = 0.75
"""Share of background crops that are hard negatives, where there are any."""
SMALLEST_SIDE, LARGEST_SIDE = 0.05, 0.4
"""Sides of random background boxes, as shares of the slice."""


@dataclass(frozen=True, slots=True)
class CropFrame:
    """Where a crop lies: left and top in pixels of the slice (may be outside), and its side in such pixels."""

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, box_xyxy: FloatArray, context: float) -> CropFrame:
        """The square round the middle of a ``(4,)`` box whose side is ``context`` times the box's longer one."""
        x1, y1, x2, y2 = (float(v) for v in box_xyxy)
        side = max(8, round(context * max(x2 - x1, y2 - y1)))
        return cls(round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2), side)

    def cut(self, pixels: Pixels, size: int) -> Pixels:
        """The crop as ``(size, size)`` uint8; black where it lies outside the slice."""
        import cv2

        height, width = pixels.shape
        x1, y1 = max(0, self.left), max(0, self.top)
        x2, y2 = min(width, self.left + self.side), min(height, self.top + self.side)
        square = np.zeros((self.side, self.side), dtype=np.uint8)
        if x2 > x1 and y2 > y1:
            square[y1 - self.top : y2 - self.top, x1 - self.left : x2 - self.left] = pixels[y1:y2, x1:x2]
        method = cv2.INTER_AREA if size < self.side else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(square, (size, size), interpolation=method), dtype=np.uint8)

    def to_crop(self, boxes_xyxy: FloatArray) -> FloatArray:
        """``(N, 4)`` boxes of the slice in units of the crop, 0 to 1 inside it."""
        origin = np.array([self.left, self.top] * 2, dtype=np.float32)
        return ((boxes_xyxy - origin) / np.float32(self.side)).astype(np.float32)

    def to_slice(self, boxes: FloatArray) -> FloatArray:
        """The inverse of :meth:`to_crop`."""
        origin = np.array([self.left, self.top] * 2, dtype=np.float32)
        return (boxes * np.float32(self.side) + origin).astype(np.float32)


class CropSlices(DetectionSlices):
    """One crop of each slice: round the jittered box of its tumour, or round background.

    Random background is too easy: the refiner will see what a detector took for a tumour. With ``hard_negatives`` most
    background crops are of such boxes (Sung & Poggio 1998).

    An item is ``(crop, target)``: crop ``(1, s, s)`` float32 in [0, 1]; target with ``box`` ``(4,)`` float32, the true
    box in units of the crop (zeros on background), ``label`` (class index or ``ANY_TUMOR_INDEX``, ``len(classes)`` on
    background) and ``image_id``.

    Args:
        samples, classes, augment, seed, cache: as of :class:`~detectclf.datasets.loading.DetectionSlices`.
        slice_size: side that slices are brought to before they are cropped, pixels.
        crop_size: side of a crop, pixels of the network's input.
        context: side of a crop over the longer side of its box.
        hard_negatives: for each of those ``samples`` that have known boxes, ``(M, 4)`` boxes ``xyxy`` in pixels of the
            original slice that a detector predicts away from the tumours.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        classes: Sequence[str],
        slice_size: int,
        crop_size: int,
        context: float,
        augment: DetectionAugment | None = None,
        *,
        seed: int = 0,
        cache: Literal["auto", "memory", "none"] = "auto",
        hard_negatives: Sequence[FloatArray] = (),
    ) -> None:
        super().__init__(samples, classes, slice_size, augment, seed=seed, cache=cache)
        self.crop_size, self.context = crop_size, context
        self.hard_negatives = tuple(hard_negatives) or (empty_boxes(),) * len(self.samples)

    def _known_boxes(self, index: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """The tumours, and after them the hard negatives, labelled ``NO_TUMOR``."""
        boxes, labels = super()._known_boxes(index)
        more = self.hard_negatives[index]
        return np.concatenate([boxes, more]), np.concatenate([labels, np.full(len(more), NO_TUMOR)])

    def __getitem__(self, index: int) -> Item:
        """Item ``index``; raises DataError where its file cannot be read."""
        image, target = super().__getitem__(index)
        pixels = np.rint(image[0].numpy() * 255).astype(np.uint8)
        known, known_labels = target["boxes"].numpy(), target["labels"].numpy()
        tumor = known_labels != NO_TUMOR
        boxes, labels, negatives = known[tumor], known_labels[tumor], known[~tumor]
        # Validation crops are the same in every epoch; training crops are drawn from another stream than augmentation.
        epoch = self.epoch if self.augment is not None else 0
        rng = np.random.default_rng((self.seed, epoch, index, 1))
        background = None
        if len(boxes) == 0 or (self.augment is not None and rng.random() < BACKGROUND_SHARE):
            background = self._background(pixels, boxes, negatives, rng)
        chosen = int(rng.integers(len(boxes))) if len(boxes) else 0
        proposal = jittered(boxes[chosen], rng) if background is None else background
        frame = CropFrame.around(proposal, self.context)
        box = frame.to_crop(boxes[chosen : chosen + 1])[0] if background is None else np.zeros(4, dtype=np.float32)
        crop = torch.from_numpy(frame.cut(pixels, self.crop_size).astype(np.float32) / np.float32(255))[None]
        label = int(labels[chosen]) if background is None else len(self.classes)
        return crop, {"box": torch.from_numpy(box), "label": label, "image_id": index}

    def _background(
        self, pixels: Pixels, tumors: FloatArray, negatives: FloatArray, rng: np.random.Generator
    ) -> FloatArray | None:
        """A background box: a jittered hard negative, or a random one."""
        if len(negatives) and rng.random() < HARD_NEGATIVE_SHARE:
            box = jittered(negatives[int(rng.integers(len(negatives)))], rng)
            if len(background_boxes(box[None], tumors)):  # jitter may have moved it onto the tumour
                return box
        return random_background(pixels, tumors, rng)


def jittered(box_xyxy: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A ``(4,)`` box ``box_xyxy`` as a detector might predict it: centre and sides with random errors."""
    centre, sides = (box_xyxy[:2] + box_xyxy[2:]) / 2, box_xyxy[2:] - box_xyxy[:2]
    moved = centre + sides * np.clip(rng.normal(0, CENTRE_SPREAD, 2), -LARGEST_MISS, LARGEST_MISS)
    longer = sides * np.exp(np.clip(rng.normal(0, SIDE_SPREAD, 2), -2 * LARGEST_MISS, 2 * LARGEST_MISS))
    return np.concatenate([moved - longer / 2, moved + longer / 2]).astype(np.float32)


def background_boxes(found_xyxy: FloatArray, tumors_xyxy: FloatArray) -> FloatArray:
    """Those of ``(N, 4)`` boxes that are background (``BACKGROUND_COVER``) beside ``(M, 4)`` tumours, in order."""
    background = [cover(box, tumors_xyxy).max(initial=0.0) <= BACKGROUND_COVER for box in found_xyxy]
    kept: FloatArray = found_xyxy[np.array(background, dtype=bool)]
    return kept


def random_background(pixels: Pixels, boxes_xyxy: FloatArray, rng: np.random.Generator) -> FloatArray | None:
    """A random ``(4,)`` background box on the head, away from ``boxes_xyxy``; ``None`` where ten tries find none."""
    side = max(pixels.shape)
    inside = np.argwhere(pixels[::8, ::8] > 24) * 8
    for _ in range(10):
        sides = side * np.exp(rng.uniform(np.log(SMALLEST_SIDE), np.log(LARGEST_SIDE), 2))
        y, x = inside[rng.integers(len(inside))] if len(inside) else rng.integers(0, side, 2)
        box = np.array([x - sides[0] / 2, y - sides[1] / 2, x + sides[0] / 2, y + sides[1] / 2], dtype=np.float32)
        if len(background_boxes(box[None], boxes_xyxy)):
            return box
    return None
