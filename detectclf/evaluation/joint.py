"""Both stages together: slices that are right as a whole, contradictions, and what is worth a human look.

Source of risk and coverage: El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.matching import Floats
from detectclf.evaluation.ranking import area_of_risk, kept_and_wrong
from detectclf.prediction import Prediction
from detectclf.types import FloatArray, Sample

Bools = npt.NDArray[np.bool_]

HIT_IOU = 0.5


def iou_matrix(first: FloatArray, second: FloatArray) -> Floats:
    """``(N, M)`` intersection over union of xyxy boxes, by pycocotools."""
    from pycocotools.mask import iou

    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    return np.asarray(iou(_xywh(first), _xywh(second), [0] * len(second)), dtype=np.float64)


def _xywh(xyxy: FloatArray) -> Floats:
    boxes = np.asarray(xyxy, dtype=np.float64).copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


@dataclass(frozen=True, slots=True, eq=False)
class SliceOutcomes:
    """What came of each slice; all ``(I,)``.

    Attributes:
        known: class known and, for a tumour, its box known: the slices that joint accuracy is over.
        right: the class is right and, for a tumour, a drawn box has an IoU of at least 0.5 with a true one.
        located: a drawn box has an IoU of at least 0.5 with a true box (slices with true boxes).
        contradicts: the two stages name different classes.
        false_boxes: boxes drawn on a slice that is known to be healthy.
    """

    known: Bools
    right: Bools
    located: Bools
    contradicts: Bools
    false_boxes: npt.NDArray[np.int64]


def slice_outcomes(data: Aligned) -> SliceOutcomes:
    """The outcome of every slice; boxes from the prediction's ``box_threshold`` on are drawn and count as said."""
    rows = [_outcome(s, p, data.negative) for s, p in zip(data.samples, data.predictions, strict=True)]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    known, right, located, contradicts = (np.array(c, dtype=np.bool_) for c in columns[:4])
    return SliceOutcomes(known, right, located, contradicts, np.array(columns[4], dtype=np.int64))


def _outcome(sample: Sample, prediction: Prediction, negative: str | None) -> tuple[bool, bool, bool, bool, int]:
    healthy = negative is not None and sample.label == negative
    tumor = np.array([label != negative for label in sample.box_labels], dtype=np.bool_)
    drawn = drawn_boxes(prediction, negative)
    located = bool((iou_matrix(drawn, sample.boxes_xyxy[tumor]) >= HIT_IOU).any())
    named = sample.label is not None and prediction.label == sample.label
    alone = prediction.classifier_probabilities
    contradicts = (
        bool(alone)
        and prediction.detector_label is not None
        and max(alone, key=lambda name: alone[name]) != prediction.detector_label
    )
    known = sample.label is not None and (healthy or (sample.boxed and bool(tumor.any())))
    return known, known and named and (healthy or located), located, contradicts, len(drawn) if healthy else 0


def drawn_boxes(prediction: Prediction, negative: str | None) -> FloatArray:
    """The tumour boxes of ``prediction`` that are drawn: those that score at least its ``box_threshold``."""
    keep = [
        k
        for k, (name, score) in enumerate(zip(prediction.box_labels, prediction.scores, strict=True))
        if score >= prediction.box_threshold and name != negative
    ]
    return prediction.boxes_xyxy[keep]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Error rate of the slices kept when the least sure are referred to a human, one point per distinct confidence.

    Attributes:
        coverage, risk: in order of rising coverage.
        area: area under the curve (lower is better), ``None`` of nothing.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float | None

    def referred(self, chosen: float) -> float | None:
        """Smallest share of slices to refer so that the error rate of the others is at most ``chosen``."""
        if not self.coverage:
            return None
        return 1.0 - max((c for c, r in zip(self.coverage, self.risk, strict=True) if r <= chosen), default=0.0)


def risk_coverage(confidence: Floats, right: Bools) -> RiskCoverage:
    """The curve from ``(N,)`` confidences and outcomes; equal confidences are kept or referred together."""
    if not len(confidence):
        return RiskCoverage((), (), None)
    kept, wrong = kept_and_wrong(confidence, right, np.ones((1, len(confidence))))
    area = float(area_of_risk(kept, wrong)[0])
    return RiskCoverage(tuple((kept[0] / len(confidence)).tolist()), tuple((wrong[0] / kept[0]).tolist()), area)


def map_inside_boxes(prediction: Prediction, sample: Sample, negative: str | None) -> float:
    """Share of the class-activation map's mass that lies inside the true tumour boxes.

    NaN where there is no map, none of its pixels speaks for the class, or no true tumour box is known.
    """
    heat = prediction.heatmap
    boxes = [b for b, name in zip(sample.boxes_xyxy, sample.box_labels, strict=True) if name != negative]
    if heat is None or not boxes or float(heat.sum()) <= 0:
        return math.nan
    inside = np.zeros(heat.shape, dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        inside[max(round(float(y0)), 0) : round(float(y1)), max(round(float(x0)), 0) : round(float(x1))] = True
    return float(heat[inside].sum() / heat.sum())


def share_in_boxes(sample: Sample, prediction: Prediction, negative: str | None) -> float:
    """Share of the slice's area in its true tumour boxes: what a map that says nothing would have inside them."""
    even = np.ones((prediction.height or sample.height, prediction.width or sample.width), dtype=np.float32)
    return map_inside_boxes(replace(prediction, heatmap=even), sample, negative)


def confidence_and_right(data: Aligned) -> tuple[Floats, Bools]:
    """Of the slices whose class is known: the probability of the class said, and whether it is right."""
    said = [(data.predictions[i], data.samples[i].label) for i in data.labelled]
    confidence = np.array([float(p.confidence or 0.0) for p, _ in said])
    return confidence, np.array([p.label == label for p, label in said], dtype=np.bool_)


def joint_figures(data: Aligned, outcomes: SliceOutcomes, risk: float) -> dict[str, Any]:
    """Joint accuracy, contradictions, and referral; ``None`` where a figure has no meaning."""
    curve = risk_coverage(*confidence_and_right(data))
    count = len(data)
    return {
        "joint_accuracy": float(outcomes.right[outcomes.known].mean()) if outcomes.known.any() else None,
        "joint_slices": int(outcomes.known.sum()),
        "contradictions": float(outcomes.contradicts.mean()) if count else None,
        "flagged": sum(bool(p.flags) for p in data.predictions) / count if count else None,
        "referred": curve.referred(risk),
        "referred_at_risk": risk,
        "risk_coverage": {"coverage": list(curve.coverage), "risk": list(curve.risk), "area": curve.area},
    }
