"""The report as a typed record: one frozen class per section of report.json, field names as its keys.

A figure that is undefined on the evaluated slices is ``None``, in report.json ``null``, never 0 or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

Intervals = Mapping[str, list[float] | None]
"""Dotted key of a figure -> its 95 % interval, ``None`` where it has none."""

_INLINE: Mapping[str, bool] = {"inline": True}
"""Marks a field whose own fields stand directly in the section, without a key of their own."""


@dataclass(frozen=True, slots=True)
class Data:
    """What was evaluated.

    Attributes:
        split: name of the split.
        samples, boxed, evaluated: slices of the split, those with known boxes, those with a usable prediction.
        source_groups: groups of evaluated slices that stem from one source slice.
        classes: slices of each class.
        boxes: true boxes.
        sources: folders of the data set.
        sha256: digest over names, labels, boxes and image files.
        split_unit: what the split keeps apart.
        fitted_here: whether the bundle was fitted on this split, ``None`` where that is not recorded.
    """

    split: str | None
    samples: int
    boxed: int
    evaluated: int
    source_groups: int
    classes: Mapping[str, int]
    boxes: int
    sources: tuple[str, ...]
    sha256: str
    split_unit: str
    fitted_here: bool | None


@dataclass(frozen=True, slots=True)
class ClassAP:
    """Average precision of one class, and its recall at IoU 0.5."""

    AP: float | None
    AP50: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Localisation:
    """Average precision of all tumour boxes as one class."""

    AP: float | None
    AP50: float | None
    AP75: float | None


@dataclass(frozen=True, slots=True)
class SizeThird:
    """Average precision of one third of the true boxes by area; ``side_px`` is the range of the square roots."""

    AP: float | None
    AP50: float | None
    boxes: int
    side_px: tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class FourClassMAP:
    """mAP with the boxes of the negative class counted as objects."""

    mAP: float | None  # noqa: N815 - the name of the figure everywhere in the field
    mAP50: float | None  # noqa: N815
    mAP75: float | None  # noqa: N815
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BoxFigures:
    """The box figures that each stage and the fused prediction have."""

    mAP: float | None  # noqa: N815
    mAP50: float | None  # noqa: N815
    mAP75: float | None  # noqa: N815
    localisation: Localisation
    four_class_mAP: FourClassMAP | None  # noqa: N815
    froc_iou10: Mapping[str, float | None]
    froc_iou10_mean: float | None
    froc: Mapping[str, float | None]
    froc_mean: float | None
    recall_one_box: float | None
    mean_iou_of_hits: float | None
    false_alarms_per_healthy_slice: float | None
    healthy_slices: int
    box_threshold: float | None


@dataclass(frozen=True, slots=True)
class Detection:
    """The detector's own boxes."""

    slices: int
    boxes: int
    per_class: Mapping[str, ClassAP]
    by_size: Mapping[str, SizeThird | None]
    figures: BoxFigures = field(metadata=_INLINE)


@dataclass(frozen=True, slots=True)
class ClassRow:
    """Classification figures of one class; ``support`` is its number of slices."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    auroc: float | None


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Mean confidence and accuracy of the slices whose confidence is in ``(low, high]``."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The classification figures that the classifier alone and the fused prediction have."""

    accuracy: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    sensitivity: float | None
    specificity: float | None
    per_class: Mapping[str, ClassRow]
    classes: tuple[str, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    auroc: Mapping[str, float | None]
    nll: float | None
    brier: float | None
    ece: float | None
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """The classifier alone, calibrated."""

    samples: int
    figures: ClassFigures = field(metadata=_INLINE)
    ece_bins: int


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Error rate among the slices kept, by the share of slices kept, the most confident first; ``area`` is its mean."""

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How class and boxes of the fused prediction fit the truth and each other, and what is worth a human look."""

    joint_accuracy: float | None
    joint_slices: int
    contradictions: float | None
    flagged: float | None
    referred: float | None
    referred_at_risk: float
    risk_coverage: RiskCoverage


@dataclass(frozen=True, slots=True)
class Gain:
    """What fusion adds to each stage alone."""

    accuracy_over_classifier: float | None
    accuracy_over_detector: float | None
    mAP_over_detector: float | None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Combined:
    """The fused prediction, which is what ``predict`` returns."""

    classification: ClassFigures = field(metadata=_INLINE)
    boxes: BoxFigures = field(metadata=_INLINE)
    AP_per_class: Mapping[str, ClassAP]
    agreement: Agreement = field(metadata=_INLINE)
    gain: Gain


@dataclass(frozen=True, slots=True)
class ClassifierAlone:
    """The classifier's headline figures."""

    accuracy: float | None
    balanced_accuracy: float | None
    macro_f1: float | None


@dataclass(frozen=True, slots=True)
class DetectorAlone:
    """The detector's headline figures; accuracy is that of the class its boxes imply."""

    accuracy: float | None
    mAP: float | None  # noqa: N815
    mAP50: float | None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Stages:
    """Each stage alone, on the same slices."""

    classifier_alone: ClassifierAlone
    detector_alone: DetectorAlone


@dataclass(frozen=True, slots=True)
class Explanation:
    """Share of the class-activation maps, and of the slice area, inside the true boxes of ``slices`` slices."""

    mass_inside_box: float | None
    area_inside_box: float | None
    slices: int


@dataclass(frozen=True, slots=True)
class Clean:
    """The figures on the slices that are no copies of training slices; all ``None`` where that was not checked."""

    samples: int | None
    combined: Combined | None
    detection: Detection | None
    classification: Classification | None
    stages: Stages | None
    explanation: Explanation | None
    intervals: Intervals


@dataclass(frozen=True, slots=True)
class Speed:
    """Slices per second; ``explained`` says whether the time includes class-activation maps."""

    images_per_second: float | None = None
    device: str | None = None
    explained: bool = False


@dataclass(frozen=True, slots=True)
class Leaks:
    """Evaluated slices that are copies of training slices: how many, and their names; ``None`` if not checked."""

    samples: int | None
    files: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The operating point that the bundle was asked for (``set``), and what it reaches on these slices."""

    set: Mapping[str, Any] | None
    sensitivity: float | None
    sensitivity_interval: list[float] | None
    specificity: float | None
    specificity_interval: list[float] | None


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How the intervals were made."""

    resamples: int
    seed: int
    unit: str = "source group"
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class ReportRecord:
    """All that report.json holds.

    Attributes:
        facts: metadata of the model, as its bundle records it.
        command: the exact command line.
        versions: of the libraries that figures depend on.
        limits: what these figures cannot show, a sentence each.
        notes: what a reader must know about this evaluation, a line each.
        use: what the model may be used for.
    """

    data: Data
    detection: Detection
    classification: Classification
    combined: Combined
    stages: Stages
    intervals: Intervals
    clean: Clean
    speed: Speed
    leaks: Leaks
    explanation: Explanation
    operating_point: OperatingPoint
    bootstrap: Bootstrap
    facts: Mapping[str, Any]
    command: str | None
    versions: Mapping[str, str]
    limits: tuple[str, ...]
    notes: tuple[str, ...]
    use: str

    def to_record(self) -> dict[str, Any]:
        """The JSON object of INTERFACE.md, keys in its order."""
        record: dict[str, Any] = plain(self)
        return record


def plain(value: Any) -> Any:
    """``value`` as JSON holds it: sections as objects, NaN and infinities as ``None``, paths as text."""
    if is_dataclass(value):
        record: dict[str, Any] = {}
        for f in fields(value):
            inner = plain(getattr(value, f.name))
            record |= inner if f.metadata.get("inline") else {f.name: inner}
        return record
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
