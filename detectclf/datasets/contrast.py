"""Random contrast: the same anatomy as another sequence, scanner or agent might show it.

Where each class of a data set comes from one sequence, a network learns the sequence. These changes keep shapes and
make grey levels carry no evidence, the lesion's apart from those around it.
"""

from __future__ import annotations

import numpy as np

from detectclf.datasets.augment_mri import AIR_LEVEL, change_tone
from detectclf.types import FloatArray, Mask, Pixels

LAYERS = 4
CHANNELS = 2
"""Size of the random network: Ouyang et al. 2022, "Causality-inspired single-source domain generalization for medical
image segmentation", section III-B (GIN)."""

LEAST_DIFFERENCE = 18.0
"""Grey levels by which a lesion differs on average from what surrounds it after a change, so that its label stays
true; a lesion that differed less before may differ as little after."""

_RING = 0.06  # width of what surrounds a lesion, as a share of the slice


def recontrast(pixels: Pixels, lesion: FloatArray | None, rng: np.random.Generator) -> Pixels:
    """The slice with other grey levels; lesion and background are changed by different random mappings.

    Half of the mappings are tone curves (SLAug: Su et al. 2023, "Rethinking data augmentation for single-source domain
    generalization in medical image segmentation"), half random shallow networks (GIN).

    Args:
        pixels: ``(H, W)`` uint8.
        lesion: ``(H, W)`` float32 in [0, 1], soft mask of the lesions, or ``None``.
        rng: source of the change.

    Returns:
        ``(H, W)`` uint8, a new array. Air stays dark.
    """
    changed = _mapped(pixels, rng)
    if lesion is None or not lesion.any():
        return changed
    other = _mapped(pixels, rng) if rng.random() < 0.5 else changed
    before = lesion_difference(pixels, lesion)
    blended = changed + (other.astype(np.float32) - changed) * lesion
    after = lesion_difference(blended, lesion)
    least = min(abs(before), LEAST_DIFFERENCE)
    if abs(after) < least:
        sign = 1.0 if rng.random() < 0.5 else -1.0
        blended = blended + lesion * (sign * rng.uniform(least, 3 * least) - after)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def lesion_difference(pixels: Pixels | FloatArray, lesion: FloatArray) -> float:
    """Mean grey level of the lesion minus that of what surrounds it; 0 where one of them is empty.

    Args:
        pixels: ``(H, W)``.
        lesion: ``(H, W)`` float32 in [0, 1].
    """
    import cv2

    inside = lesion > 0.5
    width = max(3, int(_RING * max(pixels.shape)))
    ring = cv2.dilate(inside.astype(np.uint8), np.ones((width, width), np.uint8)).astype(bool) & ~inside
    if not inside.any() or not ring.any():
        return 0.0
    return float(pixels[inside].mean()) - float(pixels[ring].mean())


def _mapped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return change_tone(pixels, rng) if rng.random() < 0.5 else random_network(pixels, rng)


def random_network(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Maps a slice through a shallow network of random convolutions, blended with the slice itself (GIN).

    Args:
        pixels: ``(H, W)`` uint8.
        rng: source of kernels and blending.

    Returns:
        ``(H, W)`` uint8, a new array with the mean and spread that the slice has on the head.
    """
    import cv2

    grey = np.asarray(pixels / np.float32(255), dtype=np.float32)
    maps: list[FloatArray] = [grey]
    for layer in range(LAYERS):
        side = 1 if rng.random() < 0.5 else 3
        width = 1 if layer == LAYERS - 1 else CHANNELS
        mixed: list[FloatArray] = []
        for _ in range(width):
            total = np.full_like(grey, rng.normal(0, 0.3))
            for each in maps:
                kernel = rng.normal(0, 1, (side, side)).astype(np.float32)
                total += cv2.filter2D(each, -1, kernel, borderType=cv2.BORDER_REPLICATE)
            kept = total if layer == LAYERS - 1 else np.where(total > 0, total, 0.2 * total)
            mixed.append(np.asarray(kept, dtype=np.float32))
        maps = mixed
    share = float(rng.uniform(0.3, 1.0))
    head = pixels > AIR_LEVEL
    blended = share * _standardised(maps[0], head) + (1 - share) * _standardised(grey, head)
    return _on_head(blended.astype(np.float32), pixels, rng)


def _standardised(grey: FloatArray, head: Mask) -> FloatArray:
    values = grey[head] if head.any() else grey
    return np.asarray((grey - values.mean()) / max(float(values.std()), 1e-3), dtype=np.float32)


def _on_head(standard: FloatArray, pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Grey levels of a random mean and spread; they fade to black towards the air, as those of ``pixels`` do."""
    mean, spread = rng.uniform(60, 150), rng.uniform(25, 55)
    fade = np.minimum(pixels.astype(np.float32) / AIR_LEVEL, 1.0)
    levels = np.clip(standard * spread + mean, 0, 255) * fade
    return np.asarray(np.rint(levels), dtype=np.uint8)
