"""What a bundle knows of the slices that it was fitted on, to recognise other pictures, unusual and turned slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detectclf.errors import DetectclfError
from detectclf.pipelines.unseen import Unseen
from detectclf.progress import Progress
from detectclf.types import FloatArray, Sample

if TYPE_CHECKING:
    from detectclf.inference.predictor import Predictor
    from detectclf.models.bundle_arrays import OODStatistics, Orientation

_MOST_SLICES = 4000  # of the fit of the orientation
_DRAWN, _DRAWN_SIDE = 4500, 224  # heads drawn for it, and their side in pixels


def ood_of(
    unseen: Unseen, predictor: Predictor, groups: list[int], by_others: bool, head_maps: Path | None
) -> OODStatistics | None:
    """Statistics of the slices, as they are and with noise, in the feature maps of the bundle's own detector.

    Args:
        unseen: the slices.
        predictor: of the bundle.
        groups: number of each slice's patient, or group of copies.
        by_others: whether other detectors than the bundle's predicted ``unseen``.
        head_maps: folder of label maps of heads, to tell turned slices better.

    Raises:
        DataError, UnsafeError: a slice or a label map cannot be read.
    """
    from detectclf.datasets.scanner_noise import KINDS, with_scanner_noise, with_strong_noise
    from detectclf.imaging.images import read_pixels
    from detectclf.inference.ood import FEWEST_NOISY, fit_ood

    samples = unseen.dataset.samples
    known = [o.features for o in unseen.outputs if o.features is not None]
    if not by_others and len(known) < len(samples):
        return None
    # The detectors that the fusion was fitted with may be other networks, with other features.
    features = predictor.statistics_many(samples) if by_others else np.stack(known)
    if len(samples) < FEWEST_NOISY:
        return fit_ood(features, groups)
    noisy = []
    with Progress("out-of-distribution statistics", KINDS + 1) as progress:
        for kind in range(KINDS):
            rng = np.random.default_rng(kind)
            noisy.append(predictor.statistics_many(with_scanner_noise(read_pixels(s), kind, rng) for s in samples))
            progress.advance()
        rng = np.random.default_rng(KINDS)
        strong = (with_strong_noise(read_pixels(s), rng) for s in samples)
        ood = fit_ood(features, groups, noisy, [predictor.statistics_many(strong, clean=True)])
        progress.advance()
    if ood is None:
        return None
    return replace(ood, orientation=orientation_of((*samples, *unseen.others), head_maps))


def orientation_of(samples: Sequence[Sample], head_maps: Path | None) -> Orientation | None:
    """What tells turned slices, fitted on ``samples`` and heads drawn from the label maps in ``head_maps``.

    Slices that cannot be read are left out. The networks play no part in it, so their training slices do no harm.

    Raises:
        DataError, UnsafeError: a label map cannot be read.
    """
    from detectclf.imaging.images import read_pixels
    from detectclf.imaging.upright import turned_features
    from detectclf.inference.orientation_fit import fit_orientation

    chosen = samples[:: math.ceil(len(samples) / _MOST_SLICES)]
    rows: list[FloatArray] = []
    names: list[str] = []
    with Progress("turned slices", len(chosen)) as progress:
        for sample in chosen:
            progress.advance()
            try:
                pixels = read_pixels(sample)
            except DetectclfError:
                continue
            rows += [turned_features(pixels), turned_features(pixels[:, ::-1])]
            names += 2 * [sample.patient or sample.name]
    if not rows:
        return None
    _, groups = np.unique(names, return_inverse=True)
    return fit_orientation(np.stack(rows), groups.tolist(), None if head_maps is None else _drawn_heads(head_maps))


def _drawn_heads(head_maps: Path) -> FloatArray:
    """``(M, TURNS, D)``: features of healthy heads of all levels and contrasts, which are mirrored at random."""
    from detectclf.datasets.drawn_heads.drawing import draw_slice
    from detectclf.datasets.drawn_heads.label_maps import LabelMaps
    from detectclf.datasets.drawn_heads.shapes import MaskShapes
    from detectclf.imaging.upright import turned_features

    maps, rng = LabelMaps.load(head_maps), np.random.default_rng(0)
    rows = []
    with Progress("heads drawn to tell turned slices", _DRAWN) as progress:
        for _ in range(_DRAWN):
            pixels, _ = draw_slice(maps, MaskShapes({}), None, rng, _DRAWN_SIDE)
            rows.append(turned_features(pixels))
            progress.advance()
    return np.stack(rows)


__all__ = ["ood_of", "orientation_of"]
