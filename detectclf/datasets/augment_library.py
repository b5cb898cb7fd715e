"""Albumentations' part of augmentation: geometry and intensities.

The library is no longer maintained, so nothing else in the package imports it.
"""

from __future__ import annotations

import os
from typing import Any

from detectclf.config import AugmentConfig

NOISE_RANGE = (0.01, 0.04)  # standard deviation as a share of the full range: from hardly visible to a poor scan
BLUR_SIGMAS = (0.3, 1.2)  # pixels
SMALLEST_SIDE = 1.0  # pixels; what is left of a box at the border must be a box


def _library() -> Any:
    """Albumentations, kept from asking the network for a newer version of itself on import."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def geometry(config: AugmentConfig) -> Any:
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


def intensity(config: AugmentConfig) -> Any:
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
