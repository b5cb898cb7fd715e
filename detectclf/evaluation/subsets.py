"""The figures again on the slices that the model has not seen: no copies, new patients, unknown patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectclf.config import EvaluateConfig
from detectclf.evaluation.aligned import Aligned
from detectclf.evaluation.figures import Figures, compute_figures
from detectclf.evaluation.leakage import Provenance
from detectclf.evaluation.record import Subset
from detectclf.evaluation.trust import is_healthy
from detectclf.evaluation.weighted import Bools, Floats, Intervals
from detectclf.types import ANY_TUMOR

_UNKNOWN = "unknown patients"
NO_TRAINING_SLICES = "not known: the model keeps no record of its training slices"
NO_TRAINING_PATIENTS = "not known: the model keeps no list of its training patients"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """All evaluated slices with their figures.

    Attributes:
        data, here: the slices and their provenance.
        figures, intervals: of all of them.
        notes: on these.
        config: of the evaluation.
        map_fits: ``(I, 2)`` mass and peak of each slice's class-activation map inside its true boxes.
    """

    data: Aligned
    here: Provenance
    figures: Figures
    intervals: Intervals
    notes: tuple[str, ...]
    config: EvaluateConfig
    map_fits: Floats


def subsets(measured: Measured) -> tuple[dict[str, Subset], list[str]]:
    """``clean``, ``new_patients`` and ``unknown_patients`` of the report, and notes on their figures."""
    here = measured.here
    chosen = {
        "clean": (here.is_copy if here.is_copy is None else ~here.is_copy, _clean_note(here), "clean slices"),
        "new_patients": (_new(here), _new_note(measured), "new patients"),
        "unknown_patients": (_of_unknown(here), _unknown_note(measured), _UNKNOWN),
    }
    found, notes = {}, []
    for key, (keep, note, name) in chosen.items():
        found[key], more = _subset(measured, keep, note, name)
        notes += more
    return found, notes


def _new(here: Provenance) -> Bools | None:
    # Where no patient is known at all, none is new, whatever the model was trained on.
    return here.has_patient if not here.has_patient.any() else here.is_new


def _of_unknown(here: Provenance) -> Bools | None:
    return here.is_new_source if not here.has_patient.all() else ~here.has_patient


def _subset(measured: Measured, keep: Bools | None, note: str | None, name: str) -> tuple[Subset, list[str]]:
    """The figures on the slices ``keep``, and notes on them that do not hold for all slices."""
    if keep is None:
        return Subset(None, None, None, None, None, None, None, {}, note), []
    figures, intervals, notes = measured.figures, measured.intervals, []
    rows = np.flatnonzero(keep)
    data = measured.data.take(rows.tolist())
    if len(rows) < len(measured.data):
        config = measured.config
        figures = compute_figures(data, risk=config.risk, map_fits=measured.map_fits[rows])
        groups = measured.here.groups[rows]
        intervals, no_interval = figures.intervals(groups, count=config.bootstrap, seed=config.seed)
        if len(rows) and name != _UNKNOWN:  # else the note of the subset says it
            notes = [f"{name}: {n}" for n in (*figures.notes, *no_interval) if n not in measured.notes]
    subset = Subset(
        samples=len(rows),
        patients=patients_of(data),
        combined=figures.combined,
        detection=figures.detection,
        classification=figures.classification,
        stages=figures.stages,
        explanation=figures.explanation,
        intervals=intervals,
        note=note,
    )
    return subset, notes


def patients_of(data: Aligned) -> int:
    """The number of known patients."""
    return len({s.patient for s in data.samples} - {None})


def _clean_note(here: Provenance) -> str | None:
    if here.is_copy is None:
        return NO_TRAINING_SLICES
    if len(here.is_copy) and here.is_copy.all():
        return "every slice is a copy of a training slice: there are no figures"
    return None


def _new_note(measured: Measured) -> str | None:
    """Why there are no figures of new patients, or what they are of."""
    here = measured.here
    known = int(here.has_patient.sum())
    doubt = _key_note(here)
    if not known:
        return "no slice of a new patient: " + (doubt or "no slice has a known patient")
    if here.is_trained_on is None:
        return NO_TRAINING_PATIENTS
    fresh = here.has_patient & ~here.is_trained_on
    if not fresh.any():
        text = f"no slice of a new patient: all {known} slices with a known patient are of patients in training"
        return f"{text}; {doubt}" if doubt else text
    parts = [doubt] if doubt else []
    if here.is_copy is None:
        parts.append("copies of training slices were not looked for, so some of these slices may be such copies")
    if int(fresh.sum()) < known:
        parts.append(f"{known - int(fresh.sum())} of {known} slices with a known patient are of patients in training")
    healthy = is_healthy(measured.data)
    if healthy.any() and not healthy[fresh].any():
        parts.append("no healthy slice among them, so accuracy and mAP are of tumour slices")
    labels = {sample.label for sample, new in zip(measured.data.samples, fresh, strict=True) if new}
    if labels <= {ANY_TUMOR, measured.data.negative} and ANY_TUMOR in labels:
        parts.append("no tumour of known type among them, so accuracy and ECE are of tumour-free slices")
    return "; ".join(parts) or None


def _key_note(here: Provenance) -> str | None:
    """How many slices cannot be compared because the patients of the training slices have other pseudonyms."""
    if here.not_comparable is None or not here.not_comparable.any():
        return None
    slices = f"{int(here.not_comparable.sum())} slices are of patients who cannot be compared with those in training"
    return f"{slices}, which were hashed under another key (DETECTCLF_PATIENT_KEY)"


def _unknown_note(measured: Measured) -> str | None:
    here = measured.here
    unknown = int((~here.has_patient).sum())
    if not unknown:
        return "the patient of every slice is known" if len(here.has_patient) else "no slice"
    if here.is_copy is None:
        return f"{NO_TRAINING_SLICES}, and the patient of {unknown} slices is not known"
    if (~here.has_patient & here.is_copy).sum() == unknown:
        return f"all {unknown} slices without a known patient are copies of training slices"
    healthy = is_healthy(measured.data)[~here.has_patient & ~here.is_copy].all()
    only = "healthy slices only, so there is no sensitivity and no mAP; " if healthy else ""
    return f"{only}other slices of the same patients may have been trained on"


__all__ = ["Measured", "patients_of", "subsets"]
