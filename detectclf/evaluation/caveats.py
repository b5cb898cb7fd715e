"""The notes beside the figures, a line each: why a figure is missing, and what makes figures look too good."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.headlines import HEADLINES
from detectclf.evaluation.leakage import Provenance
from detectclf.evaluation.record import Training
from detectclf.evaluation.weighted import Intervals, Values
from detectclf.types import ANY_TUMOR, Dataset


def why_missing(data: Aligned) -> list[str]:
    """Why figures of these slices are null."""
    if not len(data):
        return ["no slice has a prediction: every figure is null"]
    labels = {s.label for s in data.samples if s.label not in (None, ANY_TUMOR)}
    unknown = sum(s.label == ANY_TUMOR for s in data.samples)
    boxed = [s for s in data.samples if s.boxed]
    boxless = sum(s.label not in (None, data.negative) and not s.boxed for s in data.samples)
    absent = [name for name in data.classes if name not in labels]
    tumors = {label for s in boxed for label in s.box_labels} - {data.negative}
    checks = (
        (not labels, "no slice has a known class: classification figures are null"),
        (len(labels) == 1, f"only one class occurs ({', '.join(sorted(labels))}): AUROC is undefined"),
        (bool(labels) and bool(absent), f"no slice is {' or '.join(absent)}: its recall, AUROC and AP are undefined"),
        (data.negative is None, "the data set has no negative class: specificity and false alarms are undefined"),
        (
            data.negative is not None and bool(labels) and data.negative not in labels,
            "no healthy slice: specificity and false alarms per healthy slice are undefined",
        ),
        (labels == {data.negative} and not unknown, "no tumour slice: sensitivity is undefined"),
        (not boxed, "no slice has known boxes: detection figures are null"),
        (bool(boxed) and not tumors, "no true tumour box: mAP and FROC are undefined"),
        (tumors == {ANY_TUMOR}, "no true tumour box of a known type: mAP is undefined"),
        (
            unknown > 0,
            f"{unknown} slices show a tumour of unknown type: they count in localisation and sensitivity only",
        ),
        (boxless > 0, f"{boxless} tumour slices have no known box: detection and joint accuracy leave them out"),
    )
    return [text for applies, text in checks if applies]


def why_no_interval(values: Values, intervals: Intervals, rare: Collection[str]) -> list[str]:
    """Why headline figures that are known have no interval.

    Args:
        values: the published figures.
        intervals: those found, ``None`` where there is none.
        rare: figures that are undefined in a tenth or more of the resamples.
    """
    bare = [h for h in HEADLINES if values.get(h.key) is not None and intervals.get(h.key) is None]
    reasons = (
        ([h.name for h in bare if h.key in rare], "undefined in a tenth or more of the resamples, for want of slices"),
        ([h.name for h in bare if h.key not in rare], "all resamples agree, so they do not measure its uncertainty"),
    )
    return [f"no interval of {'; '.join(names)}: {why}" for names, why in reasons if names]


def fitted_here(metadata: Mapping[str, Any], dataset: Dataset) -> bool | None:
    """Whether calibration, fusion and thresholds were fitted on the evaluated split, judged by the names of both.

    ``None`` where no fit is recorded, as with two runs without a bundle.
    """
    fitted = metadata.get("fitted_on") or {}
    if not fitted.get("split"):
        return None
    if fitted.get("cross_fitted"):
        return False  # each slice is judged by a fit on others
    here = {Path(source).name for source in dataset.sources}
    sources = {Path(source).name for source in fitted.get("sources") or here}
    return fitted["split"] in dataset.splits and bool(here & sources)


def warnings_of(here: Provenance, exact_copies: int, fitted: Sequence[str]) -> tuple[str, ...]:
    """What takes the figures back or makes them look too good, a line each, to stand above all of them.

    Args:
        here: of the evaluated slices.
        exact_copies: slices that the model keeps out-of-fold predictions of, which are training slices.
        fitted: from :func:`fitted_note`.
    """
    return (*_trained_on(here, exact_copies), *fitted)


def _trained_on(here: Provenance, exact_copies: int) -> list[str]:
    count = len(here.groups)
    copies = max(exact_copies, 0 if here.is_copy is None else int(here.is_copy.sum()))
    if copies:
        rest = "" if copies >= count else "; the rows below give those on the other slices"
        return [
            (
                f"TRAINED ON THESE SLICES: {_share(copies, count)} a training slice of this model or a copy of one. "
                f"Figures on such slices show what it has learned by heart, not how it does on new ones{rest}"
            )
        ]
    if here.is_trained_on is not None and (seen := int((here.has_patient & here.is_trained_on).sum())):
        rest = "" if seen >= count else "; the rows below give those on new patients"
        return [
            (
                f"TRAINED ON THESE PATIENTS: {_share(seen, count)} of a patient whom this model was trained on. "
                f"Figures on such slices look better than on new patients{rest}"
            )
        ]
    if here.is_copy is None and count:
        return [
            (
                "PERHAPS TRAINED ON THESE SLICES: the model keeps no record of its training slices, so whether it has "
                "seen these is not known"
            )
        ]
    return []


def _share(part: int, count: int) -> str:
    """Such as ``12 of 40 slices are each``, before what each of them is."""
    if count == 1:
        return "the slice is"
    if part >= count:
        return f"each of the {count} slices is"
    return f"{part} of {count} slices is" if part == 1 else f"{part} of {count} slices are each"


def fitted_note(metadata: Mapping[str, Any], dataset: Dataset) -> list[str]:
    """One line where the evaluated slices are those that the bundle was fitted on."""
    if not fitted_here(metadata, dataset):
        return []
    split = metadata["fitted_on"]["split"]
    what = "combined figures, calibration and the operating point look better here than on other slices"
    return [f"calibration, fusion and thresholds were fitted on this split ({split}): {what}"]


def split_unit(here: Provenance) -> str:
    """What the split keeps apart, as far as it is known."""
    return f"{_by_patient(here)}; {_by_source(here)}"


def _by_patient(here: Provenance) -> str:
    known = int(here.has_patient.sum())
    if not known:
        return "no patient-level split: patients are not known"
    if here.is_trained_on is None:
        return (
            f"patient-level split not checked for {known} slices with a known patient: those in training are not known"
        )
    seen = int((here.has_patient & here.is_trained_on).sum())
    if seen:
        share = f"all {known}" if seen == known else f"{seen} of {known}"
        return f"no patient-level split: {share} slices with a known patient are of patients in training"
    return f"patient-level split of the {known} slices with a known patient"


def _by_source(here: Provenance) -> str:
    unknown = int((~here.has_patient).sum())
    if here.is_copy is None:
        return "copies of training slices not looked for"
    if copies := int(here.is_copy.sum()):
        return f"no source-level split: {copies} slices are copies of training slices"
    if not unknown:
        return "no copies of training slices"
    return f"source-level split of the {unknown} slices without a known patient: no copies of training slices"


def about_slices(data: Mapping[str, Any]) -> list[str]:
    """What was evaluated and what the split keeps apart, a short line each, to stand above the figures.

    Args:
        data: ``data`` of a report.
    """
    count, boxed, copies = data["evaluated"], data["boxed"], data["evaluated"] - data["source_groups"]
    refused_count = data.get("refused") or 0
    refused = [f"{refused_count} were refused"] if refused_count else []
    others = data["samples"] - count - refused_count
    left_out = [f"{others} others were not evaluated"] if others > 0 else []
    with_boxes = "all with known boxes" if boxed == count else f"{boxed} of them with known boxes"
    split = f"Split {data['split']}" if data["split"] else "All splits"
    lines = ["; ".join([f"{split}: {_slices(count)}, {with_boxes}", *refused, *left_out])]
    if copies:
        lines.append(f"{_slices(copies)} {'is a copy' if copies == 1 else 'are copies'} of others among them")
    if data["patients"]:
        lines.append(f"The patient is known on {_slices(data['slices_with_patient'])}: {data['patients']} patients")
    return lines + [f"{line[0].upper()}{line[1:]}" for line in data["split_unit"].split("; ")]


def _slices(count: int) -> str:
    return "1 slice" if count == 1 else f"{count} slices"


def training_note(training: Training | None) -> list[str]:
    """One line where slices of unknown patients were trained on."""
    if training is None or not training.slices_without_patient:
        return []
    unknown = f"{training.slices_without_patient} of {training.slices} training slices have no known patient"
    return [f"{unknown}: new patients are those who are not among the {training.patients} known ones"]


def bootstrap_unit(groups: int, patients: int) -> str:
    """What is resampled, of ``groups`` of which ``patients`` are patients."""
    if not patients:
        return "source group"
    return "patient" if patients == groups else "patient where known, source group elsewhere"
