"""The picture of a study: its best slices with their boxes, and the probability curve below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detectclf.drawing.montage import Span, montage
from detectclf.drawing.sheets import Tile
from detectclf.imaging.images import read_image
from detectclf.inference.findings import Finding

if TYPE_CHECKING:
    from PIL.Image import Image

    from detectclf.inference.studies import Study

MOST_TILES = 8


def draw_study(study: Study) -> Image:
    """The montage of ``study``, whose slices are read again.

    Raises:
        DataError: a file is gone.
    """
    label = (study.label or "?").replace("_", " ")
    title = f"{study.name}: {label}, {study.confidence or 0:.2f}; {len(study.predictions)} slices"
    spans = [Span(*each.slices, each.label) for each in study.findings]
    return montage(
        [_tile(study, number) for number in best_slices(study)],
        study.curve,
        spans,
        tuple(study.probabilities),
        title=title,
        flags=study.flags,
        model=study.model or "",
    )


def best_slices(study: Study, most: int = MOST_TILES) -> list[int]:
    """Numbers of the slices that are shown: the best of each finding, then the likeliest ones that lie apart."""
    chosen = [each.best.number for each in study.findings][:most]
    curve = study.curve
    readable = [number for number, each in enumerate(study.predictions) if each.error is None]
    judged = [number for number in readable if curve[number] is not None] or readable
    ranked = sorted(judged, key=lambda number: (-(curve[number] or 0), number))
    apart = max(1, len(judged) // (2 * most))
    for least in (apart, 1):
        for number in ranked:
            if len(chosen) < most and all(abs(number - other) >= least for other in chosen):
                chosen.append(number)
    return sorted(chosen)


def _tile(study: Study, number: int) -> Tile:
    prediction = study.predictions[number]
    origin = prediction.origin
    pixels = read_image(origin.path or prediction.image, frame=origin.frame, axis=origin.axis)
    shown = _boxes_on((*study.findings, *study.flickers), number)
    boxes = np.stack([box for box, _ in shown]) if shown else np.zeros((0, 4), dtype=np.float32)
    value = study.curve[number]
    caption = f"slice {number}: " + ("no brain" if value is None else f"{value:.2f}")
    return Tile(pixels, boxes, tuple(name for _, name in shown), prediction.label, caption)


def _boxes_on(findings: tuple[Finding, ...], number: int) -> list[tuple[np.ndarray, str]]:
    return [(box.xyxy, box.label) for each in findings for box in each.boxes if box.number == number]


__all__ = ["best_slices", "draw_study"]
