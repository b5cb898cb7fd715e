"""Tissues of a drawn head, and which labels of SynthSeg's maps make each of them."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from detectclf.types import Mask, Pixels

_Value = TypeVar("_Value", np.uint8, np.float32)


class Tissue(IntEnum):
    """What a voxel is. The first come from the maps, those after ``NERVE`` are worked out from their surroundings."""

    AIR = 0
    FLUID = 1
    VENTRICLE = 2
    CHOROID = 3
    WHITE = 4
    CORTEX = 5
    CEREBELLAR_WHITE = 6
    CEREBELLAR_CORTEX = 7
    THALAMUS = 8
    STRIATUM = 9
    PALLIDUM = 10
    HIPPOCAMPUS = 11
    BRAIN_STEM = 12
    OLD_LESION = 13
    CORD = 14
    ARTERY = 15
    VEIN = 16
    EYE = 17
    FAT = 18
    MUSCLE = 19
    MUCOSA = 20
    SKIN = 21
    BONE = 22
    MARROW = 23
    NERVE = 24
    GLAND = 25
    DURA = 26
    FALX = 27
    SMALL_VESSEL = 28


# FreeSurfer's numbers (below 200) and those of SimNIBS charm for what lies outside the brain (from 500 on). 507 is all
# soft tissue that is nothing else: fat here, until its surroundings say that it is muscle. Left and right together.
_LABELS: dict[Tissue, tuple[int, ...]] = {
    Tissue.AIR: (0,),
    Tissue.FLUID: (24,),
    Tissue.VENTRICLE: (4, 5, 14, 15, 43, 44, 72),
    Tissue.CHOROID: (31, 63, 136, 137, 163, 164),
    Tissue.WHITE: (2, 41),
    Tissue.CORTEX: (3, 42),
    Tissue.CEREBELLAR_WHITE: (7, 46),
    Tissue.CEREBELLAR_CORTEX: (8, 47),
    Tissue.THALAMUS: (10, 28, 49, 60),
    Tissue.STRIATUM: (11, 12, 26, 50, 51, 58),
    Tissue.PALLIDUM: (13, 52),
    Tissue.HIPPOCAMPUS: (17, 18, 53, 54),
    Tissue.BRAIN_STEM: (16,),
    Tissue.OLD_LESION: (25, 57),
    Tissue.CORD: (512,),
    Tissue.ARTERY: (30, 62, 502),
    Tissue.VEIN: (514,),
    Tissue.EYE: (506,),
    Tissue.FAT: (507,),
    Tissue.MUSCLE: (508,),
    Tissue.MUCOSA: (509,),
    Tissue.SKIN: (511,),
    Tissue.BONE: (515,),
    Tissue.MARROW: (516,),
    Tissue.NERVE: (85, 530),
}

CHIASM_LABEL = 85
LARGEST_LABEL = 530
UNKNOWN = 255

BRAIN = (
    Tissue.WHITE,
    Tissue.CORTEX,
    Tissue.CEREBELLAR_WHITE,
    Tissue.CEREBELLAR_CORTEX,
    Tissue.THALAMUS,
    Tissue.STRIATUM,
    Tissue.PALLIDUM,
    Tissue.HIPPOCAMPUS,
    Tissue.BRAIN_STEM,
    Tissue.OLD_LESION,
)
FLUIDS = (Tissue.FLUID, Tissue.DURA, Tissue.FALX, Tissue.SMALL_VESSEL)
INSIDE_BRAIN = (*BRAIN, Tissue.VENTRICLE, Tissue.CHOROID)
INSIDE_SKULL = (*INSIDE_BRAIN, *FLUIDS, Tissue.VEIN, Tissue.GLAND)


def label_table() -> Pixels:
    """``(LARGEST_LABEL + 1,)`` uint8: the tissue of each label, ``UNKNOWN`` where it is none of SynthSeg's."""
    table = np.full(LARGEST_LABEL + 1, UNKNOWN, dtype=np.uint8)
    for tissue, labels in _LABELS.items():
        table[list(labels)] = tissue
    return table


def where(tissues: Pixels, *of: Tissue) -> Mask:
    """Which voxels or pixels of ``tissues`` are one of ``of``; a bool array of the same shape."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(of)] = 1
    return looked_up(tissues, table).view(np.bool_)


def looked_up(tissues: Pixels, table: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
    """The entry of ``table``, ``(256,)``, of each voxel or pixel; several times faster than indexing on slices."""
    if tissues.ndim == 2:
        return np.asarray(cv2.LUT(tissues, table))
    return np.asarray(table[tissues])
