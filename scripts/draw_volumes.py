"""Volumes of drawn heads, from the label maps that slices are drawn from, for ``bench_volumes.py``.

    python scripts/draw_volumes.py HEADS OUT [--sequence t1_contrast] [--tumors] [--seed 0]

One healthy head per label map, in one contrast from neck to crown, 1 mm apart; with ``--tumors``, a second one of each
with an egg-shaped tumour of 6 to 20 mm radius in the brain, and its mask as ``NAME-label.nii.gz``. They are simpler
than drawn slices: no bending, no ghosts. A pattern within a tissue is the same on all slices, as if it went through the
head, so that a false alarm does not vanish on the next slice by chance; the noise is new on each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import cv2
import numpy as np
import typer

from detectclf.datasets.drawn_heads.contrast import Sequence, draw_levels, draw_tumor_levels
from detectclf.datasets.drawn_heads.label_maps import LabelMap, LabelMaps
from detectclf.datasets.drawn_heads.planes import smooth_field, tell_apart
from detectclf.datasets.drawn_heads.tissues import looked_up
from detectclf.datasets.drawn_heads.tumors import paint_tumor
from detectclf.types import FloatArray, Mask

RADII = (6.0, 20.0)
"""Millimetres; least and greatest half axis of a tumour."""


def main(
    heads: Path,
    out: Path,
    sequence: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(Sequence))}.")] = "t1_contrast",
    tumors: Annotated[bool, typer.Option(help="Also draw each head with a tumour.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Writes ``head-NN-SEQUENCE.nii.gz``, and ``tumor-NN-SEQUENCE.nii.gz`` with its mask."""
    if sequence not in get_args(Sequence):
        raise SystemExit(f"no sequence {sequence}; choose one of {', '.join(get_args(Sequence))}")
    out.mkdir(parents=True, exist_ok=True)
    for number, head in enumerate(LabelMaps.load(heads), 1):
        rng = np.random.default_rng([seed, number])
        name = f"{number:02}-{sequence}"
        save(drawn(head, sequence, None, rng), head, out / f"head-{name}.nii.gz")
        if tumors:
            mask = egg(head, rng)
            save(drawn(head, sequence, mask, rng), head, out / f"tumor-{name}.nii.gz")
            save(mask.astype(np.uint8), head, out / f"tumor-{name}-label.nii.gz")


def save(levels: np.ndarray, head: LabelMap, file: Path) -> None:
    """A volume whose axes run to the right, to the front and to the head, in millimetres."""
    import nibabel

    image = nibabel.Nifti1Image(levels, np.diag([*head.voxel_mm.astype(float), 1.0]))
    image.header.set_xyzt_units("mm")
    image.to_filename(file)


def egg(head: LabelMap, rng: np.random.Generator) -> Mask:
    """``(X, Y, Z)`` bool: an ellipsoid round a random voxel of the brain, of which what lies in the head is kept."""
    centre = head.brain[int(rng.integers(len(head.brain)))].astype(np.float64)
    half = rng.uniform(*RADII) * rng.uniform(0.8, 1.2, size=3) / head.voxel_mm
    grids = np.ogrid[tuple(slice(0, length) for length in head.tissues.shape)]
    away = sum(((grid - middle) / axis) ** 2 for grid, middle, axis in zip(grids, centre, half, strict=True))
    return np.asarray((away < 1) & (head.tissues > 0))


def drawn(head: LabelMap, sequence: Sequence, mask: Mask | None, rng: np.random.Generator) -> np.ndarray:
    """``(X, Y, Z)`` int16 grey levels from 0 to about 1000."""
    pattern = int(rng.integers(2**32))
    means, spreads = draw_levels(sequence, rng)
    noise, tumor_class = float(rng.uniform(0.005, 0.03)), "glioma"
    levels = None
    if mask is not None:
        brain = float(np.median(looked_up(head.tissues[mask], means)))
        levels = draw_tumor_levels(sequence, tumor_class, brain, brain, may_be_faint=False, rng=rng)
    volume = np.zeros(head.tissues.shape, dtype=np.int16)
    width, height, depth = head.tissues.shape
    side = max(width, height)
    for z in range(depth):
        again = np.random.default_rng(pattern)
        tissues = np.zeros((side, side), dtype=np.uint8)
        tissues[:width, :height] = head.tissues[..., z]
        tell_apart(tissues, float(head.voxel_mm[0]), again)
        image: FloatArray = looked_up(tissues, means) + looked_up(tissues, spreads) * smooth_field(
            side // 2, side, again
        )
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7), dtype=np.float32)
        if mask is not None and levels is not None and mask[..., z].any():
            plane = np.zeros((side, side), dtype=bool)
            plane[:width, :height] = mask[..., z]
            image = paint_tumor(image, plane, levels, again)
        real, imaginary = noise * rng.standard_normal((2, side, side), dtype=np.float32)
        volume[..., z] = np.rint(1000 * np.hypot(image + real, imaginary))[:width, :height]
    return volume


if __name__ == "__main__":
    typer.run(main)
