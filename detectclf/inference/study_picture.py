"""The picture of a study: its best slices with their boxes, and the probability curve below them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detectclf.drawing.montage import Span, montage
from detectclf.drawing.sheets import Tile
from detectclf.imaging.images import read_image
from detectclf.imaging.volumes import DicomFrames, NiftiVolume, open_slices
from detectclf.inference.findings import Finding
from detectclf.prediction import Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_TILES = 8
"""Slices on a picture."""


def draw_study(
    predictions: Sequence[Prediction],
    findings: Sequence[Finding],
    flickers: Sequence[Finding],
    curve: Sequence[float | None],
    *,
    title: str,
    flags: Sequence[str],
    model: str,
) -> Image:
    """The montage of a volume, whose best slices are read again.

    Args:
        predictions: of all slices, in order.
        findings: best first; bars below the curve show where they are.
        flickers: drawn on their slices only.
        curve: tumour probability of each slice, or ``None``.
        title: a line above.
        flags: of the study.
        model: name and version of the bundle.

    Raises:
        DataError: a file is gone.
    """
    classes = next((tuple(each.probabilities) for each in predictions if each.probabilities), ())
    boxes: dict[int, list[tuple[np.ndarray, str]]] = {}
    for finding in (*findings, *flickers):
        for box in finding.boxes:
            boxes.setdefault(box.number, []).append((box.xyxy, box.label))
    chosen = best_slices([each.error is None for each in predictions], findings, curve)
    opened: dict[Path, NiftiVolume | DicomFrames] = {}
    tiles = [_tile(predictions[number], number, curve[number], boxes.get(number, []), opened) for number in chosen]
    spans = [Span(*each.slices, each.label) for each in findings]
    return montage(tiles, curve, spans, classes, title=title, flags=flags, model=model)


def best_slices(
    readable: Sequence[bool], findings: Sequence[Finding], curve: Sequence[float | None], most: int = MOST_TILES
) -> list[int]:
    """Numbers of the slices that are shown: the best of each finding, then the likeliest ones that lie apart.

    Args:
        readable: whether each slice could be read.
        findings: best first.
        curve: tumour probability of each slice, or ``None``.
        most: slices.
    """
    chosen = list(dict.fromkeys(each.best.number for each in findings))[:most]
    judged = [number for number, value in enumerate(curve) if value is not None]
    judged = judged or [number for number, read in enumerate(readable) if read]
    ranked = sorted(judged, key=lambda number: (-(curve[number] or 0), number))
    for least in (max(1, len(judged) // (2 * most)), 1):
        for number in ranked:
            if len(chosen) < most and all(abs(number - other) >= least for other in chosen):
                chosen.append(number)
    return sorted(chosen)


def _tile(
    prediction: Prediction,
    number: int,
    value: float | None,
    boxes: Sequence[tuple[np.ndarray, str]],
    opened: dict[Path, NiftiVolume | DicomFrames],
) -> Tile:
    """``opened`` keeps files of many slices unpacked from one tile to the next."""
    origin = prediction.origin
    path = origin.path or Path(prediction.image)
    if origin.frame is None:
        pixels = read_image(path, axis=origin.axis)
    else:
        if path not in opened:
            opened[path] = open_slices(path, origin.axis)
        pixels = opened[path].read(origin.frame)
    corners = np.array([box for box, _ in boxes], dtype=np.float32).reshape(-1, 4)
    caption = f"slice {number}: " + ("no brain" if value is None else f"{value:.2f}")
    return Tile(pixels, corners, tuple(name for _, name in boxes), prediction.label, caption)


__all__ = ["best_slices", "draw_study"]
