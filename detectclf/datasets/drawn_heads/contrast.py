"""Grey levels of tissues and tumours, as one sequence or none shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from detectclf.datasets.drawn_heads.tissues import Tissue
from detectclf.types import Doubles, FloatArray

Sequence = Literal["t1", "t1_contrast", "t2", "flair", "any"]
"""Kind of contrast; ``any`` draws every tissue's level evenly, so that no order of levels can be learnt."""

REALISTIC: tuple[Sequence, ...] = ("t1", "t1_contrast", "t2", "flair")
Range = tuple[float, float]

T = Tissue
_ROWS: dict[Tissue, tuple[Range, Range, Range, Range]] = {
    # tissue            T1            contrast T1   T2            FLAIR
    T.AIR: ((0.0, 0.01), (0.0, 0.01), (0.0, 0.01), (0.0, 0.01)),
    T.FLUID: ((0.10, 0.22), (0.08, 0.20), (0.80, 1.00), (0.04, 0.14)),
    T.VENTRICLE: ((0.08, 0.20), (0.07, 0.18), (0.82, 1.00), (0.03, 0.12)),
    T.CHOROID: ((0.25, 0.45), (0.45, 0.90), (0.65, 0.90), (0.25, 0.55)),
    T.WHITE: ((0.60, 0.80), (0.42, 0.58), (0.24, 0.40), (0.30, 0.44)),
    T.CORTEX: ((0.42, 0.58), (0.35, 0.50), (0.40, 0.58), (0.42, 0.58)),
    T.CEREBELLAR_WHITE: ((0.58, 0.78), (0.42, 0.58), (0.26, 0.42), (0.30, 0.44)),
    T.CEREBELLAR_CORTEX: ((0.42, 0.58), (0.36, 0.50), (0.40, 0.56), (0.40, 0.54)),
    T.THALAMUS: ((0.50, 0.66), (0.38, 0.52), (0.32, 0.46), (0.36, 0.48)),
    T.STRIATUM: ((0.46, 0.60), (0.37, 0.50), (0.36, 0.50), (0.38, 0.52)),
    T.PALLIDUM: ((0.55, 0.72), (0.40, 0.54), (0.20, 0.34), (0.28, 0.42)),
    T.HIPPOCAMPUS: ((0.44, 0.58), (0.36, 0.50), (0.42, 0.58), (0.44, 0.60)),
    T.BRAIN_STEM: ((0.56, 0.72), (0.40, 0.54), (0.28, 0.42), (0.30, 0.44)),
    T.OLD_LESION: ((0.40, 0.60), (0.33, 0.45), (0.45, 0.75), (0.45, 0.80)),
    T.CORD: ((0.55, 0.72), (0.40, 0.54), (0.28, 0.45), (0.30, 0.44)),
    T.ARTERY: ((0.05, 0.40), (0.60, 1.00), (0.02, 0.12), (0.02, 0.12)),
    T.VEIN: ((0.10, 0.35), (0.70, 1.00), (0.04, 0.25), (0.05, 0.30)),
    T.EYE: ((0.12, 0.22), (0.10, 0.22), (0.82, 1.00), (0.05, 0.15)),
    T.FAT: ((0.85, 1.00), (0.70, 1.00), (0.50, 0.95), (0.55, 1.00)),
    T.MUSCLE: ((0.35, 0.48), (0.32, 0.50), (0.12, 0.25), (0.18, 0.32)),
    T.MUCOSA: ((0.35, 0.55), (0.55, 0.95), (0.55, 0.95), (0.45, 0.80)),
    T.SKIN: ((0.45, 0.75), (0.45, 0.80), (0.30, 0.60), (0.35, 0.70)),
    T.BONE: ((0.02, 0.12), (0.02, 0.12), (0.02, 0.10), (0.02, 0.10)),
    T.MARROW: ((0.45, 0.90), (0.40, 0.85), (0.25, 0.60), (0.30, 0.65)),
    T.NERVE: ((0.50, 0.65), (0.38, 0.50), (0.30, 0.45), (0.32, 0.45)),
    T.GLAND: ((0.48, 0.70), (0.55, 0.90), (0.38, 0.55), (0.38, 0.55)),
    T.DURA: ((0.12, 0.32), (0.15, 0.75), (0.15, 0.80), (0.08, 0.35)),
    T.FALX: ((0.22, 0.40), (0.25, 0.80), (0.15, 0.35), (0.20, 0.45)),
    T.SMALL_VESSEL: ((0.10, 0.25), (0.40, 0.95), (0.10, 0.60), (0.04, 0.15)),
}

LEAST_DIFFERENCE = 0.07
"""Least difference between a tumour and what surrounds it, as a share of the full range: the eye sees a third of it."""

OEDEMA_AS_BRIGHT = 0.6
"""Oedema that stands out from its surroundings by this share of what the tumour does is within the box."""

FAINT_SHARE = 0.12
FAINT = (0.07, 0.13)
FAINT_PIXELS = 200
"""Area of the smallest tumour that may be faint, at 320 px: a smaller one would be lost in noise."""


def draw_levels(sequence: Sequence, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of the grey level of every tissue.

    Returns:
        Two ``(256,)`` float32 tables by tissue; black is 0 and white 1.
    """
    if sequence == "any":
        means = rng.uniform(0.03, 1.0, size=len(Tissue))
        # bone has little signal in every sequence, and what is not in the head has none
        means[Tissue.BONE] = rng.uniform(0.0, 0.4)
        means[Tissue.AIR] = 0.0 if rng.random() < 0.9 else rng.uniform(0.0, 0.1)
        if rng.random() < 0.6:
            _make_kin_alike(means, rng)
    else:
        column = REALISTIC.index(sequence)
        ranges = np.array([_ROWS[tissue][column] for tissue in Tissue])
        means = rng.uniform(ranges[:, 0], ranges[:, 1])
    spreads = rng.uniform(0.005, 0.05, size=len(Tissue)) * (0.4 + means)
    spreads[Tissue.AIR] = 0.0
    tables = np.zeros((2, 256), dtype=np.float32)
    tables[:, : len(Tissue)] = means, spreads
    return tables[0], tables[1]


def _make_kin_alike(means: Doubles, rng: np.random.Generator) -> None:
    """Lets tissues of one kind differ little, as they do in every sequence."""
    kin = (
        (T.WHITE, T.CEREBELLAR_WHITE, T.BRAIN_STEM, T.CORD, T.NERVE),
        (T.CORTEX, T.CEREBELLAR_CORTEX, T.STRIATUM, T.THALAMUS, T.HIPPOCAMPUS),
        (T.FLUID, T.VENTRICLE, T.EYE),
        (T.ARTERY, T.VEIN, T.SMALL_VESSEL),
    )
    for first, *others in kin:
        means[others] = means[first] + rng.normal(0, 0.05, size=len(others))
    np.clip(means, 0.02, 1.0, out=means)


@dataclass(frozen=True, slots=True)
class TumorLevels:
    """Grey levels of a tumour.

    Attributes:
        inside: of the solid part.
        rim: of its border, where that differs.
        core: of its dead or fluid middle, where it has one.
        oedema: of the swollen white matter round it, where there is some.
    """

    inside: float
    rim: float | None
    core: float | None
    oedema: float | None


# Levels relative to the brain near the tumour: of the inside, then share and range of rim, core and oedema.
_Part = tuple[float, float, float]
_Look = tuple[Range, _Part, _Part, _Part]
_NONE: _Part = (0.0, 1.0, 1.0)
_LOOKS: dict[tuple[Sequence, str], tuple[tuple[float, _Look], ...]] = {
    ("t1_contrast", "glioma"): (
        (0.5, ((0.55, 1.0), (1.0, 1.3, 2.3), (0.8, 0.3, 0.75), (0.6, 0.7, 0.92))),
        (0.3, ((0.5, 0.9), _NONE, (0.2, 0.3, 0.6), (0.2, 0.8, 0.95))),
        (0.2, ((1.2, 2.0), _NONE, (0.5, 0.4, 0.9), (0.6, 0.7, 0.92))),
    ),
    ("t1_contrast", "meningioma"): ((1.0, ((1.3, 2.3), (0.15, 1.5, 2.5), (0.12, 0.5, 1.1), (0.35, 0.7, 0.92))),),
    ("t1_contrast", "pituitary"): ((1.0, ((0.95, 2.0), (0.25, 1.4, 2.2), (0.25, 0.3, 0.9), _NONE)),),
    ("t1", "glioma"): ((1.0, ((0.55, 0.92), (0.15, 0.9, 1.2), (0.4, 0.35, 0.6), (0.5, 0.7, 0.93))),),
    ("t1", "meningioma"): ((1.0, ((0.7, 1.1), _NONE, (0.1, 0.4, 0.7), (0.35, 0.7, 0.93))),),
    ("t1", "pituitary"): ((1.0, ((0.65, 1.15), _NONE, (0.25, 0.4, 1.5), _NONE)),),
    ("t2", "glioma"): ((1.0, ((1.3, 2.3), (0.25, 0.6, 1.5), (0.4, 1.8, 2.5), (0.65, 1.3, 2.2))),),
    ("t2", "meningioma"): ((1.0, ((0.8, 1.8), (0.3, 1.6, 2.4), (0.1, 1.5, 2.4), (0.4, 1.3, 2.2))),),
    ("t2", "pituitary"): ((1.0, ((0.9, 1.9), _NONE, (0.3, 1.7, 2.5), _NONE)),),
    ("flair", "glioma"): ((1.0, ((1.3, 2.3), (0.2, 1.5, 2.5), (0.4, 0.3, 1.2), (0.65, 1.3, 2.2))),),
    ("flair", "meningioma"): ((1.0, ((1.0, 1.8), _NONE, (0.1, 0.5, 1.3), (0.45, 1.3, 2.2))),),
    ("flair", "pituitary"): ((1.0, ((1.0, 1.8), _NONE, (0.25, 0.4, 1.8), _NONE)),),
}
# the parts of a tumour at any level, as often as in all sequences together
_ANY: _Look = ((0.05, 1.0), (0.3, 0.0, 1.0), (0.35, 0.0, 1.0), (0.45, 0.0, 1.0))


def draw_tumor_levels(
    sequence: Sequence, tumor_class: str, brain: float, around: float, *, may_be_faint: bool, rng: np.random.Generator
) -> TumorLevels:
    """Grey levels of a tumour.

    Args:
        sequence: contrast of the slice.
        tumor_class: one without a row of its own looks like a glioma.
        brain: level of the brain near the tumour, which the levels of a sequence are relative to.
        around: level of all that touches the tumour; the solid part differs from it by ``LEAST_DIFFERENCE`` or more.
        may_be_faint: whether it may be without parts and hardly off the level around.
        rng: source of the levels.
    """
    if may_be_faint and rng.random() < FAINT_SHARE:
        off = float(rng.uniform(*FAINT)) * (1 if rng.random() < 0.5 or around < 0.2 else -1)
        return TumorLevels(_apart(around + off, around), None, None, None)
    base, look = 1.0, _ANY
    if sequence != "any":
        base = max(brain, 0.15)
        rows = _LOOKS.get((sequence, tumor_class)) or _LOOKS[sequence, "glioma"]
        shares = np.array([share for share, _ in rows])
        look = rows[int(rng.choice(len(rows), p=shares / shares.sum()))][1]
    inside = _apart(float(rng.uniform(*look[0])) * base, around)
    rim, core, oedema = (
        float(np.clip(rng.uniform(low, high) * base, 0, 1)) if rng.random() < share else None
        for share, low, high in look[1:]
    )
    return TumorLevels(inside, rim, core, None if tumor_class == "pituitary" else oedema)


def _apart(level: float, around: float) -> float:
    """``level`` within black and white, at least ``LEAST_DIFFERENCE`` from ``around``."""
    level = float(np.clip(level, 0.02, 1.0))
    if abs(level - around) >= LEAST_DIFFERENCE:
        return level
    up = around < LEAST_DIFFERENCE or (level >= around and around <= 1 - LEAST_DIFFERENCE)
    return around + (LEAST_DIFFERENCE if up else -LEAST_DIFFERENCE)


def oedema_looks_like_tumor(levels: TumorLevels, around: float, weight: float) -> bool:
    """Whether oedema, mixed in by ``weight``, stands out from ``around`` much as the tumour's own parts do."""
    if levels.oedema is None:
        return False
    parts = (levels.inside, levels.inside if levels.rim is None else levels.rim)
    tumor = max((part - around for part in parts), key=abs)
    swelling = weight * (levels.oedema - around)
    return swelling * tumor > 0 and abs(swelling) >= OEDEMA_AS_BRIGHT * abs(tumor)
