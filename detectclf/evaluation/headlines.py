"""The headline figures in the order of every table, with their names and meanings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Headline:
    """One headline figure.

    Attributes:
        key: dotted path in report.json, also the key of its interval.
        name: as tables show it.
        meaning: one line for the reader.
        percent: shown as a percentage.
    """

    key: str
    name: str
    meaning: str
    percent: bool = False


COMBINED = (
    Headline("combined.accuracy", "Accuracy", "slices with the right class", True),
    Headline("combined.balanced_accuracy", "Balanced accuracy", "mean recall over classes", True),
    Headline("combined.macro_f1", "Macro-F1", "mean F1 over classes"),
    Headline("combined.auroc.macro", "AUROC", "area under the ROC curve, mean over classes against the others"),
    Headline("combined.sensitivity", "Sensitivity", "tumour slices predicted as tumour", True),
    Headline("combined.specificity", "Specificity", "healthy slices predicted as healthy", True),
    Headline("combined.ece", "ECE", "calibration error, 15 equal bins; lower is better"),
    Headline("combined.mAP", "mAP@[.50:.95]", "COCO mean average precision over tumour classes"),
    Headline("combined.mAP50", "mAP50", "the same at IoU 0.5"),
    Headline("combined.joint_accuracy", "Joint accuracy", "right class and, for a tumour, a box with IoU >= 0.5", True),
    Headline(
        "combined.contradictions", "Contradictions", "slices on which the two stages name different classes", True
    ),
    Headline(
        "combined.confident_misses",
        "Confident misses",
        "tumour slices called tumour-free with a probability above 0.9; lower is better",
        True,
    ),
    Headline(
        "combined.mistakes_flagged",
        "Flagged mistakes",
        "slices of the wrong class that carry the flag low_confidence or unusual_input; higher is better",
        True,
    ),
    Headline(
        "combined.referred",
        "Referred",
        "least confident slices to refer to a human, so that the others stay within the accepted error rate",
        True,
    ),
)
GAINS = (
    Headline(
        "combined.gain.accuracy_over_classifier",
        "Accuracy gain over the classifier",
        "combined minus classifier alone, paired",
        True,
    ),
    Headline(
        "combined.gain.accuracy_over_detector",
        "Accuracy gain over the detector",
        "combined minus detector alone, paired",
        True,
    ),
    Headline("combined.gain.mAP_over_detector", "mAP gain over the detector", "combined minus detector alone, paired"),
)
STAGES = (
    Headline("classification.accuracy", "Accuracy, classifier alone", "slices with the right class", True),
    Headline("classification.macro_f1", "Macro-F1, classifier alone", "mean F1 over classes"),
    Headline("classification.nll", "NLL, classifier alone", "negative log-likelihood; lower is better"),
    Headline("classification.ece", "ECE, classifier alone", "calibration error, 15 equal bins; lower is better"),
    Headline("stages.detector_alone.accuracy", "Accuracy, detector alone", "slices with the right class", True),
    Headline("detection.mAP", "mAP@[.50:.95], detector alone", "COCO mean average precision over tumour classes"),
    Headline("detection.mAP50", "mAP50, detector alone", "the same at IoU 0.5"),
    Headline("detection.mAP75", "mAP75, detector alone", "the same at IoU 0.75"),
    Headline(
        "detection.localisation.AP", "AP@[.50:.95], class-agnostic", "of the detector's boxes, all tumours as one class"
    ),
    Headline("detection.recall_one_box", "Recall at one box", "tumours hit by the best box of the slice", True),
    Headline("detection.mean_iou_of_hits", "Mean IoU of hits", "IoU of those hits with the true box"),
    Headline("detection.froc_mean", "FROC mean, IoU 0.5", "mean sensitivity at 1/8 to 8 false positives per slice"),
    Headline("detection.froc_iou10_mean", "FROC mean, IoU 0.1", "the same, where an IoU of 0.1 is a hit"),
    Headline(
        "detection.false_alarms_per_healthy_slice", "False alarms per healthy slice", "boxes drawn on a healthy slice"
    ),
    Headline(
        "explanation.mass_inside_box", "Map inside the box", "share of the class-activation map in the true box", True
    ),
    Headline("explanation.peak_inside_box", "Peak inside the box", "maps with their peak in the true box", True),
)
HEADLINES = COMBINED + GAINS + STAGES
_TARGETS = {"sensitivity": "sensitivity {:g} or more", "max_false_alarm_rate": "false-alarm rate {:g} or less"}


def figure_at(record: Mapping[str, Any], key: str) -> float | None:
    """The figure at a dotted ``key`` of a report's record; ``None`` where it is not there."""
    value: Any = record
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return float(value) if isinstance(value, (int, float)) else None


def operating_point_text(record: Mapping[str, Any]) -> str | None:
    """The operating point that the bundle was made for and what it reaches here; ``None`` if none was asked for."""
    point = record["operating_point"]
    asked = [
        text.format(point["set"][key]) for key, text in _TARGETS.items() if (point["set"] or {}).get(key) is not None
    ]
    if not asked:
        return None
    here = []
    for name in ("sensitivity", "specificity"):
        limits = show_interval(point[f"{name}_interval"], percent=True)
        here.append(f"{name} {show(point[name], percent=True)}" + (f" (95 % interval {limits})" if limits else ""))
    return f"{', '.join(asked)}, fixed in the bundle; here {', '.join(here)}"


def show(value: float | None, *, percent: bool = False) -> str:
    """``value`` for a table: three decimals, or per cent with one; a dash where there is none."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if percent else f"{value:.3f}"


def show_interval(limits: list[float] | None, *, percent: bool = False) -> str:
    """A 95 % interval for a table; empty where there is none."""
    if limits is None:
        return ""
    low, high = limits
    return f"{100 * low:.1f} to {100 * high:.1f}" if percent else f"{low:.3f} to {high:.3f}"
