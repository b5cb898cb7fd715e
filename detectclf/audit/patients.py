"""Checks of patients: whom the slices show, and whether a patient lies in two splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectclf.datasets.patients import Identified, Stated, count_origins
from detectclf.formats.faults import Faults
from detectclf.types import Sample


@dataclass(frozen=True, slots=True)
class KnownPatients:
    """How many slices have a known patient.

    Attributes:
        slices: slices whose patient is known.
        unknown: the other slices.
        patients: how many different patients there are.
        origins: what they are known from -> number of slices; see :data:`detectclf.datasets.patients.ORIGINS`.
    """

    slices: int = 0
    unknown: int = 0
    patients: int = 0
    origins: dict[str, int] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """The object ``patients`` of ``data check --json``: counts only, no names."""
        return {"slices": self.slices, "unknown": self.unknown, "patients": self.patients, "from": self.origins}


def count_patients(stated: Stated, found: Identified) -> KnownPatients:
    """Counts slices and patients."""
    known = [patient for patient in found.patients if patient is not None]
    unknown = len(found.patients) - len(known)
    return KnownPatients(len(known), unknown, len(set(known)), count_origins(stated, found))


def patient_members(found: Identified) -> list[list[int]]:
    """The slices of each patient with two or more, by their indices; ordered by the first.

    Several names that belong together are one patient, as in splits and folds.
    """
    first = {name: min(names) for names in found.aliases for name in names}
    members: dict[str, list[int]] = {}
    for index, patient in enumerate(found.patients):
        if patient is not None:
            members.setdefault(first.get(patient, patient), []).append(index)
    return [found for found in members.values() if len(found) > 1]


def note_leaks(groups: Sequence[Sequence[int]], slices: Sequence[Sample], owners: Sequence[Faults]) -> None:
    """Notes ``patient_in_two_splits`` once per patient, at the first slice outside the patient's first split."""
    for members in groups:
        counts = Counter(slices[i].split for i in members)
        if len(counts) > 1:
            at = next(i for i in members if slices[i].split != slices[members[0]].split)
            where = ", ".join(f"{split} ({count})" for split, count in counts.items())
            detail = f"its patient has slices in {where}; figures on such splits are not those of new patients"
            owners[at].warning("patient_in_two_splits", slices[at].path, detail)


def note_oddities(stated: Stated, found: Identified, file: object, faults: Faults) -> None:
    """Notes ``patients_file`` for files that are not there, ``patient_pattern``, and ``patient_contradicts_atlas``."""
    if (note := stated.note()) is not None:
        faults.warning("patients_file", str(file), note)
    if (note := stated.pattern_note()) is not None:
        faults.warning("patient_pattern", faults.root, note)
    if found.contradictions:
        detail = f"{found.contradictions} of the patients given have slices of several patients of figshare 1512427"
        faults.warning("patient_contradicts_atlas", faults.root, f"{detail}, which are kept together")


__all__ = ["KnownPatients", "count_patients", "note_leaks", "note_oddities", "patient_members"]
