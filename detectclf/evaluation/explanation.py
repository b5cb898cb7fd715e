"""How much of a class-activation map, and whether its peak, lies inside the true tumour boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.sections import Explanation
from detectclf.evaluation.weighted import Floats, Values, WeightedFigures, on_slices, ratio
from detectclf.prediction import Prediction
from detectclf.types import Sample

MASS, PEAK = "explanation.mass_inside_box", "explanation.peak_inside_box"


class MapFit(NamedTuple):
    """How a map fits the true tumour boxes of its slice; both NaN where nothing can be said.

    Attributes:
        mass: share of the map inside them.
        peak: 1 where its highest value is inside, else 0.
    """

    mass: float
    peak: float


UNKNOWN = MapFit(math.nan, math.nan)


def map_inside_boxes(prediction: Prediction, sample: Sample, negative: str | None) -> MapFit:
    """How the prediction's map fits the true tumour boxes.

    :data:`UNKNOWN` where there is no map, none of its pixels supports the class, or no true tumour box is known.
    """
    heat = prediction.heatmap
    boxes = [b for b, name in zip(sample.boxes_xyxy, sample.box_labels, strict=True) if name != negative]
    if heat is None or not boxes or float(heat.sum()) <= 0:
        return UNKNOWN
    inside = np.zeros(heat.shape, dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        inside[max(round(float(y0)), 0) : round(float(y1)), max(round(float(x0)), 0) : round(float(x1))] = True
    return MapFit(float(heat[inside].sum() / heat.sum()), float(inside.flat[heat.argmax()]))


def as_array(map_fits: Sequence[MapFit] | None, slices: int) -> Floats:
    """``(slices, 2)``: mass and peak of each map; NaN where there are none."""
    return np.array([UNKNOWN] * slices if map_fits is None else map_fits, dtype=np.float64).reshape(slices, 2)


def explanation_figures(map_fits: Floats) -> list[WeightedFigures]:
    """Mean mass and peak inside the boxes, from ``(I, 2)`` of :func:`as_array`."""
    where = np.flatnonzero(np.isfinite(map_fits[:, 0]))
    ones = np.ones(len(where))
    parts = [ratio(map_fits[where, column], ones, key) for column, key in enumerate((MASS, PEAK))]
    return [on_slices(part, where) for part in parts] if len(where) else []


def explanation_section(data: Aligned, map_fits: Floats, values: Values) -> Explanation:
    """The explanation figures of the report; ``values`` holds that of :func:`explanation_figures`."""
    where = np.flatnonzero(np.isfinite(map_fits[:, 0]))
    areas = [_share_of_area(data.samples[i], data.predictions[i], data.negative) for i in where]
    usable = [area for area in areas if math.isfinite(area)]
    return Explanation(values.get(MASS), values.get(PEAK), float(np.mean(usable)) if usable else None, len(where))


def _share_of_area(sample: Sample, prediction: Prediction, negative: str | None) -> float:
    """Share of the slice's area in its true tumour boxes, which is what a uniform map would have inside them."""
    uniform = np.ones((prediction.height or sample.height, prediction.width or sample.width), dtype=np.float32)
    return map_inside_boxes(replace(prediction, heatmap=uniform), sample, negative).mass
