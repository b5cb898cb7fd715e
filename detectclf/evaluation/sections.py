"""The sections of report.json that hold figures, one frozen class each, with field names as keys.

A figure that is undefined on the evaluated slices is ``None``, in report.json ``null``, never 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from detectclf.evaluation.weighted import Intervals

INLINE: Mapping[str, bool] = {"inline": True}
"""Marks a field whose own fields stand directly in the section, without a key of their own."""


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
    figures: BoxFigures = field(metadata=INLINE)


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
    figures: ClassFigures = field(metadata=INLINE)
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
class Trust:
    """Whether low trust is said.

    Attributes:
        confident_misses, confident_miss_slices: share and number of the tumour slices that are called tumour-free with
            a probability above 0.9.
        mistakes: slices of the wrong class.
        mistakes_flagged: share of them that carry ``low_confidence`` or ``unusual_input``.
    """

    confident_misses: float | None
    confident_miss_slices: int
    mistakes: int
    mistakes_flagged: float | None


@dataclass(frozen=True, slots=True)
class Gain:
    """What fusion adds to each stage alone."""

    accuracy_over_classifier: float | None
    accuracy_over_detector: float | None
    mAP_over_detector: float | None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Combined:
    """The fused prediction, which is what ``predict`` returns."""

    classification: ClassFigures = field(metadata=INLINE)
    boxes: BoxFigures = field(metadata=INLINE)
    AP_per_class: Mapping[str, ClassAP]
    agreement: Agreement = field(metadata=INLINE)
    trust: Trust = field(metadata=INLINE)
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
    """Share of the mass of the class-activation maps, of their peaks and of the slice area inside the true boxes."""

    mass_inside_box: float | None
    peak_inside_box: float | None
    area_inside_box: float | None
    slices: int


@dataclass(frozen=True, slots=True)
class SourceRow:
    """The figures of one source.

    Attributes:
        source: last part of its folder.
        samples, tumor_slices, healthy_slices: slices, those with a tumour of any kind, those without.
        patients: known ones.
        groups: independent groups, patients where known and source groups elsewhere.
        accuracy, ece: of the slices whose class is known; ``ece`` is the calibration error of the likeliest class.
        sensitivity: share of the tumour slices that are called a tumour of any class.
        specificity: share of the healthy slices that are called healthy.
        mAP, mAP50: of the slices whose tumour types are known.
        AP50_any_tumor: AP at IoU 0.5 of all tumours as one class.
        boxed: share of the slices with a true box on which a box of score 0.3 or more has an IoU of 0.3 or more with
            it.
        tumor_ece: calibration error of "a tumour" against "no tumour".
        confident_misses, mistakes, mistakes_flagged: as in :class:`Trust`.
        intervals: 95 % intervals by name of the figure.
    """

    source: str
    samples: int
    patients: int
    groups: int
    tumor_slices: int
    healthy_slices: int
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    mAP: float | None  # noqa: N815
    mAP50: float | None  # noqa: N815
    AP50_any_tumor: float | None
    boxed: float | None
    ece: float | None
    tumor_ece: float | None
    confident_misses: float | None
    mistakes: int
    mistakes_flagged: float | None
    intervals: Intervals
