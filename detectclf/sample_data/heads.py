"""Drawn heads: axial slices at three levels (front up), and the table of all planes. Coordinates are pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detectclf.sample_data.tissue import (
    BONE,
    CSF,
    FAT,
    GLAND,
    GREY,
    MUSCLE,
    SIZE,
    VESSEL,
    WHITE,
    Head,
    Mask,
    cortex,
    depth_inside,
    ellipse,
    fill,
    folia,
    grid,
    mirrored,
    outline,
    same,
    skull_and_scalp,
    smooth_noise,
    soft_tissue,
    stroke,
)
from detectclf.sample_data.upright import coronal, sagittal
from detectclf.types import FloatArray

MIDDLE = SIZE / 2
NARROW = [(0.0, -106.0), (-40, -97), (-68, -60), (-80, -8), (-80, 40), (-56, 86), (0, 104)]
BROAD = [(0.0, -108.0), (-24, -104), (-56, -92), (-72, -56), (-80, -6), (-80, 40), (-56, 86), (0, 104)]


def axial_high(rng: np.random.Generator) -> Head:
    """Above the ventricles: two hemispheres full of gyri, the falx between them."""
    head, brain = _egg(rng, float(rng.uniform(0.84, 0.95)), NARROW)
    return _two_hemispheres(rng, head, brain, gap=(0, SIZE), deepest=40.0)


def axial_middle(rng: np.random.Generator) -> Head:
    """At the lateral ventricles, with basal nuclei and the Sylvian fissures."""
    head, brain = _egg(rng, float(rng.uniform(0.95, 1.0)), NARROW)
    fissures = np.zeros_like(brain)
    for side in (same, mirrored):
        fissures |= stroke(side([(42, 112), (62, 116), (76, 126), (80, 140)]), 3, rng, 3)
    slice_ = _two_hemispheres(rng, head, brain, gap=(86, 172), deepest=24.0, cut=fissures)
    levels = slice_.levels
    wide = float(rng.uniform(0.75, 1.5))
    for side in (same, mirrored):
        fill(levels, outline(side([(103, 100), (96, 112), (98, 128), (108, 122), (110, 108)]), rng), GREY + 0.03)
        fill(levels, outline(side([(88, 108), (82, 124), (88, 140), (96, 128)]), rng), GREY + 0.02)
        fill(levels, ellipse(side([(114, 142)])[0][0], 142, 10, 13, 0), GREY + 0.05)
        horn = [(121, 96), (112, 94), (105, 100), (113, 104 + 6 * wide), (122, 118), (124, 106)]
        fill(levels, outline(side(horn), rng, 1.0), CSF)
        trigone = [(106, 152), (98, 158), (92, 172), (96 - 3 * wide, 176), (104, 166), (112, 156)]
        fill(levels, outline(side(trigone), rng, 1.2), CSF)
        fill(levels, ellipse(side([(103, 161)])[0][0], 161, 2.4, 4, 25), VESSEL - 0.2)  # choroid plexus
    fill(levels, stroke([(128, 128), (127.5, 138), (128, 150)], 1 + 2 * wide, rng, 0.6), CSF)
    return slice_


def axial_low(rng: np.random.Generator) -> Head:
    """At the base: eyes, temporal lobes, the cistern round the sella, pons and cerebellum."""
    head, cavity = _egg(rng, float(rng.uniform(0.95, 1.0)), BROAD)
    levels = skull_and_scalp(head, cavity, rng)
    base = head & (depth_inside(head) > 4) & (grid()[1] < 108)
    levels[base] = soft_tissue(rng, symmetric=True)[base]
    frontal = outline([(128, 62), (106, 66), (96, 84), (102, 100), (128, 104), (154, 100), (160, 84), (150, 66)], rng)
    lobe = [(108, 112), (88, 92), (66, 98), (50, 122), (48, 148), (66, 160), (92, 152), (106, 136)]
    temporal = outline(lobe, rng, 3) | outline(mirrored(lobe), rng, 3)
    brain = cavity & temporal
    behind = cavity & (grid()[1] > 148) & ~temporal
    levels[cavity & (grid()[1] >= 104)] = CSF
    _bone_wedges(levels, cavity, rng)
    hind = behind & outline([(70, 168), (128, 156), (186, 168), (196, 196), (160, 228), (96, 228), (60, 196)], rng, 4)
    tissue = brain | (cavity & frontal)
    levels[tissue] = cortex(tissue, rng, deepest=20)[tissue]
    levels[hind] = folia(rng, (128, 160))[hind]
    middle = [(128, 102), (108, 106), (98, 120), (104, 136), (128, 142), (152, 136), (158, 120), (148, 106)]
    fill(levels, outline(middle, rng) & (levels == CSF), GREY + 0.08)
    fill(levels, ellipse(128, 152, 19, 15) | ellipse(128, 162, 12, 10), WHITE - 0.03)
    fill(levels, ellipse(128, 174, 7, 4), CSF)
    star = [(128, 110), (119, 116), (111, 122), (118, 130), (128, 137), (138, 130), (145, 122), (137, 116)]
    fill(levels, outline(star, rng, 1.5), CSF)
    sella = (128 + float(rng.uniform(-1.5, 1.5)), 122.0)
    fill(levels, ellipse(*sella, 4, 3), GLAND)
    for side in (-1, 1):
        fill(levels, ellipse(sella[0] + side * 10, 120, 2.2, 2.2), VESSEL - 0.1)  # carotid arteries
    fill(levels, ellipse(128, 136, 1.8, 1.8), VESSEL)  # basilar artery
    _eyes(levels, depth_inside(head) > 5, rng)
    return Head(levels, head, brain, sella)


HEADS: dict[str, tuple[Callable[[np.random.Generator], Head], ...]] = {
    "axial": (axial_high, axial_middle, axial_low),
    "coronal": (coronal,),
    "sagittal": (sagittal,),
}
"""Plane -> the levels it is cut at."""


def _egg(rng: np.random.Generator, size: float, half: list[tuple[float, float]]) -> tuple[Mask, Mask]:
    """Head and brain cavity of an axial slice, from one side of its outline round the middle."""
    ring = half + [(-x, y) for x, y in half[-2:0:-1]]
    wide = float(rng.uniform(0.95, 1.08))
    head = outline([(MIDDLE + size * wide * x, MIDDLE + size * y) for x, y in ring], rng, 2.0)
    return head, depth_inside(head) > float(rng.uniform(15.5, 19.0))


def _two_hemispheres(
    rng: np.random.Generator,
    head: Mask,
    brain: Mask,
    gap: tuple[float, float],
    deepest: float,
    cut: Mask | None = None,
) -> Head:
    """Skull, folded hemispheres and falx; the fissure spares ``gap`` (y from, to) unless that is the whole slice."""
    levels = skull_and_scalp(head, brain, rng)
    bend = float(rng.uniform(-2, 2))
    line = stroke([(128, 0), (128 + bend, 80), (128 - bend, 170), (128, SIZE)], 2, rng, 0.5)
    if gap != (0, SIZE):
        line &= (grid()[1] < gap[0]) | (grid()[1] > gap[1])
    tissue = brain & ~line if cut is None else brain & ~line & ~cut
    levels[brain] = CSF
    levels[tissue] = cortex(tissue, rng, deepest=deepest)[tissue]
    levels[line & brain] = float(rng.uniform(CSF + 0.05, GREY + 0.2))  # the falx takes up contrast
    rows = np.flatnonzero(brain[:, SIZE // 2])
    fill(levels, ellipse(128, rows[-1] + 1, 4.5, 4), VESSEL)  # sagittal sinus
    fill(levels, ellipse(128, rows[0] - 1, 2.5, 2), VESSEL)
    return Head(levels, head, brain)


def _bone_wedges(levels: FloatArray, cavity: Mask, rng: np.random.Generator) -> None:
    """Petrous bones, dark with bright specks, from the sides towards the pons."""
    for side in (same, mirrored):
        wedge = outline(side([(38, 150), (72, 158), (102, 146), (98, 154), (70, 172), (40, 172)]), rng, 2)
        specks = BONE + 0.4 * (smooth_noise(rng, 6) > 1.0)
        levels[wedge & cavity] = specks[wedge & cavity]


def _eyes(levels: FloatArray, allowed: Mask, rng: np.random.Generator) -> None:
    """Orbits with fat, eyeballs, optic nerves, and the dark nose between them."""
    top = 52 + float(rng.uniform(-3, 3))
    for side in (-1, 1):
        x = 128 + side * 32
        orbit = [
            (x - side * 17, top - 6),
            (x + side * 19, top - 2),
            (x + side * 14, top + 20),
            (128 + side * 15, top + 42),
        ]
        fill(levels, outline(orbit, rng) & allowed, FAT - 0.12)
        fill(levels, stroke([(x, top + 10), (128 + side * 18, top + 40)], 4, rng, 1), MUSCLE)
        for edge in (-11, 13):
            fill(levels, stroke([(x + edge, top + 4), (128 + side * 17, top + 38)], 3, rng, 1) & allowed, MUSCLE)
        fill(levels, ellipse(x, top, 14, 14) & allowed, MUSCLE + 0.1)
        fill(levels, ellipse(x, top, 12.5, 12.5) & allowed, CSF + 0.03)
        fill(levels, ellipse(x, top - 9, 5, 2.5) & allowed, MUSCLE + 0.1)
    nose = [(128, 30), (116, 42), (114, 74), (128, 86), (142, 74), (140, 42)]
    fill(levels, outline(nose, rng) & allowed, BONE)
    for x in (120, 128, 136):
        fill(levels, stroke([(x, 44), (x + 1, 60), (x, 80)], 2, rng, 1.5) & allowed, GLAND - 0.1)
