"""Augmentation of training slices: albumentations behind two functions of ours.

The library is no longer maintained, so nothing else in the package imports it.

The same seed gives the same random changes. Loader processes start as copies of one another and would all draw the same
numbers, so a data set calls ``reseed(seed, epoch, index)`` before each slice: how a slice is augmented depends on these
three alone, whatever the number of processes.
"""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.config import AugmentConfig
from detectclf.datasets.symmetry import SymmetricSlice, make_symmetric
from detectclf.types import FloatArray, Pixels, empty_boxes

Labels = npt.NDArray[np.int64]
"""``(N,)`` class indices of boxes."""

NO_TUMOR = -1
"""Label of a box that shows no tumour."""

NOISE_RANGE = (0.01, 0.04)  # standard deviation as a share of the full range: from hardly visible to a poor scan
BLUR_SIGMAS = (0.3, 1.2)  # pixels
SMALLEST_SIDE = 1.0  # pixels; what is left of a box at the border must be a box


def detection_augment(config: AugmentConfig, *, seed: int | None) -> DetectionAugment:
    """A callable that changes a slice with its boxes and labels; see :class:`DetectionAugment`.

    Args:
        config: what may happen, how often and how strongly.
        seed: of the random changes; ``None`` for others every time.
    """
    return DetectionAugment(_Changes(config, seed))


def classification_augment(config: AugmentConfig, *, seed: int | None) -> ClassificationAugment:
    """The same for a slice with a class; see :class:`ClassificationAugment`."""
    return ClassificationAugment(_Changes(config, seed))


class DetectionAugment:
    """Changes slices together with their boxes. Never flips them upside down; what comes in from outside is black."""

    def __init__(self, changes: _Changes) -> None:
        self._changes = changes

    def reseed(self, *key: int) -> None:
        """Draws from now on what belongs to ``key``, such as ``(seed, epoch, index)``; each at least 0."""
        self._changes.reseed(*key)

    def __call__(
        self, pixels: Pixels, boxes_xyxy: FloatArray, labels: Labels, inside: tuple[int, int] | None = None
    ) -> tuple[Pixels, FloatArray, Labels]:
        """Changed copies; boxes are clipped, and left out with their labels where too little of them is left.

        A rotated box is the extent of the rotated ellipse inside it: tumours are rounder than their boxes, and the
        extent of rotated corners would grow with each rotation.

        Args:
            pixels: ``(H, W)`` uint8.
            boxes_xyxy: ``(N, 4)`` float32 pixels inside the slice.
            labels: ``(N,)`` int64; ``NO_TUMOR`` for a box without one, which only moves along.
            inside: width and height of the slice, where the rest of the pixels is padding.

        Returns:
            Pixels of the same shape, ``(M, 4)`` float32 boxes inside them and ``(M,)`` int64 labels. ``M`` is larger
            than ``N`` only where symmetry augmentation doubled the tumours.
        """
        tumor = labels != NO_TUMOR
        if (symmetric := self._changes.symmetric(pixels, boxes_xyxy[tumor], inside)) is not None:
            pixels = symmetric.pixels
            boxes_xyxy = np.concatenate([symmetric.boxes_xyxy, boxes_xyxy[~tumor]])
            labels = np.concatenate([labels[tumor][symmetric.rows], labels[~tumor]])
        # Each box carries its number as a fifth value: the library would give labels back as floats.
        rows = np.column_stack([boxes_xyxy, np.arange(len(boxes_xyxy))]).astype(np.float32)
        changed, kept = self._changes.apply(pixels, rows)
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
        self, pixels: Pixels, tumors_xyxy: FloatArray | None = None, inside: tuple[int, int] | None = None
    ) -> tuple[Pixels, bool]:
        """A changed copy of ``pixels``, and whether its tumours are gone.

        Args:
            pixels: ``(H, W)`` uint8.
            tumors_xyxy: ``(N, 4)`` boxes of all tumours, pixels; ``None`` where they are not known.
            inside: width and height of the slice, where the rest of the pixels is padding.
        """
        gone = False
        if tumors_xyxy is not None and (symmetric := self._changes.symmetric(pixels, tumors_xyxy, inside)) is not None:
            pixels, gone = symmetric.pixels, len(symmetric.boxes_xyxy) == 0
        changed, _ = self._changes.apply(pixels, np.zeros((0, 5), dtype=np.float32))
        return changed, gone


class _Changes:
    """The steps: geometry by the library, scanner artefacts by us, intensities by the library."""

    def __init__(self, config: AugmentConfig, seed: int | None) -> None:
        self._config = config
        self._geometry: Any = None
        self._intensity: Any = None
        if config.enabled:
            self._geometry = _geometry(config)
            self._intensity = _intensity(config)
        self.reseed(*(() if seed is None else (seed,)))

    def reseed(self, *key: int) -> None:
        self._rng = np.random.default_rng(np.random.SeedSequence(key or None))
        plain = random.Random(int(self._rng.integers(2**63)))
        if self._config.enabled:
            # Not Compose(seed=...), which gives every step the same seed: flips and zooms would coincide.
            self._geometry.set_random_state(self._rng, plain)
            self._intensity.set_random_state(self._rng, plain)

    def symmetric(
        self, pixels: Pixels, tumors_xyxy: FloatArray, inside: tuple[int, int] | None
    ) -> SymmetricSlice | None:
        """The slice made of one half and its mirror image, where that is drawn and can be done."""
        healthy, tumor = self._config.symmetry_healthy, self._config.symmetry_tumor
        # Without symmetry augmentation nothing is drawn, so that other random changes stay the same.
        if not self._config.symmetry or len(tumors_xyxy) == 0:
            return None
        drawn = self._rng.random()
        if drawn >= healthy + tumor:
            return None
        return make_symmetric(pixels, tumors_xyxy, healthy=drawn < healthy, inside=inside)

    def apply(self, pixels: Pixels, rows: FloatArray) -> tuple[Pixels, FloatArray]:
        """Changes pixels and ``(N, 5)`` rows of box and number."""
        from detectclf.datasets.augment_mri import add_bias_field, add_ghosts, change_tone

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


def _library() -> Any:
    """Albumentations, kept from asking the network for a newer version of itself on import."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _geometry(config: AugmentConfig) -> Any:
    library = _library()
    steps = [
        library.HorizontalFlip(p=config.flip),
        library.Affine(
            scale=(1 - config.scale, 1 + config.scale),
            translate_percent=(-config.shift, config.shift),
            rotate=(-config.rotate_degrees, config.rotate_degrees),
            keep_ratio=True,
            rotate_method="ellipse",
            fill=0,
            p=config.affine,
        ),
    ]
    boxes = library.BboxParams(
        format="pascal_voc",
        min_visibility=config.min_visibility,
        min_width=SMALLEST_SIDE,
        min_height=SMALLEST_SIDE,
        clip=True,
    )
    return library.Compose(steps, bbox_params=boxes)


def _intensity(config: AugmentConfig) -> Any:
    library = _library()
    strength = config.strength
    steps = [
        # Relative to the slice's mean, not to white: the air round a head stays black.
        library.RandomBrightnessContrast(
            brightness_limit=strength, contrast_limit=strength, brightness_by_max=False, p=config.intensity
        ),
        library.RandomGamma(gamma_limit=(100 * (1 - 0.99 * strength), 100 * (1 + strength)), p=config.intensity),
        library.GaussianBlur(blur_limit=0, sigma_limit=BLUR_SIGMAS, p=config.blur),
        library.GaussNoise(std_range=NOISE_RANGE, p=config.noise),
    ]
    return library.Compose(steps)
