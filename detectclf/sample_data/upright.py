"""Drawn heads in the two upright planes, coronal and sagittal (face to the left)."""

from __future__ import annotations

import numpy as np

from detectclf.sample_data.tissue import (
    AIR,
    BONE,
    CSF,
    GLAND,
    GREY,
    MARROW,
    MUSCLE,
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
    skin,
    skull_and_scalp,
    smooth_noise,
    soft_tissue,
    stroke,
)
from detectclf.types import FloatArray


def coronal(rng: np.random.Generator) -> Head:
    """From ear to ear, through ventricles, temporal lobes and sella; the face below."""
    half = [(128, 12), (88, 19), (56, 44), (43, 84), (42, 124), (40, 152), (48, 190), (56, 226), (58, 270)]
    head = outline(half + mirrored(half)[:0:-1], rng, 2.5)
    dome = [(128, 33), (94, 38), (68, 58), (58, 92), (58, 122), (64, 142), (86, 152), (106, 144), (116, 132)]
    cavity = outline([*dome, (128, 130), *mirrored(dome)[:0:-1]], rng, 2.0)
    levels = skull_and_scalp(head, cavity, rng)
    low = head & ~cavity & (grid()[1] > 148 + 3 * smooth_noise(rng, 40))
    levels[low] = np.minimum(soft_tissue(rng, symmetric=True), skin(head))[low]
    falx = stroke([(128, 26), (127.5, 60), (128, 84)], 2, rng, 1)
    sylvian = np.zeros_like(cavity)
    for side in (same, mirrored):
        sylvian |= stroke(side([(54, 112), (74, 110), (86, 104)]), 3, rng, 3)
        sylvian |= stroke(side([(86, 104), (88, 114)]), 2, rng, 2)
    brain = cavity & ~falx & ~sylvian
    levels[cavity] = CSF
    levels[brain] = cortex(brain, rng, deepest=26)[brain]
    _coronal_middle(levels, rng)
    fill(levels, falx, GREY)
    fill(levels, ellipse(128, 27, 4, 3), VESSEL)
    _coronal_face(levels, rng)
    return Head(levels, head, cavity, (128 + float(rng.uniform(-1.5, 1.5)), 139.0), upright=True)


def sagittal(rng: np.random.Generator) -> Head:
    """Near the mid-line, face to the left: corpus callosum, brainstem, cerebellum, sella."""
    profile = [(138, 10), (90, 17), (56, 44), (42, 80), (37, 104), (22, 130), (18, 140), (32, 148), (27, 160)]
    profile += [(31, 172), (27, 184), (34, 204), (62, 216), (88, 226), (92, 275), (192, 275), (194, 222)]
    profile += [(212, 176), (230, 120), (219, 66), (184, 24)]
    head = outline(profile, rng, 1.8)
    cerebrum = [(58, 96), (66, 58), (98, 34), (140, 27), (182, 40), (208, 74), (211, 112), (198, 138), (168, 138)]
    brain = outline([*cerebrum, (146, 130), (122, 132), (104, 130), (86, 128), (66, 118)], rng, 2)
    hind = outline([(152, 146), (176, 142), (198, 148), (203, 164), (188, 182), (164, 186), (152, 170)], rng, 2)
    line = [(130, 124), (145, 127), (151, 148), (150, 172), (155, 192), (160, 270), (149, 270), (143, 194), (134, 178)]
    stem = outline([*line, (122, 166), (120, 150), (130, 142)], rng, 1.2)
    levels = skull_and_scalp(head, brain | hind | (stem & (grid()[1] < 180)), rng)
    _sagittal_face(levels, head & ~brain & ~hind, rng)
    fill(
        levels, outline([(150, 140), (205, 142), (206, 168), (186, 188), (160, 192), (140, 200), (112, 150)], rng), CSF
    )
    canal = [(138, 182), (162, 182), (166, 270), (143, 270)]
    fill(levels, outline(canal, rng, 1) & head, CSF)
    levels[brain] = cortex(brain, rng, deepest=30)[brain]
    levels[hind] = folia(rng, (152, 164))[hind]
    fill(levels, stem & head, WHITE - 0.04)
    _sagittal_middle(levels, rng)
    return Head(levels, head, brain, (104.0, 141.0 + float(rng.uniform(-1, 1))), upright=True)


def _coronal_middle(levels: FloatArray, rng: np.random.Generator) -> None:
    """Ventricles, thalami, corpus callosum; the sella with carotids at the base."""
    wide = float(rng.uniform(0.7, 1.4))
    fill(levels, outline([(98, 86), (128, 80), (158, 86), (152, 93), (128, 88), (104, 93)], rng, 1), WHITE + 0.04)
    for side in (same, mirrored):
        fill(levels, outline(side([(112, 108), (104, 116), (110, 127), (122, 124), (123, 112)]), rng, 1), GREY + 0.05)
        fill(levels, outline(side([(86, 102), (94, 100), (98, 114), (90, 120)]), rng, 1.5), GREY + 0.02)
        horn = [(124, 91), (112, 90), (101 - 3 * wide, 93), (106, 98 + 3 * wide), (118, 104), (125, 101)]
        fill(levels, outline(side(horn), rng, 0.8), CSF)
        fill(levels, ellipse(side([(83, 134)])[0][0], 134, 5 * wide, 2, 0), CSF)
        fill(levels, ellipse(side([(111, 141)])[0][0], 141, 2.5, 2.5), VESSEL - 0.15)
    fill(levels, stroke([(128, 106), (128, 122)], 1.5 + wide, rng, 0.5), CSF)
    fill(levels, outline([(128, 122), (114, 129), (118, 137), (128, 139), (138, 137), (142, 129)], rng, 1), CSF)
    fill(levels, ellipse(128, 140.5, 6, 2.8), GLAND)
    fill(levels, stroke([(128, 126), (128, 139)], 1, rng, 0), GLAND)


def _coronal_face(levels: FloatArray, rng: np.random.Generator) -> None:
    """Sinuses and airways (black), turbinates, jaws."""
    fill(levels, outline([(128, 146), (114, 150), (113, 162), (128, 168), (143, 162), (142, 150)], rng, 1.5), AIR)
    fill(levels, outline([(128, 178), (117, 186), (119, 204), (128, 210), (137, 204), (139, 186)], rng, 2), AIR)
    fill(levels, stroke([(128, 146), (128, 168)], 1.5, rng, 0.7), GLAND - 0.1)
    for side in (same, mirrored):
        fill(levels, outline(side([(70, 168), (63, 180), (66, 214), (76, 214), (78, 180)]), rng, 2), MARROW + 0.25)
        fill(levels, stroke(side([(92, 158), (98, 176), (94, 196)]), 3, rng, 3), BONE)
        fill(levels, outline(side([(50, 152), (64, 150), (72, 156), (60, 164)]), rng, 2), BONE)


def _sagittal_face(levels: FloatArray, mask: Mask, rng: np.random.Generator) -> None:
    """Nose, mouth, throat, neck and spine, where ``mask`` allows."""
    x, y = grid()
    low = mask & ((y > 176) | ((y > 128 + 3 * smooth_noise(rng, 40)) & (x < 140)))
    levels[low] = np.minimum(soft_tissue(rng, symmetric=False), skin(mask | (y > 30)))[low]
    face = np.zeros_like(levels) + levels
    fill(face, outline([(36, 136), (60, 130), (84, 136), (84, 164), (56, 166), (36, 156)], rng), BONE + 0.05)
    for shift in (0, 10, 20):
        fill(face, stroke([(40, 138 + shift), (60, 136 + shift), (82, 138 + shift)], 4, rng, 2), GLAND - 0.1)
    fill(face, outline([(86, 148), (100, 150), (104, 164), (90, 168)], rng), AIR)  # sphenoid sinus
    fill(face, outline([(106, 148), (116, 158), (124, 180), (116, 180), (104, 164)], rng, 1), MARROW + 0.2)  # clivus
    fill(face, outline([(40, 182), (66, 176), (92, 184), (92, 206), (64, 212), (44, 202)], rng), MUSCLE + 0.05)
    fill(face, stroke([(36, 174), (64, 171), (92, 174), (104, 190), (106, 226), (106, 262)], 5, rng), AIR)
    for step in range(4):
        fill(face, ellipse(126 + 2 * step, 196 + 19 * step, 9, 7.5), MARROW + 0.12)
    levels[mask] = np.minimum(face, skin(mask | (depth_inside(mask) == 0)))[mask]


def _sagittal_middle(levels: FloatArray, rng: np.random.Generator) -> None:
    """Corpus callosum, ventricle, thalamus, fourth ventricle, sella."""
    fill(
        levels,
        outline([(90, 94), (104, 78), (132, 73), (158, 84), (164, 98), (140, 92), (112, 92), (98, 104)], rng),
        CSF,
    )
    arch = [(94, 108), (84, 96), (92, 80), (112, 68), (136, 66), (158, 76), (168, 92), (162, 100)]
    fill(levels, stroke(arch, 6, rng, 1.2), WHITE + 0.09)
    fill(levels, outline([(116, 98), (134, 90), (152, 98), (148, 112), (126, 114)], rng), GREY + 0.07)
    fill(levels, stroke([(112, 102), (118, 116), (112, 126)], 2.5, rng, 1), CSF)
    fill(levels, outline([(152, 152), (160, 162), (153, 174)], rng, 1), CSF)
    fill(levels, outline([(100, 130), (124, 132), (122, 142), (108, 138)], rng, 1), CSF)
    fill(levels, ellipse(104, 142, 6.5, 4), GLAND)
    fill(levels, stroke([(112, 128), (106, 139)], 1.2, rng, 0.5), GLAND)
    fill(levels, stroke([(211, 112), (204, 138), (176, 139)], 2.5, rng, 1), VESSEL - 0.1)  # straight sinus
