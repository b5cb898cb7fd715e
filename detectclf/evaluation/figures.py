"""All figures of one list of slices: both stages, each alone, and what they say together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectclf.evaluation.aligned import Aligned, boxes_of, classified
from detectclf.evaluation.bootstrap import (
    Family,
    bias_corrected_interval,
    bootstrap,
    classification_family,
    exact_interval,
    interval,
    on_slices,
    ratio,
)
from detectclf.evaluation.caveats import why_missing, why_no_interval
from detectclf.evaluation.classification import Bools, Classified, classification_figures, roc_curve
from detectclf.evaluation.headlines import figure_at
from detectclf.evaluation.joint import confidence_and_right, joint_figures, share_in_boxes, slice_outcomes
from detectclf.evaluation.localisation import detection_figures, false_alarms
from detectclf.evaluation.matching import Boxes, Floats
from detectclf.evaluation.ranking import auroc_family, risk_family

COMBINED_CLASSIFICATION = (
    "accuracy", "balanced_accuracy", "macro_f1", "sensitivity", "specificity", "nll", "brier", "ece", "per_class",
    "classes", "confusion_matrix", "auroc", "reliability",
)  # fmt: skip
COMBINED_DETECTION = (
    "mAP", "mAP50", "mAP75", "localisation", "recall_one_box", "mean_iou_of_hits", "froc", "froc_mean",
    "froc_iou10", "froc_iou10_mean", "four_class_mAP",
)  # fmt: skip
GAINS = {
    "combined.gain.accuracy_over_classifier": ("combined.accuracy", "classification.accuracy"),
    "combined.gain.accuracy_over_detector": ("combined.accuracy", "stages.detector_alone.accuracy"),
    "combined.gain.mAP_over_detector": ("combined.mAP", "detection.mAP"),
}
"""What the combination adds to each stage: name -> (combined figure, figure of the stage alone)."""
AVERAGE_PRECISIONS = frozenset({"mAP", "mAP50", "mAP75", "AP", "AP50", "AP75"})


@dataclass(slots=True)
class Figures:
    """The figures of one list of slices.

    Attributes:
        record: the keys ``detection``, ``classification``, ``combined``, ``stages``, ``explanation``.
        families: what the bootstrap resamples, over all the slices.
        shares: figure that is a share of slices -> which of all the slices it is of.
        curves: stage and name -> (x, y) for the plots.
        notes: why a figure is missing, a line each.
    """

    record: dict[str, Any]
    families: list[Family] = field(default_factory=list)
    shares: dict[str, Bools] = field(default_factory=dict)
    curves: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def _interval(self, name: str, values: Floats) -> list[float] | None:
        """Percentiles of the resampled values, less the bias of resampling for the figures that have much of it.

        A calibration error is a sum of absolute gaps: noise in the bins can only add to it, and resampling adds noise
        a second time (Kumar et al. 2019), so that plain percentiles may leave out the figure itself.
        """
        value, last = figure_at(self.record, name), name.rpartition(".")[2]
        if value is None:
            return interval(values)
        if last == "ece":
            return interval(np.clip(values - (np.nanmean(values) - value), 0.0, 1.0))
        return bias_corrected_interval(values, value) if last in AVERAGE_PRECISIONS else interval(values)

    def intervals(self, groups: Any, *, count: int, seed: int) -> dict[str, list[float] | None]:
        """95 % intervals of every headline figure, by bootstrap over ``(I,)`` source groups; none of fewer than 2.

        Why a headline figure has none is added to ``notes``.
        """
        if count < 1:
            return {}
        if len(np.unique(groups)) < 2:
            self.notes.extend(["fewer than two source groups: intervals have no meaning"] if len(groups) else [])
            return {}
        drawn = bootstrap(self.families, np.asarray(groups, dtype=np.int64), count=count, seed=seed)
        # Both figures of a gain come from the same resamples, so its interval is that of a paired comparison.
        drawn |= {name: drawn[a] - drawn[b] for name, (a, b) in GAINS.items() if a in drawn and b in drawn}
        found = {name: self._interval(name, values) for name, values in sorted(drawn.items())}
        for name, slices in self.shares.items():
            value = figure_at(self.record, name)
            if value in (0.0, 1.0):
                found[name] = exact_interval(value == 1.0, len(np.unique(np.asarray(groups)[slices])))
        for name in ("detection.false_alarms_per_healthy_slice", "combined.false_alarms_per_healthy_slice"):
            if figure_at(self.record, name) == 0.0:
                sources = len(np.unique(np.asarray(groups)[self.shares["combined.specificity"]]))
                found[name] = [0.0, -math.log(0.025) / sources]  # exact Poisson of no event, Garwood 1936
        # Where no resample differs, as with an mAP of 0, drawing again says nothing of the doubt.
        # COCO's precision is short of 1 by a rounding step, so "equal" is not quite equality.
        varied = {name: None if limits and limits[1] - limits[0] < 1e-9 else limits for name, limits in found.items()}
        self.notes.extend(why_no_interval(self.record, varied, rare={n for n, limits in found.items() if not limits}))
        return varied


def compute_figures(data: Aligned, *, risk: float, map_shares: Floats | None = None) -> Figures:
    """Every figure of ``data``; ``None`` with a note where one has no meaning.

    Args:
        data: slices with predictions.
        risk: error rate that is accepted among the slices not referred to a human.
        map_shares: ``(I,)`` share of each slice's class-activation map inside its true boxes, NaN where none is known.
    """
    out = Figures({"detection": {}, "classification": {}, "combined": {}, "stages": {}, "explanation": {}})
    _classification(out, data)
    _detection(out, data)
    _together(out, data, risk)
    _alone(out, data)
    _gains(out)
    _explanation(out, data, np.full(len(data), np.nan) if map_shares is None else map_shares)
    out.notes.extend(why_missing(data))
    out.shares = _shares(data)
    return out


def _shares(data: Aligned) -> dict[str, Bools]:
    labelled = np.array([s.label is not None for s in data.samples], dtype=np.bool_)
    healthy = np.array([s.label is not None and s.label == data.negative for s in data.samples], dtype=np.bool_)
    shares = {"stages.detector_alone.accuracy": labelled}
    for stage in ("combined", "classification"):
        shares |= {
            f"{stage}.accuracy": labelled,
            f"{stage}.sensitivity": labelled & ~healthy,
            f"{stage}.specificity": healthy,
        }
    everything = np.ones(len(data), dtype=np.bool_)
    known = slice_outcomes(data).known
    tumors = np.array([s.boxed and any(c in data.tumor_classes for c in s.box_labels) for s in data.samples], np.bool_)
    return shares | {
        "detection.recall_one_box": tumors,
        "combined.recall_one_box": tumors,
        "combined.joint_accuracy": known,
        "combined.contradictions": everything,
        "combined.flagged": everything,
    }


def _classification(out: Figures, data: Aligned) -> None:
    slices = data.labelled
    combined = classified(data, "combined")
    figures = classification_figures(combined)
    out.record["combined"].update({k: figures[k] for k in COMBINED_CLASSIFICATION})
    out.families.append(classification_family(combined, slices, "combined"))
    out.families.append(auroc_family(combined, slices, "combined"))
    _roc(out, combined, "combined")
    if any(not data.predictions[i].classifier_probabilities for i in slices):
        out.notes.append(
            "the predictions do not say what the classifier alone gives: classification is of what they say together"
        )
        alone = combined
    else:
        alone = classified(data, "classifier")
    out.record["classification"] = classification_figures(alone)
    out.families.append(classification_family(alone, slices, "classification"))
    out.families.append(auroc_family(alone, slices, "classification"))
    _roc(out, alone, "classification")


def _roc(out: Figures, said: Classified, stage: str) -> None:
    for k, name in enumerate(said.classes):
        positive = np.asarray(said.true == k)
        if positive.any() and not positive.all():
            out.curves[f"{stage}.roc.{name}"] = roc_curve(positive, said.probabilities[:, k])


def _detection(out: Figures, data: Aligned) -> None:
    slices = data.boxed
    known = data.take(slices.tolist())
    staged = all(p.stages is not None for p in known.predictions)
    if not staged:
        out.notes.append(
            "the predictions do not hold the detector's own boxes: detection is of the boxes they give out"
        )
    for stage, fused in (("detection", not staged), ("combined", True)):
        boxes = boxes_of(known, fused=fused)
        result = detection_figures(boxes, data.tumor_classes, stage, negative=data.negative)
        figures = result.figures
        if stage == "combined":
            figures = {key: figures[key] for key in COMBINED_DETECTION} | {"AP_per_class": figures["per_class"]}
        out.record[stage].update(figures)
        out.families.extend(on_slices(family, slices) for family in result.families)
        out.curves.update({f"{stage}.{name}": curve for name, curve in result.curves.items()})
        _false_alarms(out, data, boxes_of(data, fused=fused), stage)


def _false_alarms(out: Figures, data: Aligned, boxes: Boxes, stage: str) -> None:
    healthy = [data.negative is not None and s.label == data.negative for s in data.samples]
    thresholds = [p.box_threshold for p in data.predictions]
    counts, wells = false_alarms(boxes, healthy, data.tumor_classes, thresholds)
    out.record[stage]["false_alarms_per_healthy_slice"] = float(counts.sum()) / wells if wells else None
    out.record[stage]["healthy_slices"] = wells
    out.record[stage]["box_threshold"] = thresholds[0] if len(set(thresholds)) == 1 else None
    out.families.append(ratio(counts, healthy, f"{stage}.false_alarms_per_healthy_slice"))


def _together(out: Figures, data: Aligned, risk: float) -> None:
    outcomes = slice_outcomes(data)
    out.record["combined"].update(joint_figures(data, outcomes, risk))
    out.families.append(risk_family(*confidence_and_right(data), risk, data.labelled))
    out.families.append(ratio(outcomes.right, outcomes.known, "combined.joint_accuracy"))
    out.families.append(ratio(outcomes.contradicts, np.ones(len(data)), "combined.contradictions"))
    out.families.append(ratio([bool(p.flags) for p in data.predictions], np.ones(len(data)), "combined.flagged"))


def _alone(out: Figures, data: Aligned) -> None:
    """What each stage says alone, on the same slices."""
    named = np.array([data.predictions[i].detector_label is not None for i in data.labelled], dtype=np.bool_)
    right: Bools = np.array(
        [data.predictions[i].detector_label == data.samples[i].label for i in data.labelled], dtype=np.bool_
    )
    whole = bool(named.size) and bool(named.all())
    detection, classification = out.record["detection"], out.record["classification"]
    out.record["stages"] = {
        "classifier_alone": {key: classification[key] for key in ("accuracy", "balanced_accuracy", "macro_f1")},
        "detector_alone": {
            "accuracy": float(right.mean()) if whole else None,
            "mAP": detection["mAP"],
            "mAP50": detection["mAP50"],
        },
    }
    if whole:
        out.families.append(
            on_slices(ratio(right, np.ones(len(right)), "stages.detector_alone.accuracy"), data.labelled)
        )


def _gains(out: Figures) -> None:
    out.record["combined"]["gain"] = {
        name.rpartition(".")[2]: None if a is None or b is None else a - b
        for name, (first, second) in GAINS.items()
        for a, b in [(figure_at(out.record, first), figure_at(out.record, second))]
    }


def _explanation(out: Figures, data: Aligned, map_shares: Floats) -> None:
    where = np.flatnonzero(np.isfinite(map_shares))
    shares = map_shares[where]
    areas = np.array([share_in_boxes(data.samples[i], data.predictions[i], data.negative) for i in where])
    areas = areas[np.isfinite(areas)]
    out.record["explanation"] = {
        "mass_inside_box": float(shares.mean()) if len(shares) else None,
        "area_inside_box": float(areas.mean()) if len(areas) else None,
        "slices": len(shares),
    }
    if len(shares):
        family = ratio(shares, np.ones(len(shares)), "explanation.mass_inside_box")
        out.families.append(on_slices(family, where))
