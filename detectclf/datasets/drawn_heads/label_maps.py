"""Label maps of whole heads: read, turned to anatomical axes, and searched for the places where tumours occur."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detectclf.datasets.drawn_heads.tissues import (
    BRAIN,
    CHIASM_LABEL,
    INSIDE_SKULL,
    LARGEST_LABEL,
    UNKNOWN,
    Tissue,
    label_table,
    where,
)
from detectclf.errors import DataError, UnsafeError
from detectclf.imaging.intensity import decoding
from detectclf.imaging.medical import MAX_UNPACKED_BYTES, import_medical
from detectclf.types import FloatArray, Mask, Pixels

Places = npt.NDArray[np.int16]
"""``(N, 3)`` voxels of a map."""

SITES = 4000
"""Places kept of each kind per head: enough that no two drawn slices are alike, 24 kB each."""

SELLA_BELOW_CHIASM_MM = 9.0
SELLA_BEFORE_CHIASM_MM = 2.5
GLAND_RADII_MM = np.array([6.0, 4.5, 3.5], dtype=np.float32)
FALX_MM = 1.0
"""Half the thickness of the slab in which fluid counts as falx: a little more than real, so as not to get lost."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap:
    """One head. Voxel axes run to the right, to the front and to the head; air surrounds it on all sides.

    Attributes:
        tissues: ``(X, Y, Z)`` uint8 of :class:`Tissue`.
        voxel_mm: ``(3,)`` float32 edges of a voxel.
        brain_low, brain_high: ``(3,)`` float32 voxels, corners of the box round the brain.
        sella: ``(3,)`` float32 voxel in the middle of the pituitary gland.
        brain: ``(N, 3)`` voxels of white and grey matter, evenly sampled.
        border: ``(N, 3)`` voxels where the brain's fluid touches the skull.
        falx: ``(N, 3)`` voxels of fluid in the mid-plane above the brain-stem; perhaps none.
        outside: ``(N, 3)`` voxels of face, neck and scalp.
    """

    tissues: Pixels
    voxel_mm: FloatArray
    brain_low: FloatArray
    brain_high: FloatArray
    sella: FloatArray
    brain: Places
    border: Places
    falx: Places
    outside: Places


@dataclass(frozen=True, slots=True, eq=False)
class LabelMaps:
    """All heads that slices are drawn from.

    Attributes:
        heads: at least one, in the order of their file names.
    """

    heads: tuple[LabelMap, ...]

    @staticmethod
    def load(folder: Path) -> LabelMaps:
        """Reads every ``.nii`` and ``.nii.gz`` of ``folder``, about 8 MB of memory each.

        Raises:
            DataError: there is none, nibabel is missing, or one is no label map of SynthSeg's kind.
            UnsafeError: one unpacks to too much.
        """
        files = sorted(f for pattern in ("*.nii", "*.nii.gz") for f in folder.glob(pattern) if f.is_file())
        if not files:
            raise DataError(
                "no label maps (.nii, .nii.gz)",
                file=folder,
                remedy="name the folder with SynthSeg's training label maps",
            )
        return LabelMaps(tuple(read_label_map(file) for file in files))

    def __iter__(self) -> Iterator[LabelMap]:
        return iter(self.heads)


def read_label_map(file: Path) -> LabelMap:
    """Reads one map; errors as of :meth:`LabelMaps.load`."""
    nibabel = import_medical("nibabel", file)
    with decoding(file, "NIfTI file"):
        image = nibabel.load(file)
        if len(image.shape) != 3:
            raise DataError("no volume of three axes", file=file, remedy="leave only label maps in the folder")
        if np.prod(image.shape) * image.header.get_data_dtype().itemsize > MAX_UNPACKED_BYTES:
            raise UnsafeError("unpacks to more than 256 MiB", file=file, remedy="resample it to 1 mm")
        image = nibabel.as_closest_canonical(image)
        labels = np.asanyarray(image.dataobj)
        voxel_mm = np.asarray(image.header.get_zooms()[:3], dtype=np.float32)
    return make_label_map(labels, voxel_mm, file)


def make_label_map(labels: npt.NDArray[np.generic], voxel_mm: FloatArray, file: str | Path = "label map") -> LabelMap:
    """The head of a volume of SynthSeg's labels.

    Args:
        labels: ``(X, Y, Z)``, axes to the right, to the front and to the head.
        voxel_mm: ``(3,)`` float32 edges of a voxel.
        file: named in errors.

    Raises:
        DataError: labels that are none of SynthSeg's, or no brain or skull among them.
    """
    remedy = "leave only SynthSeg's label maps of whole heads in the folder"
    whole = np.asarray(labels).astype(np.int32)
    if whole.min() < 0 or whole.max() > LARGEST_LABEL:
        raise DataError(f"labels outside 0 to {LARGEST_LABEL}", file=file, remedy=remedy)
    tissues = np.ascontiguousarray(label_table()[whole])
    if (tissues == UNKNOWN).any():
        raise DataError(f"label {whole[tissues == UNKNOWN][0]} is none of SynthSeg's", file=file, remedy=remedy)
    _drop_islands(tissues)
    for needed in (Tissue.WHITE, Tissue.FLUID, Tissue.BONE):
        if not (tissues == needed).any():
            raise DataError(f"no {needed.name.lower()} in this label map", file=file, remedy=remedy)
    chiasm = (whole == CHIASM_LABEL) & (tissues != Tissue.AIR)
    low, high = _extent(tissues != Tissue.AIR)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    # one voxel of air on all sides: a plane that leaves the volume is clipped into it
    return _find_places(np.pad(tissues[inside], 1), np.pad(chiasm[inside], 1), voxel_mm)


def _drop_islands(tissues: Pixels) -> None:
    """Makes everything air that hangs together neither with the head nor with half as much as it."""
    from scipy import ndimage

    blobs, count = ndimage.label(tissues != Tissue.AIR)
    if count > 1:
        sizes = np.bincount(blobs.ravel())
        sizes[0] = 0
        tissues[(sizes < sizes.max() / 2)[blobs]] = Tissue.AIR


def _extent(mask: Mask) -> tuple[list[int], list[int]]:
    """First and one past the last index along each axis where ``mask`` holds."""
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return [int(s[0]) for s in spans], [int(s[-1]) + 1 for s in spans]


def _find_places(tissues: Pixels, chiasm: Mask, voxel_mm: FloatArray) -> LabelMap:
    """Paints gland and falx, and samples the places. The same map gives the same places every time."""
    rng = np.random.default_rng(0)
    brain = where(tissues, *BRAIN)
    low, high = _extent(brain)
    middle_x = (low[0] + high[0]) / 2
    sella = _find_sella(tissues, chiasm, brain, voxel_mm)
    stem_top = _extent(tissues == Tissue.BRAIN_STEM)[1][2] if (tissues == Tissue.BRAIN_STEM).any() else low[2]
    _paint_gland(tissues, sella, voxel_mm)
    slab = slice(round(middle_x - FALX_MM / voxel_mm[0]), round(middle_x + FALX_MM / voxel_mm[0]) + 1)
    sheet = tissues[slab, :, stem_top:]
    falx = _sample(sheet == Tissue.FLUID, rng) + np.array([slab.start, 0, stem_top], dtype=np.int16)
    sheet[sheet == Tissue.FLUID] = Tissue.FALX
    outer = where(tissues, Tissue.FAT, Tissue.MUSCLE, Tissue.MUCOSA, Tissue.SKIN, Tissue.MARROW)
    return LabelMap(
        tissues=tissues,
        voxel_mm=voxel_mm.astype(np.float32),
        brain_low=np.array(low, dtype=np.float32),
        brain_high=np.array(high, dtype=np.float32),
        sella=sella,
        brain=_sample(brain, rng),
        border=_sample(_touches_skull(tissues, low, high), rng),
        falx=falx,
        outside=_sample(outer, rng),
    )


def _sample(mask: Mask, rng: np.random.Generator) -> Places:
    """At most ``SITES`` of the voxels where ``mask`` holds, evenly."""
    flat = np.flatnonzero(mask)
    if len(flat) > SITES:
        flat = rng.choice(flat, SITES, replace=False)
    return np.asarray(np.unravel_index(flat, mask.shape), dtype=np.int16).T


def _touches_skull(tissues: Pixels, low: list[int], high: list[int]) -> Mask:
    """Voxels inside the skull with bone beside them, at the levels of the brain."""
    bone, inner = tissues == Tissue.BONE, where(tissues, *INSIDE_SKULL)
    beside = np.zeros_like(bone)
    for axis in range(3):
        for step in (-1, 1):
            beside |= np.roll(bone, step, axis)
    beside &= inner
    beside[:, :, : low[2]] = False
    beside[:, :, high[2] :] = False
    return np.asarray(beside)


def _find_sella(tissues: Pixels, chiasm: Mask, brain: Mask, voxel_mm: FloatArray) -> FloatArray:
    """Middle of the pituitary gland: on the bone under the optic chiasm, about 9 mm below it.

    A map without a chiasm has it where heads have it on average, by the box round the brain.
    """
    low, high = (np.array(corner, dtype=np.float32) for corner in _extent(brain))
    middle_x = (low[0] + high[0]) / 2
    if not chiasm.any():
        return np.array([middle_x, low[1] + 0.6 * (high[1] - low[1]), low[2] + 0.36 * (high[2] - low[2])], np.float32)
    at = np.argwhere(chiasm).mean(axis=0) + np.array([0, SELLA_BEFORE_CHIASM_MM / voxel_mm[1], 0])
    below = np.rint(SELLA_BELOW_CHIASM_MM * np.array([0.4, 1.8]) / voxel_mm[2]).astype(int)
    column = tissues[round(middle_x), round(at[1]), : round(at[2])]
    top = round(at[2]) - below[0]
    bone = np.flatnonzero(~where(column[max(top - below[1], 0) : top], *INSIDE_SKULL))
    floor = max(top - below[1], 0) + bone[-1] if len(bone) else at[2] - SELLA_BELOW_CHIASM_MM / voxel_mm[2]
    return np.array([middle_x, at[1], floor + GLAND_RADII_MM[2] / voxel_mm[2]], dtype=np.float32)


def _paint_gland(tissues: Pixels, sella: FloatArray, voxel_mm: FloatArray) -> None:
    """Puts a gland of normal size on the sella, where fluid, vein or bone is."""
    radii = GLAND_RADII_MM / voxel_mm
    first = np.maximum(np.floor(sella - radii).astype(int), 0)
    box = tuple(slice(a, b) for a, b in zip(first, np.ceil(sella + radii).astype(int) + 1, strict=True))
    part = tissues[box]
    grid = np.moveaxis(np.indices(part.shape), 0, -1) + first
    gland = (((grid - sella) / radii) ** 2).sum(axis=-1) <= 1
    part[gland & where(part, Tissue.FLUID, Tissue.VEIN, Tissue.BONE, Tissue.MARROW)] = Tissue.GLAND
