"""What came of each slice as a whole: class and boxes together, against the truth and against each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectclf.boxes import pairwise_iou
from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.box_figures import HIT_IOU
from detectclf.evaluation.weighted import Bools, Floats, WeightedFigures, ratio
from detectclf.prediction import Prediction
from detectclf.types import ANY_TUMOR, FloatArray, Sample


@dataclass(frozen=True, slots=True, eq=False)
class SliceOutcomes:
    """What came of each slice; all ``(I,)``.

    Attributes:
        known: class known and, for a tumour, its box known: the slices that joint accuracy is over.
        right: the class is right and, for a tumour, a drawn box has an IoU of at least 0.5 with a true one.
        located: a drawn box has an IoU of at least 0.5 with a true box (slices with true boxes).
        contradicts: the two stages name different classes.
    """

    known: Bools
    right: Bools
    located: Bools
    contradicts: Bools


def slice_outcomes(data: Aligned) -> SliceOutcomes:
    """The outcome of every slice; only boxes that score at least the prediction's ``box_threshold`` are drawn."""
    rows = [_outcome(s, p, data.negative) for s, p in zip(data.samples, data.predictions, strict=True)]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 4
    return SliceOutcomes(*(np.array(column, dtype=np.bool_) for column in columns))


def _outcome(sample: Sample, prediction: Prediction, negative: str | None) -> tuple[bool, bool, bool, bool]:
    healthy = negative is not None and sample.label == negative
    tumor = np.array([label != negative for label in sample.box_labels], dtype=np.bool_)
    drawn = drawn_boxes(prediction, negative)
    located = bool((pairwise_iou(drawn, sample.boxes_xyxy[tumor]) >= HIT_IOU).any())
    named = sample.label is not None and prediction.label == sample.label
    alone = prediction.classifier_probabilities
    contradicts = (
        bool(alone)
        and prediction.detector_label is not None
        and max(alone, key=lambda name: alone[name]) != prediction.detector_label
    )
    known = sample.label not in (None, ANY_TUMOR) and (healthy or (sample.boxed and bool(tumor.any())))
    return known, known and named and (healthy or located), located, contradicts


def drawn_boxes(prediction: Prediction, negative: str | None) -> FloatArray:
    """The tumour boxes of ``prediction`` that are drawn: those that score at least its ``box_threshold``."""
    keep = [
        k
        for k, (name, score) in enumerate(zip(prediction.box_labels, prediction.scores, strict=True))
        if score >= prediction.box_threshold and name != negative
    ]
    return prediction.boxes_xyxy[keep]


def confidence_and_right(data: Aligned) -> tuple[Floats, Bools]:
    """Of the slices whose class is known: the probability of the predicted class, and whether that class is right."""
    rows = [(data.predictions[i], data.samples[i].label) for i in data.labelled]
    confidence = np.array([float(p.confidence or 0.0) for p, _ in rows])
    return confidence, np.array([p.label == label for p, label in rows], dtype=np.bool_)


def sensitivity_figures(data: Aligned, prefix: str, *, fused: bool) -> list[WeightedFigures]:
    """Share of slices with a tumour, of any type, that are predicted to have one; none without a negative class.

    Args:
        data: the slices.
        prefix: ``classification`` or ``combined``.
        fused: whether the fused class counts, or that of the classifier alone.
    """
    if data.negative is None:
        return []
    tumors = np.array([s.label not in (None, data.negative) for s in data.samples], dtype=np.bool_)
    called = np.array([_named(p, fused) not in (None, data.negative) for p in data.predictions], dtype=np.bool_)
    return [ratio(tumors & called, tumors, f"{prefix}.sensitivity")]


def _named(prediction: Prediction, fused: bool) -> str | None:
    alone = prediction.classifier_probabilities
    return prediction.label if fused or not alone else max(alone, key=lambda name: alone[name])


def agreement_figures(data: Aligned, outcomes: SliceOutcomes) -> list[WeightedFigures]:
    """Joint accuracy, and the shares of slices on which the stages contradict each other or that carry a flag."""
    everything = np.ones(len(data))
    return [
        ratio(outcomes.right, outcomes.known, "combined.joint_accuracy"),
        ratio(outcomes.contradicts, everything, "combined.contradictions"),
        ratio([bool(p.flags) for p in data.predictions], everything, "combined.flagged"),
    ]
