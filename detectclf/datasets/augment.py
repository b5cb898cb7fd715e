"""Augmentation of training slices.

The same seed gives the same random changes. Loader processes start as copies of one another and would all draw the same
numbers, so a data set calls ``reseed(seed, epoch, index)`` before each slice: how a slice is augmented depends on these
three alone, whatever the number of processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from detectclf.config import AugmentConfig
from detectclf.datasets.augment_library import geometry, intensity
from detectclf.datasets.augment_mri import add_bias_field, add_ghosts, change_tone
from detectclf.datasets.brain_mask import brain_mask, inner_mask
from detectclf.datasets.contrast import recontrast
from detectclf.datasets.lesion_masks import ellipses
from detectclf.datasets.lesions import paint_lesion, random_shape
from detectclf.datasets.shown_slice import ShownSlice
from detectclf.datasets.symmetry import make_symmetric
from detectclf.types import ANY_TUMOR_INDEX, FloatArray, Mask, Pixels, empty_boxes

Labels = npt.NDArray[np.int64]
"""``(N,)`` class indices of boxes."""

Content = Literal["same", "healthy", "any_tumor"]
"""What augmentation made of a slice: as before, without its tumours, or with a painted lesion."""


def detection_augment(config: AugmentConfig, *, seed: int | None, shapes: Sequence[Mask] = ()) -> DetectionAugment:
    """A callable that changes a slice with its boxes and labels; see :class:`DetectionAugment`.

    Args:
        config: what may happen, how often and how strongly.
        seed: of the random changes; ``None`` for others every time.
        shapes: masks of real tumours, cropped, for painted lesions; by default random blobs are painted.
    """
    return DetectionAugment(_Changes(config, seed, shapes))


def classification_augment(
    config: AugmentConfig, *, seed: int | None, shapes: Sequence[Mask] = ()
) -> ClassificationAugment:
    """The same for a slice with a class; see :class:`ClassificationAugment`."""
    return ClassificationAugment(_Changes(config, seed, shapes))


class DetectionAugment:
    """Changes slices together with their boxes. Never flips them upside down; what comes in from outside is black."""

    def __init__(self, changes: _Changes) -> None:
        self._changes = changes

    def reseed(self, *key: int) -> None:
        """Draws from now on what belongs to ``key``, such as ``(seed, epoch, index)``; each at least 0."""
        self._changes.reseed(*key)

    def __call__(
        self,
        pixels: Pixels,
        boxes_xyxy: FloatArray,
        labels: Labels,
        inside: tuple[int, int] | None = None,
        lesions: FloatArray | None = None,
        *,
        drawn: bool = False,
    ) -> tuple[Pixels, FloatArray, Labels]:
        """Changed copies; boxes are clipped, and left out with their labels where too little of them is left.

        A rotated box is the extent of the rotated ellipse inside it: tumours are rounder than their boxes, and the
        extent of rotated corners would grow with each rotation.

        Args:
            pixels: ``(H, W)`` uint8.
            boxes_xyxy: ``(N, 4)`` float32 pixels inside the slice.
            labels: ``(N,)`` int64.
            inside: width and height of the slice, where the rest of the pixels is padding.
            lesions: ``(H, W)`` float32 in [0, 1], mask of the tumours; ``None`` where it is not known.
            drawn: the slice was drawn at random: only geometry and scanner change it further.

        Returns:
            Pixels of the same shape, ``(M, 4)`` float32 boxes inside them and ``(M,)`` int64 labels. ``M`` is larger
            than ``N`` only where symmetry augmentation doubled the tumours, or a lesion was painted.
        """
        seen = ShownSlice.first(pixels, boxes_xyxy)
        if not drawn:
            seen = self._changes.content(seen, inside, lesions)
        labels = np.append(labels, ANY_TUMOR_INDEX)[seen.rows]
        # Each box carries its number as a fifth value: the library would give labels back as floats.
        rows = np.column_stack([seen.boxes_xyxy, np.arange(len(seen.boxes_xyxy))]).astype(np.float32)
        changed, kept = self._changes.apply(seen.pixels, rows)
        if len(kept) == 0:
            return changed, empty_boxes(), labels[:0].astype(np.int64)
        return changed, np.ascontiguousarray(kept[:, :4]), labels[kept[:, 4].astype(np.int64)].astype(np.int64)


class ClassificationAugment:
    """Changes slices as :class:`DetectionAugment` does."""

    def __init__(self, changes: _Changes) -> None:
        self._changes = changes

    def reseed(self, *key: int) -> None:
        """Draws from now on what belongs to ``key``, such as ``(seed, epoch, index)``; each at least 0."""
        self._changes.reseed(*key)

    def __call__(
        self,
        pixels: Pixels,
        tumors_xyxy: FloatArray | None = None,
        inside: tuple[int, int] | None = None,
        lesions: FloatArray | None = None,
        *,
        drawn: bool = False,
    ) -> tuple[Pixels, Content]:
        """A changed copy of ``pixels``, and what it shows now.

        Args:
            pixels: ``(H, W)`` uint8.
            tumors_xyxy: ``(N, 4)`` boxes of all tumours, pixels; ``None`` where they are not known.
            inside: width and height of the slice, where the rest of the pixels is padding.
            lesions: ``(H, W)`` float32 in [0, 1], mask of the tumours; ``None`` where it is not known.
            drawn: the slice was drawn at random: only geometry and scanner change it further.
        """
        content: Content = "same"
        if not drawn:
            pixels, content = self._content(pixels, tumors_xyxy, inside, lesions)
        changed, _ = self._changes.apply(pixels, np.zeros((0, 5), dtype=np.float32))
        return changed, content

    def _content(
        self,
        pixels: Pixels,
        tumors_xyxy: FloatArray | None,
        inside: tuple[int, int] | None,
        lesions: FloatArray | None,
    ) -> tuple[Pixels, Content]:
        if tumors_xyxy is None:
            return self._changes.recontrasted(pixels, None, lesions), "same"
        seen = self._changes.content(ShownSlice.first(pixels, tumors_xyxy), inside, lesions)
        if len(tumors_xyxy) in seen.rows:
            return seen.pixels, "any_tumor"
        return seen.pixels, "healthy" if len(tumors_xyxy) and not len(seen.rows) else "same"


class _Changes:
    """The steps: what a slice shows and scanner artefacts by us, geometry and intensities by the library."""

    def __init__(self, config: AugmentConfig, seed: int | None, shapes: Sequence[Mask] = ()) -> None:
        self._config = config
        self._shapes = shapes
        self._geometry: Any = None
        self._intensity: Any = None
        if config.enabled:
            self._geometry = geometry(config)
            self._intensity = intensity(config)
        self.reseed(*(() if seed is None else (seed,)))

    def reseed(self, *key: int) -> None:
        self._rng = np.random.default_rng(np.random.SeedSequence(key or None))
        plain = random.Random(int(self._rng.integers(2**63)))
        if self._config.enabled:
            # Not Compose(seed=...), which gives every step the same seed: flips and zooms would coincide.
            self._geometry.set_random_state(self._rng, plain)
            self._intensity.set_random_state(self._rng, plain)

    def content(self, given: ShownSlice, inside: tuple[int, int] | None, lesions: FloatArray | None) -> ShownSlice:
        """The slice after symmetry, painted lesion, contrast and skull stripping, each where chance has it."""
        seen = given
        if (symmetric := self._symmetric(given, inside)) is not None:
            seen, lesions = symmetric, None
        if len(seen.boxes_xyxy) == 0:
            seen = self._painted(seen, len(given.boxes_xyxy))
        changed = self.recontrasted(seen.pixels, seen.boxes_xyxy, lesions)
        return seen._replace(pixels=self._stripped(changed, seen.boxes_xyxy))

    def _happens(self, probability: float) -> bool:
        # No number is drawn for what is off, so that other random changes stay the same.
        return self._config.enabled and probability > 0 and bool(self._rng.random() < probability)

    def _painted(self, seen: ShownSlice, row: int) -> ShownSlice:
        if not self._happens(self._config.paint):
            return seen
        shapes, rng = self._shapes, self._rng
        shape = shapes[int(rng.integers(len(shapes)))] if len(shapes) else random_shape(rng)
        painted = paint_lesion(seen.pixels, shape, inner_mask(seen.pixels), rng)
        if painted is None:
            return seen
        return ShownSlice(painted.pixels, painted.box_xyxy[None], np.array([row]))

    def recontrasted(self, pixels: Pixels, tumors_xyxy: FloatArray | None, lesions: FloatArray | None) -> Pixels:
        """The slice in another contrast, where chance has it; ellipses in the boxes stand for lesions without masks."""
        if not self._happens(self._config.recontrast):
            return pixels
        if lesions is None and tumors_xyxy is not None and len(tumors_xyxy):
            lesions = ellipses(tumors_xyxy, pixels.shape)
        return recontrast(pixels, lesions, self._rng)

    def _stripped(self, pixels: Pixels, tumors_xyxy: FloatArray) -> Pixels:
        if not self._happens(self._config.strip):
            return pixels
        brain = brain_mask(pixels, tumors_xyxy)
        return pixels if brain is None else np.where(brain, pixels, 0).astype(np.uint8)

    def _symmetric(self, given: ShownSlice, inside: tuple[int, int] | None) -> ShownSlice | None:
        """The slice made of one half and its mirror image, where chance has it and it can be done."""
        healthy, tumor = self._config.symmetry_healthy, self._config.symmetry_tumor
        # Here too, no number is drawn for what is off.
        if not self._config.symmetry or len(given.boxes_xyxy) == 0:
            return None
        chance = self._rng.random()
        if chance >= healthy + tumor:
            return None
        return make_symmetric(given.pixels, given.boxes_xyxy, healthy=chance < healthy, inside=inside)

    def apply(self, pixels: Pixels, rows: FloatArray) -> tuple[Pixels, FloatArray]:
        """Changes pixels and ``(N, 5)`` rows of box and number."""
        if not self._config.enabled:
            return pixels.copy(), rows
        moved = self._geometry(image=pixels, bboxes=rows)
        changed: Pixels = moved["image"]
        if self._config.tone and self._rng.random() < self._config.tone:
            changed = change_tone(changed, self._rng)
        if self._rng.random() < self._config.bias_field:
            changed = add_bias_field(changed, self._rng)
        if self._rng.random() < self._config.ghosting:
            changed = add_ghosts(changed, self._rng)
        changed = self._intensity(image=changed)["image"]
        if changed is pixels:  # nothing happened: still a copy, the caller's cache must not be shared
            changed = pixels.copy()
        return np.ascontiguousarray(changed), np.asarray(moved["bboxes"], dtype=np.float32)
