"""One drawn slice: a plane through a head, with or without a tumour, in a contrast of its own.

After Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining"
(2023): a network that has seen every contrast learns shapes.
"""

from __future__ import annotations

import cv2
import numpy as np

from detectclf.boxes import extent
from detectclf.datasets.augment_mri import add_bias_field, add_ghosts
from detectclf.datasets.drawn_heads.contrast import (
    FAINT_PIXELS,
    REALISTIC,
    Sequence,
    draw_levels,
    draw_tumor_levels,
    oedema_looks_like_tumor,
)
from detectclf.datasets.drawn_heads.label_maps import LabelMap, LabelMaps
from detectclf.datasets.drawn_heads.planes import (
    VIEW_SHARES,
    VIEWS,
    Plane,
    View,
    choose_plane,
    cut,
    smooth_field,
    tell_apart,
)
from detectclf.datasets.drawn_heads.shapes import MaskShapes
from detectclf.datasets.drawn_heads.stripping import brain_only
from detectclf.datasets.drawn_heads.tissues import BRAIN, Tissue, looked_up, where
from detectclf.datasets.drawn_heads.tumors import (
    oedema_weight,
    paint_tumor,
    place_tumor,
    push_aside,
    tumor_site,
)
from detectclf.errors import DataError
from detectclf.types import FloatArray, Mask, Pixels, empty_boxes

TRIES = 40
"""Planes tried before a tumour is given up; each makes it a little smaller. One or two are usual."""


# What drawn slices look like; each is a share of slices from 0 to 1.

REALISTIC_SHARE = 0.6
"""In levels of T1, contrast T1, T2 or FLAIR; the others in any levels, as in SynthSeg."""

STRIPPED_SHARE = 0.2
"""Without skull and face, as some public sets are."""

SELLA_SHARE = 0.15
"""Of the tumour-free ones, planes through the pituitary gland: where adenomas are, a gland of normal size is too."""

OUTSIDE_SHARE = 0.2
"""Of the tumour-free ones, planes through face, neck or scalp, where scans of heads have slices too."""

DISPLACED_SHARE = 0.7
"""Of the tumours, those that push aside what is round them."""

MIRRORED_SHARE = 0.5
"""Left and right swapped."""

GHOSTED_SHARE = 0.04
"""With motion ghosts."""

_UNEVEN = np.zeros(256, dtype=np.float32)
_UNEVEN[[Tissue.FAT, Tissue.MUSCLE, Tissue.SKIN, Tissue.MUCOSA, Tissue.MARROW]] = (0.4, 1.0, 0.3, 1.0, 0.8)


def draw_slice(
    maps: LabelMaps,
    shapes: MaskShapes,
    tumor_class: str | None,
    rng: np.random.Generator,
    size: int,
) -> tuple[Pixels, FloatArray]:
    """Draws a slice. The same state of ``rng`` gives the same slice.

    The box is the extent of the tumour's mask. Oedema is within it where it is drawn about as bright as the tumour
    itself, since nobody could tell where the one ends.

    Args:
        maps: heads that it is cut from.
        shapes: masks of tumours.
        tumor_class: class of its tumour, or ``None`` for none.
        rng: source of everything random.
        size: pixels of its edge.

    Returns:
        ``(size, size)`` uint8 and ``(N, 4)`` float32 boxes, one or none.

    Raises:
        DataError: no shape of this class, or no place for it in the heads.
    """
    head = maps.heads[int(rng.integers(len(maps.heads)))]
    stripped = bool(rng.random() < STRIPPED_SHARE)
    if tumor_class is None:
        tissues, plane = _cut_healthy(head, stripped, rng, size)
        mask = None
    else:
        tissues, plane, mask = _cut_with_tumor(head, shapes, tumor_class, stripped, rng, size)
        if rng.random() < DISPLACED_SHARE:
            tissues = push_aside(tissues, mask, rng)
    tell_apart(tissues, plane.step_mm, rng)
    realistic = rng.random() < REALISTIC_SHARE
    sequence: Sequence = REALISTIC[int(rng.integers(len(REALISTIC)))] if realistic else "any"
    image, boxed = _painted(tissues, mask, tumor_class, sequence, rng)
    if stripped:
        image *= brain_only(tissues, boxed, rng)
    pixels = _scanned(image, rng, ghosted=bool(rng.random() < GHOSTED_SHARE))
    boxes = empty_boxes() if boxed is None else np.array([extent(boxed)], dtype=np.float32)
    if rng.random() < MIRRORED_SHARE:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        boxes[:, [0, 2]] = size - boxes[:, [2, 0]]
    return pixels, boxes


def _cut_healthy(head: LabelMap, stripped: bool, rng: np.random.Generator, size: int) -> tuple[Pixels, Plane]:
    """Tissues of a plane through the brain, the sella, or face and neck; a stripped one always has brain."""
    drawn = rng.random()
    view = _view(rng)
    if drawn < SELLA_SHARE:
        site = np.asarray(head.sella + rng.normal(0, 3, size=3) / head.voxel_mm, dtype=np.float32)
    else:
        outside = drawn < SELLA_SHARE + OUTSIDE_SHARE and not stripped and len(head.outside) > 0
        places = head.outside if outside else head.brain
        site = places[int(rng.integers(len(places)))].astype(np.float32)
    plane = choose_plane(head, site, view, stripped=stripped, size=size, rng=rng)
    return cut(head, plane, size, rng), plane


def _cut_with_tumor(
    head: LabelMap, shapes: MaskShapes, tumor_class: str, stripped: bool, rng: np.random.Generator, size: int
) -> tuple[Pixels, Plane, Mask]:
    """Tissues of a plane with room for a tumour, and its mask."""
    scale = float(rng.uniform(0.75, 1.2))
    for _ in range(TRIES):
        view = _view(rng)
        site = tumor_site(head, tumor_class, view, rng)
        plane = choose_plane(head, site, view, stripped=stripped, size=size, rng=rng)
        tissues = cut(head, plane, size, rng)
        shape = shapes.draw(tumor_class, step_mm=plane.step_mm, scale=scale, size=size, rng=rng)
        mask = place_tumor(tissues, plane, tumor_class, shape, rng)
        if mask is not None:
            return tissues, plane, mask
        scale *= 0.95
    raise DataError(
        f"no place for a tumour of class {tumor_class} in the label maps",
        remedy="use label maps of whole heads, and masks of whole slices",
    )


def _view(rng: np.random.Generator) -> View:
    return VIEWS[int(rng.choice(len(VIEWS), p=VIEW_SHARES))]


def _painted(
    tissues: Pixels, mask: Mask | None, tumor_class: str | None, sequence: Sequence, rng: np.random.Generator
) -> tuple[FloatArray, Mask | None]:
    """Grey levels, ``(H, W)`` float32 from about 0 to 1, and the pixels that the box goes round."""
    size = len(tissues)
    means, spreads = draw_levels(sequence, rng)
    image = looked_up(tissues, means)
    texture = rng.standard_normal((size, size), dtype=np.float32)
    if rng.random() < 0.5:  # coarse grains
        texture = 2 * _blurred(texture, 1.0)
    image += looked_up(tissues, spreads) * texture
    # muscle, marrow and mucosa are far less even than brain
    outer = looked_up(tissues, _UNEVEN) * np.float32(rng.uniform(0.05, 0.3))
    image *= 1 + outer * smooth_field(48, size, rng)
    # pixels at the border of two tissues hold some of both
    image = _blurred(image, float(rng.uniform(0.5, 1.5)) * size / 320 + 0.1)
    if mask is None or tumor_class is None:
        return image, None
    brain, around = _levels_near(image, tissues, mask)
    large = mask.sum() >= FAINT_PIXELS * (size / 320) ** 2
    levels = draw_tumor_levels(sequence, tumor_class, brain, around, may_be_faint=bool(large), rng=rng)
    boxed = mask
    if levels.oedema is not None:
        weight = oedema_weight(tissues, mask, rng) * np.float32(rng.uniform(0.6, 1.0))
        image += weight * (np.float32(levels.oedema) - image)
        if oedema_looks_like_tumor(levels, around, float(weight.max())):
            boxed = mask | (weight > 0.4 * weight.max())
    return paint_tumor(image, mask, levels, rng), boxed


def _blurred(image: FloatArray, sigma: float) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


def _levels_near(image: FloatArray, tissues: Pixels, mask: Mask) -> tuple[float, float]:
    """Mean grey levels of brain near a tumour (or in the slice, or under it) and of all that touches it."""
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    brain = where(tissues, *BRAIN) & ~mask
    near = next((m for m in (brain & wide, brain) if m.any()), mask)
    ring = (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~mask
    return float(image[near].mean()), float(image[ring].mean())


def _scanned(image: FloatArray, rng: np.random.Generator, *, ghosted: bool) -> Pixels:
    """The scanner's part: coil, resolution, noise, window; ``(H, W)`` uint8."""
    size = len(image)
    coarse = image
    if rng.random() < 0.5:  # voxels of the scan larger than pixels, along one axis perhaps more than along the other
        width, height = (max(round(size / f), 24) for f in rng.uniform(1.0, 2.6, size=2))
        coarse = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)
    # Rician: the magnitude of a complex signal with noise in both parts; Gudbjartsson & Patz (1995)
    level = np.float32(rng.uniform(0.0, 0.06) ** 1.5 * 4)
    real, imaginary = level * rng.standard_normal((2, *coarse.shape), dtype=np.float32)
    coarse = np.asarray(cv2.magnitude(coarse + real, imaginary), dtype=np.float32)
    if coarse.shape != image.shape:
        coarse = np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    white = float(rng.uniform(0.75, 1.15)) * max(float(np.percentile(coarse[::4, ::4], 99.5)), 0.05)
    levels = np.clip(coarse * (255 / white), 0, 255).astype(np.uint8)
    gamma = float(np.exp(rng.normal(0, 0.25)))
    curve = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    pixels = np.asarray(curve[levels])
    if rng.random() < 0.7:
        pixels = add_bias_field(pixels, rng)
    return add_ghosts(pixels, rng) if ghosted else pixels
