"""Tumours on a cut head: where their masks go, what they push aside, and how they look."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from detectclf.datasets.drawn_heads.contrast import TumorLevels
from detectclf.datasets.drawn_heads.label_maps import LabelMap
from detectclf.datasets.drawn_heads.planes import Plane, View, smooth_field
from detectclf.datasets.drawn_heads.shapes import LEAST_AREA
from detectclf.datasets.drawn_heads.tissues import BRAIN, INSIDE_SKULL, Tissue, looked_up, where
from detectclf.types import FloatArray, Mask, Pixels

# How often a glioma starts in each tissue; the rest of the brain shares what is left.
_GLIOMA_SITES = ((0.6, Tissue.WHITE), (0.2, Tissue.CORTEX), (0.08, Tissue.BRAIN_STEM), (0.04, Tissue.CEREBELLAR_WHITE))
FALX_SHARE = 0.15
LEAST_KEPT = {"glioma": 0.75, "meningioma": 0.55, "pituitary": 0.75}
"""Least share of a mask that must lie where its class grows; what lies elsewhere is cut away."""

LEAST_BRAIN = 0.55
"""Least share of a glioma's mask on brain: it does not grow in a ventricle or between the convolutions."""

_SITE_JITTER_MM = np.array([4.0, 3.0, 3.0])


def tumor_site(head: LabelMap, tumor_class: str, view: View, rng: np.random.Generator) -> FloatArray:
    """A voxel, ``(3,)`` float32, where a tumour of this class grows; classes but the three known grow as gliomas."""
    if tumor_class == "pituitary":
        jitter = rng.normal(0, 0.6, size=3).clip(-1.5, 1.5) * _SITE_JITTER_MM
        # an axial plane may well lie above the gland: tumours grow upwards
        jitter[2] += rng.uniform(-3, 8) if view == "axial" else 0.0
        return np.asarray(head.sella + jitter / head.voxel_mm, dtype=np.float32)
    if tumor_class == "meningioma":
        on_falx = len(head.falx) > 0 and (rng.random() < FALX_SHARE or len(head.border) == 0)
        places = head.falx if on_falx else head.border
    else:
        places = head.brain
        tissues = head.tissues[tuple(places.T)]
        drawn = rng.random()
        for share, tissue in _GLIOMA_SITES:
            drawn -= share
            if drawn < 0:
                places = places[tissues == tissue] if (tissues == tissue).any() else places
                break
    return np.asarray(places[int(rng.integers(len(places)))], dtype=np.float32)


def place_tumor(
    tissues: Pixels, plane: Plane, tumor_class: str, shape: Pixels, rng: np.random.Generator
) -> Mask | None:
    """The pixels of a tumour at the plane's site, or ``None`` where too little of its mask would be left.

    A glioma is centred on the site. A meningioma's site is on the skull or falx: its mask lies against it, a little cut
    off, so that it has a broad base. A pituitary tumour stands on the floor of the sella, or on axial slices is
    centred there.

    Args:
        tissues: ``(H, W)`` uint8.
        plane: that they were cut along.
        tumor_class: decides where the mask goes.
        shape: ``(h, w)`` uint8 of 0 and 1.
        rng: source of small shifts.

    Returns:
        ``(H, W)`` bool, in one piece, wholly inside the slice.
    """
    column, row = plane.site
    if tumor_class == "pituitary":
        outside = where(tissues, Tissue.SKIN, Tissue.MUSCLE, Tissue.EYE, Tissue.BRAIN_STEM, Tissue.CORD, Tissue.FAT)
        allowed = ~outside
        if plane.view != "axial":
            row -= shape.shape[0] * rng.uniform(0.15, 0.5) - 3.5 / plane.step_mm
    else:
        allowed = where(tissues, *INSIDE_SKULL)
    if tumor_class == "meningioma":
        at = (min(int(row), len(tissues) - 1), min(int(column), tissues.shape[1] - 1))
        inwards = _inwards(tissues, allowed, at, plane.step_mm, rng)
        reach = _reach(shape, -inwards) * rng.uniform(0.7, 0.95)
        column, row = column + inwards[0] * reach, row + inwards[1] * reach
    mask = _pasted(shape, row, column, allowed.shape)
    kept = mask & allowed
    least = max(LEAST_KEPT.get(tumor_class, 0.75) * float(shape.sum()), LEAST_AREA * tissues.size)
    if kept.sum() < least:
        return None
    largest = _largest_piece(kept)
    grows = tumor_class in ("meningioma", "pituitary") or where(tissues, *BRAIN)[mask].mean() >= LEAST_BRAIN
    return largest if grows and largest.sum() >= 0.9 * least else None


def _inwards(
    tissues: Pixels, allowed: Mask, at: tuple[int, int], step_mm: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """``(2,)`` unit vector (right, down) from the skull at pixel ``at`` (row, column) into the brain."""
    reach = max(round(10 / step_mm), 3)
    top, left = max(at[0] - reach, 0), max(at[1] - reach, 0)
    near = (slice(top, at[0] + reach + 1), slice(left, at[1] + reach + 1))
    rows, columns = np.nonzero(allowed[near] & ~(tissues[near] == Tissue.FALX))
    towards = np.zeros(2)
    if len(rows):
        towards = np.array([columns.mean() + left - at[1], rows.mean() + top - at[0]])
    if np.hypot(*towards) < 0.15 * reach:  # fluid on both sides: the falx, or a plane along the skull
        side = 1.0 if rng.random() < 0.5 else -1.0
        towards = np.array([side, rng.normal(0, 0.2)])
    return np.asarray(towards / np.hypot(*towards))


def _reach(shape: Pixels, direction: npt.NDArray[np.float64]) -> float:
    """How far ``shape`` goes from its middle in ``direction`` (right, down), pixels."""
    rows, columns = np.nonzero(shape)
    middle = (np.array(shape.shape[::-1]) - 1) / 2
    return float(((columns - middle[0]) * direction[0] + (rows - middle[1]) * direction[1]).max())


def _pasted(shape: Pixels, row: float, column: float, size: tuple[int, ...]) -> Mask:
    """``shape`` with its middle at ``row`` and ``column`` of an empty slice; what lies outside is lost."""
    mask = np.zeros(size, dtype=bool)
    height, width = shape.shape
    top, left = round(row - height / 2), round(column - width / 2)
    to_rows, to_columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
    part = shape[max(-top, 0) :, max(-left, 0) :]
    target = mask[to_rows, to_columns]
    target[:] = part[: target.shape[0], : target.shape[1]] > 0
    return mask


def _largest_piece(mask: Mask) -> Mask:
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    return np.asarray(pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))


def push_aside(tissues: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
    """The tissues pressed away from a tumour, as it presses on ventricles and cortex; the skull stays.

    What lay near the tumour's middle comes to lie at its border. The shift falls off with distance, and with
    nearness to the skull.
    """
    rows, columns = np.nonzero(mask)
    row, column = np.float32(rows.mean()), np.float32(columns.mean())
    radius = np.sqrt(len(rows) / np.pi)
    strength = np.float32(rng.uniform(0.1, 0.5))
    height, width = tissues.shape
    down = (np.arange(height, dtype=np.float32) - row)[:, None]
    right = (np.arange(width, dtype=np.float32) - column)[None, :]
    inner = where(tissues, *INSIDE_SKULL).astype(np.uint8)
    free = cv2.distanceTransform(inner, cv2.DIST_L2, cv2.DIST_MASK_3) / np.float32(0.05 * height)
    pull = np.minimum(free, 1) * strength * np.exp(-(down**2 + right**2) / np.float32((1.6 * radius) ** 2))
    moved = cv2.remap(tissues, column + right * (1 - pull), row + down * (1 - pull), cv2.INTER_NEAREST)
    return np.asarray(moved, dtype=np.uint8)


def oedema_weight(tissues: Pixels, mask: Mask, rng: np.random.Generator) -> FloatArray:
    """How much of each pixel is oedema, ``(H, W)`` float32 in [0, 1]: round the tumour, in white matter mainly."""
    size = len(mask)
    radius = np.sqrt(float(mask.sum()) / np.pi)
    spread = float(rng.uniform(0.3, 0.9) * radius + 0.012 * size)
    near = np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), spread), dtype=np.float32)
    near += 0.06 * smooth_field(10, size, rng)
    weight = np.clip((near - float(rng.uniform(0.12, 0.3))) * 8, 0, 1)
    share = np.zeros(256, dtype=np.float32)
    share[[Tissue.WHITE, Tissue.CEREBELLAR_WHITE, Tissue.BRAIN_STEM, Tissue.OLD_LESION]] = 1.0
    share[[Tissue.THALAMUS, Tissue.STRIATUM, Tissue.PALLIDUM, Tissue.HIPPOCAMPUS]] = 0.4
    share[[Tissue.CORTEX, Tissue.CEREBELLAR_CORTEX]] = 0.15
    weight *= looked_up(tissues, share)
    weight = cv2.GaussianBlur(weight, (0, 0), 0.004 * size + 0.4)
    weight[mask] = 0
    return np.asarray(weight, dtype=np.float32)


def paint_tumor(image: FloatArray, mask: Mask, levels: TumorLevels, rng: np.random.Generator) -> FloatArray:
    """Paints a tumour with its rim and core over ``image``, with a soft edge and an uneven inside.

    Args:
        image: ``(H, W)`` float32 grey levels from 0 to 1.
        mask: ``(H, W)`` bool, the tumour.
        levels: of its parts.
        rng: source of texture and edges.

    Returns:
        ``(H, W)`` float32, a new array.
    """
    size = len(mask)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
    deepest = max(float(depth.max()), 1.0)
    # the field has about as many grains across the tumour as a tumour has lobes, whatever its size
    uneven = smooth_field(int(np.clip(2.5 * size / deepest, 6, size // 2)), size, rng)
    texture = float(rng.uniform(0.01, 0.12)) * max(abs(levels.inside), 0.25)
    tumor = levels.inside + texture * uneven
    relative = depth / deepest
    if levels.core is not None:
        core = np.clip((relative + 0.2 * uneven - float(rng.uniform(0.3, 0.7))) * 6, 0, 1)
        tumor += core * (levels.core - tumor)
    if levels.rim is not None:
        width = float(rng.uniform(0.1, 0.35)) * deepest
        rim = np.clip(width * (1 + 0.3 * uneven) - depth + 1, 0, 1)
        tumor += rim * (levels.rim - tumor)
    softness = float(rng.uniform(0.3, 0.09 * deepest + 0.8))
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), softness)
    return np.asarray(image + weight * (tumor - image), dtype=np.float32)
