"""The report as a typed record: one frozen class per section of report.json, field names as its keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detectclf.evaluation.sections import Classification, Combined, Detection, Explanation, SourceRow, Stages
from detectclf.evaluation.weighted import Intervals

RESEARCH_USE = "Research use. Not a medical device, not for diagnosis."

LIMITS: tuple[str, ...] = (
    "Where the patient of a slice is not known, only copies of training slices are known to be seen.",
    "Slices are judged one by one, without their neighbours in the volume.",
    "Labels are taken as published; true boxes that are a few pixels off limit mAP at high IoU.",
    "mAP of a few hundred slices is biased slightly upwards, because its precision envelope takes maxima of noise.",
    "If healthy and tumour slices differ in sequence or scanner, a model can exploit that and do worse elsewhere.",
    "Intervals cover the choice of slices, not retraining and not other hospitals.",
)


@dataclass(frozen=True, slots=True)
class Data:
    """What was evaluated.

    Attributes:
        split: name of the split.
        samples, boxed, evaluated: slices of the split, those with known boxes, those with a usable prediction.
        refused: slices that the model refused as no brain MRI; they are in no figure.
        source_groups: groups of evaluated slices that stem from one source slice.
        patients, slices_with_patient: known patients of the evaluated slices, and slices whose patient is known.
        classes: slices of each class.
        any_tumor: slices with a tumour of unknown type.
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
    refused: int
    source_groups: int
    patients: int
    slices_with_patient: int
    classes: Mapping[str, int]
    any_tumor: int
    boxes: int
    sources: tuple[str, ...]
    sha256: str
    split_unit: str
    fitted_here: bool | None


@dataclass(frozen=True, slots=True)
class Subset:
    """The figures on some of the slices; all ``None`` where it is not known which slices these are.

    Attributes:
        samples: slices; with 0 every figure is ``None``.
        patients: known ones among them.
        note: why there are no figures, or what they are of.
    """

    samples: int | None
    patients: int | None
    combined: Combined | None
    detection: Detection | None
    classification: Classification | None
    stages: Stages | None
    explanation: Explanation | None
    intervals: Intervals
    note: str | None


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
class Training:
    """Whom the training slices show, as the model records it; all ``None`` where it does not.

    Attributes:
        patients: known ones.
        slices: training slices.
        slices_without_patient: those whose patient is not known; a patient who seems new may be among them.
    """

    patients: int | None = None
    slices: int | None = None
    slices_without_patient: int | None = None


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
    """How the intervals were made.

    Attributes:
        resamples, seed, level: of the bootstrap.
        unit: what is resampled as a whole.
        groups: how many there are.
        patient_groups: how many of them are patients; the others are source groups.
    """

    resamples: int
    seed: int
    unit: str
    groups: int
    patient_groups: int
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRecord:
    """All that report.json holds.

    Attributes:
        clean: the figures on slices that are no copies of training slices.
        new_patients: on slices whose patient is known and is not among those of the training slices.
        unknown_patients: on slices whose patient is not known and that are no copies of training slices.
        by_source: the figures of each source.
        training: whom the training slices show.
        facts: metadata of the model, as its bundle records it.
        command: the exact command line.
        versions: of the libraries that figures depend on.
        limits: what these figures cannot show, a sentence each.
        notes: what a reader must know about this evaluation, a line each.
        use: what the model may be used for.
        warnings: what takes the figures back, such as that the model was trained on these slices, a line each.
    """

    data: Data
    warnings: tuple[str, ...]
    detection: Detection
    classification: Classification
    combined: Combined
    stages: Stages
    intervals: Intervals
    clean: Subset
    new_patients: Subset
    speed: Speed
    unknown_patients: Subset
    by_source: tuple[SourceRow, ...]
    training: Training
    leaks: Leaks
    explanation: Explanation
    operating_point: OperatingPoint
    bootstrap: Bootstrap
    facts: Mapping[str, Any]
    command: str | None
    versions: Mapping[str, str]
    limits: tuple[str, ...] = field(default=LIMITS, init=False)
    notes: tuple[str, ...]
    use: str = field(default=RESEARCH_USE, init=False)

    def to_record(self) -> dict[str, Any]:
        """The JSON object of docs/interface.md, keys in its order."""
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
