"""How much of a class-activation map lies inside the true tumour boxes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.sections import Explanation
from detectclf.evaluation.weighted import Floats, Values, WeightedFigures, on_slices, ratio
from detectclf.prediction import Prediction
from detectclf.types import Sample

KEY = "explanation.mass_inside_box"


def map_inside_boxes(prediction: Prediction, sample: Sample, negative: str | None) -> float:
    """Share of the prediction's map inside the true tumour boxes.

    NaN where there is no map, none of its pixels supports the class, or no true tumour box is known.
    """
    heat = prediction.heatmap
    boxes = [b for b, name in zip(sample.boxes_xyxy, sample.box_labels, strict=True) if name != negative]
    if heat is None or not boxes or float(heat.sum()) <= 0:
        return math.nan
    inside = np.zeros(heat.shape, dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        inside[max(round(float(y0)), 0) : round(float(y1)), max(round(float(x0)), 0) : round(float(x1))] = True
    return float(heat[inside].sum() / heat.sum())


def explanation_figures(map_shares: Floats) -> list[WeightedFigures]:
    """The mean share of a map inside the boxes, from ``(I,)`` shares that are NaN where a slice has none."""
    where = np.flatnonzero(np.isfinite(map_shares))
    return [on_slices(ratio(map_shares[where], np.ones(len(where)), KEY), where)] if len(where) else []


def explanation_section(data: Aligned, map_shares: Floats, values: Values) -> Explanation:
    """The explanation figures of the report; ``values`` holds that of :func:`explanation_figures`."""
    where = np.flatnonzero(np.isfinite(map_shares))
    areas = [_share_of_area(data.samples[i], data.predictions[i], data.negative) for i in where]
    usable = [area for area in areas if math.isfinite(area)]
    return Explanation(values.get(KEY), float(np.mean(usable)) if usable else None, len(where))


def _share_of_area(sample: Sample, prediction: Prediction, negative: str | None) -> float:
    """Share of the slice's area in its true tumour boxes, which is what a uniform map would have inside them."""
    uniform = np.ones((prediction.height or sample.height, prediction.width or sample.width), dtype=np.float32)
    return map_inside_boxes(replace(prediction, heatmap=uniform), sample, negative)
