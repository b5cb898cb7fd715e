"""All figures of one list of slices: each stage alone, and the fused prediction.

Every headline figure is computed by :attr:`Figures.weighted` alone: its call with ones gives the published values, its
calls with counts the resamples of their intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectclf.evaluation.aligned import Aligned, boxes_of, classified
from detectclf.evaluation.auroc import auroc_figures, roc_curve
from detectclf.evaluation.box_figures import (
    StageBoxes,
    ap_by_size,
    box_curves,
    box_figures,
    box_section,
    false_alarms,
    stage_boxes,
)
from detectclf.evaluation.caveats import why_missing
from detectclf.evaluation.classification import CALIBRATION_BINS, Classified, class_section, classification_figures
from detectclf.evaluation.explanation import as_array, explanation_figures, explanation_section
from detectclf.evaluation.intervals import confidence_intervals
from detectclf.evaluation.outcomes import (
    SliceOutcomes,
    agreement_figures,
    confidence_and_right,
    sensitivity_figures,
    slice_outcomes,
)
from detectclf.evaluation.risk_coverage import risk_coverage, risk_figures
from detectclf.evaluation.sections import (
    Agreement,
    BoxFigures,
    Classification,
    ClassifierAlone,
    Combined,
    Detection,
    DetectorAlone,
    Explanation,
    Gain,
    Stages,
)
from detectclf.evaluation.trust import is_healthy, is_mistake, is_tumor, trust_figures, trust_section
from detectclf.evaluation.weighted import (
    Bools,
    Floats,
    Intervals,
    Ints,
    Values,
    WeightedFigures,
    joined,
    on_slices,
    published,
    ratio,
)
from detectclf.types import ANY_TUMOR

GAINS = {
    "combined.gain.accuracy_over_classifier": ("combined.accuracy", "classification.accuracy"),
    "combined.gain.accuracy_over_detector": ("combined.accuracy", "stages.detector_alone.accuracy"),
    "combined.gain.mAP_over_detector": ("combined.mAP", "detection.mAP"),
}
"""What fusion adds to each stage: key -> (combined figure, figure of the stage alone)."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """The figures of one list of ``I`` slices.

    Attributes:
        detection, classification, combined, stages, explanation: sections of the report.
        weighted: every headline figure as a function of slice weights.
        values: its published values.
        proportions: figure that is a share of slices -> ``(I,)`` which slices it is a share of.
        curves: section and name -> (x, y) for the plots.
        notes: why a figure is missing, a line each.
    """

    detection: Detection
    classification: Classification
    combined: Combined
    stages: Stages
    explanation: Explanation
    weighted: WeightedFigures
    values: Values
    proportions: dict[str, Bools]
    curves: dict[str, tuple[Floats, Floats]]
    notes: tuple[str, ...]

    def intervals(self, groups: Ints, *, count: int, seed: int) -> tuple[Intervals, list[str]]:
        """95 % intervals by bootstrap over ``(I,)`` source groups, and why headline figures have none."""
        return confidence_intervals(self.weighted, self.values, self.proportions, groups, count=count, seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Slices with all that their figures are computed from."""

    data: Aligned
    combined: Classified
    classifier: Classified
    detector_boxes: StageBoxes
    fused_boxes: StageBoxes
    false_alarms: dict[str, Floats]
    outcomes: SliceOutcomes
    risk: float
    map_fits: Floats
    notes: tuple[str, ...]


def compute_figures(data: Aligned, *, risk: float, map_fits: Floats | None = None) -> Figures:
    """Every figure of ``data``; ``None`` with a note where one is undefined.

    Args:
        data: slices with predictions.
        risk: error rate that is accepted among the slices not referred to a human.
        map_fits: ``(I, 2)`` mass and peak of each slice's class-activation map inside its true boxes, NaN where none is
            known.
    """
    measured = _measure(data, risk, as_array(None, len(data)) if map_fits is None else map_fits)
    weighted = _weighted(measured)
    values = published(weighted, len(data))
    boxes = measured.detector_boxes
    classification = class_section(measured.classifier, values, "classification")
    detection = _box_section(measured, boxes, values)
    return Figures(
        detection=Detection(
            slices=len(boxes.boxes),
            boxes=int(boxes.agnostic.truths.sum()),
            per_class=boxes.ap_per_class(values),
            by_size=ap_by_size(boxes),
            figures=detection,
        ),
        classification=Classification(len(measured.classifier.true), classification, CALIBRATION_BINS),
        combined=_combined(measured, values),
        stages=Stages(
            ClassifierAlone(classification.accuracy, classification.balanced_accuracy, classification.macro_f1),
            DetectorAlone(values.get("stages.detector_alone.accuracy"), detection.mAP, detection.mAP50),
        ),
        explanation=explanation_section(data, measured.map_fits, values),
        weighted=weighted,
        values=values,
        proportions=_proportions(measured),
        curves=_curves(measured),
        notes=(*measured.notes, *why_missing(data)),
    )


def _measure(data: Aligned, risk: float, map_fits: Floats) -> _Measured:
    notes = []
    combined = classified(data, "combined")
    has_classifier = all(data.predictions[i].classifier_probabilities for i in data.labelled)
    if not has_classifier:
        notes.append("the predictions do not hold the classifier's own output: `classification` is the fused one")
    has_detector = all(data.predictions[i].stages is not None for i in data.boxed)
    if not has_detector:
        notes.append("the predictions do not hold the detector's own boxes: `detection` is of the fused ones")
    healthy = is_healthy(data)
    thresholds = [p.box_threshold for p in data.predictions]
    known = data.take(data.boxed.tolist())
    matched, alarms = {}, {}
    for prefix, fused in (("detection", not has_detector), ("combined", True)):
        matched[prefix] = stage_boxes(boxes_of(known, fused=fused), data.tumor_classes, prefix, data.negative)
        alarms[prefix] = false_alarms(boxes_of(data, fused=fused), healthy.tolist(), data.tumor_classes, thresholds)
    return _Measured(
        data,
        combined,
        classified(data, "classifier") if has_classifier else combined,
        matched["detection"],
        matched["combined"],
        alarms,
        slice_outcomes(data),
        risk,
        map_fits,
        tuple(notes),
    )


def _weighted(measured: _Measured) -> WeightedFigures:
    """Every headline figure of the slices, as one function of their weights."""
    data, labelled = measured.data, measured.data.labelled
    functions = [
        *explanation_figures(measured.map_fits),
        *agreement_figures(data, measured.outcomes),
        *sensitivity_figures(data, "combined", fused=True),
        *sensitivity_figures(data, "classification", fused=measured.classifier is measured.combined),
        *trust_figures(data),
        risk_figures(*confidence_and_right(data), measured.risk, labelled),
        *_detector_accuracy(data),
    ]
    for prefix, predicted in (("combined", measured.combined), ("classification", measured.classifier)):
        functions += [make(predicted, labelled, prefix) for make in (classification_figures, auroc_figures)]
    for boxes in (measured.detector_boxes, measured.fused_boxes):
        alarms = measured.false_alarms[boxes.prefix]
        functions.append(on_slices(joined(box_figures(boxes)), data.boxed))
        functions.append(ratio(alarms, is_healthy(data), f"{boxes.prefix}.false_alarms_per_healthy_slice"))
    whole = joined(functions)

    def with_gains(weights: Floats) -> dict[str, Floats]:
        # Both figures of a gain come from the same resample, so its interval is that of a paired comparison.
        found = whole(weights)
        return found | {name: found[a] - found[b] for name, (a, b) in GAINS.items() if a in found and b in found}

    return with_gains


def _detector_accuracy(data: Aligned) -> list[WeightedFigures]:
    """Accuracy of the class that the detector's boxes imply, where all predictions name it."""
    rows = [(data.predictions[i].detector_label, data.samples[i].label) for i in data.labelled]
    if not rows or any(named is None for named, _ in rows):
        return []
    right = [named == label for named, label in rows]
    return [on_slices(ratio(right, np.ones(len(right)), "stages.detector_alone.accuracy"), data.labelled)]


def _box_section(measured: _Measured, boxes: StageBoxes, values: Values) -> BoxFigures:
    thresholds = {p.box_threshold for p in measured.data.predictions}
    return box_section(
        boxes,
        values,
        healthy=int(is_healthy(measured.data).sum()),
        box_threshold=thresholds.pop() if len(thresholds) == 1 else None,
    )


def _combined(measured: _Measured, values: Values) -> Combined:
    return Combined(
        classification=class_section(measured.combined, values, "combined"),
        boxes=_box_section(measured, measured.fused_boxes, values),
        AP_per_class=measured.fused_boxes.ap_per_class(values),
        agreement=Agreement(
            joint_accuracy=values["combined.joint_accuracy"],
            joint_slices=int(measured.outcomes.known.sum()),
            contradictions=values["combined.contradictions"],
            flagged=values["combined.flagged"],
            referred=values["combined.referred"],
            referred_at_risk=measured.risk,
            risk_coverage=risk_coverage(*confidence_and_right(measured.data)),
        ),
        trust=trust_section(measured.data, values),
        gain=Gain(*(values.get(name) for name in GAINS)),
    )


def _proportions(measured: _Measured) -> dict[str, Bools]:
    data = measured.data
    labelled = np.isin(np.arange(len(data)), data.labelled)
    healthy = is_healthy(data)
    tumors = np.array(
        [s.boxed and any(c in (*data.tumor_classes, ANY_TUMOR) for c in s.box_labels) for s in data.samples], np.bool_
    )
    everything = np.ones(len(data), dtype=np.bool_)
    proportions = {
        "stages.detector_alone.accuracy": labelled,
        "detection.recall_one_box": tumors,
        "combined.recall_one_box": tumors,
        "combined.joint_accuracy": measured.outcomes.known,
        "combined.contradictions": everything,
        "combined.flagged": everything,
        "combined.confident_misses": is_tumor(data),
        "combined.mistakes_flagged": is_mistake(data),
    }
    for section in ("combined", "classification"):
        proportions |= {
            f"{section}.accuracy": labelled,
            f"{section}.sensitivity": np.array([s.label is not None for s in data.samples], np.bool_) & ~healthy,
            f"{section}.specificity": healthy,
        }
    return proportions


def _curves(measured: _Measured) -> dict[str, tuple[Floats, Floats]]:
    curves = box_curves(measured.detector_boxes) | box_curves(measured.fused_boxes)
    for section, predicted in (("combined", measured.combined), ("classification", measured.classifier)):
        for k, name in enumerate(predicted.classes):
            positive = np.asarray(predicted.true == k)
            if positive.any() and not positive.all():
                curves[f"{section}.roc.{name}"] = roc_curve(positive, predicted.probabilities[:, k])
    return curves
