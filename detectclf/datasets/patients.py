"""Patients of slices: where they come from, and the groups that may not be taken apart.

What says whose slice it is, the first that does: the patients file (``data.patients``), the export (``patient`` of a
COCO image), DICOM's PatientID, a pattern of file names (``data.patient_pattern``), and the atlas of figshare 1512427,
which knows slices by their content. The same id means the same person in every source; where it does not, ids need a
prefix per source.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detectclf.config import DataConfig
from detectclf.datasets.index import SliceIndex
from detectclf.datasets.patients_file import PatientRow, assign, read_patients
from detectclf.duplicates.atlas import load_atlas
from detectclf.duplicates.copies import CopyGroup
from detectclf.duplicates.disjoint_sets import DisjointSets, join_names
from detectclf.duplicates.fingerprints import Fingerprints
from detectclf.pseudonyms import pseudonym
from detectclf.types import Dataset, Sample

_log = logging.getLogger(__name__)

_LONGEST_NAME = 255
"""Characters in which the pattern is searched: of a longer name, in a container, a slow pattern would never end."""

ORIGINS = ("file", "export", "dicom", "name", "atlas")
"""What a patient may be known from; the first that gives one counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Stated:
    """Slices with the patients that files and names state.

    Attributes:
        samples: as given, with their patients.
        origins: for each slice, one of :data:`ORIGINS`, or ``None`` where its patient is not known.
        unknown_files: rows of the patients file whose file no slice has.
        listed: how many files it names; ``None`` without a patients file.
        pattern: the pattern of names, where there is one.
    """

    samples: tuple[Sample, ...]
    origins: tuple[str | None, ...]
    unknown_files: tuple[PatientRow, ...] = ()
    listed: int | None = None
    pattern: str | None = None

    def note(self) -> str | None:
        """What is odd about the patients file, or ``None``."""
        if self.listed == 0:
            return "gives no file a patient"
        if self.listed is None or not self.unknown_files:
            return None
        found = self.listed - len(self.unknown_files)
        first = self.unknown_files[0].shown
        return f"{found or 'none'} of the {self.listed} files that it names are in the data; the first other: {first}"

    def pattern_note(self) -> str | None:
        """What is odd about the pattern, or ``None``."""
        if self.pattern is None or "name" in self.origins or None not in self.origins:
            return None
        return f"data.patient_pattern {self.pattern!r} finds no patient in the names of the slices"


@dataclass(frozen=True, slots=True, eq=False)
class Identified:
    """The patient of each slice, by what is stated and by the atlas.

    Attributes:
        patients: of each slice, ``None`` where not known.
        by_atlas: of each slice, whether the atlas knows it.
        contradictions: how many stated patients have slices of several patients of the atlas.
        aliases: disjoint sets of names that are of one person, since slices have them in common.
    """

    patients: tuple[str | None, ...]
    by_atlas: tuple[bool, ...]
    contradictions: int
    aliases: tuple[frozenset[str], ...] = ()

    def name(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """``samples``, the first of the slices, each with its patient and the other names of that patient."""
        others = {name: tuple(sorted(names - {name})) for names in self.aliases for name in names}
        named = zip(samples, self.patients, strict=False)
        return tuple(replace(s, patient=p, aliases=() if p is None else others.get(p, ())) for s, p in named)


def stated_patients(samples: Sequence[Sample], file: Path | None = None, pattern: str | None = None) -> Stated:
    """Finds the patients that the patients file, the export, DICOM headers and file names state.

    Args:
        samples: as read; those of an export that states patients have them.
        file: the patients file.
        pattern: regular expression whose one group is the patient's id in the name of a slice, without its folders.

    Raises:
        DataError, UnsafeError: the patients file cannot be used, see :mod:`detectclf.datasets.patients_file`.
        ConfigError: there is no key for pseudonyms, see :mod:`detectclf.pseudonyms`.
    """
    from detectclf.imaging.images import dicom_patient

    rows = read_patients(file) if file is not None else []
    listed, unknown = assign(rows, samples, file) if file is not None else ({}, [])
    result, origins = [], []
    for index, sample in enumerate(samples):
        patient, origin = listed.get(index), "file"
        if patient is None:
            patient, origin = sample.patient, "export"
        if patient is None:
            patient, origin = dicom_patient(sample), "dicom"
        if patient is None and pattern is not None and (match := _search(pattern, sample.name)) is not None:
            patient, origin = pseudonym(match[1] or ""), "name"
        result.append(sample if patient == sample.patient else replace(sample, patient=patient))
        origins.append(None if patient is None else origin)
    return Stated(tuple(result), tuple(origins), tuple(unknown), None if file is None else len(rows), pattern)


def _search(pattern: str, name: str) -> re.Match[str] | None:
    """Where ``pattern`` is in a name of a slice: in its last part, since some formats put the class before it."""
    return re.search(pattern, name.replace("\\", "/").rpartition("/")[2][:_LONGEST_NAME])


def with_stated_patients(samples: Sequence[Sample], config: DataConfig) -> tuple[Sample, ...]:
    """As :func:`stated_patients`, by the settings; what is odd is logged."""
    found = stated_patients(samples, config.patients, config.patient_pattern)
    note = found.note()
    if note is not None:
        _log.warning("%s: %s", config.patients, note)
    if (note := found.pattern_note()) is not None:
        _log.warning(note)
    return found.samples


def identify(fingerprints: Fingerprints, index: SliceIndex) -> Identified:
    """Joins what is stated with the atlas of figshare 1512427.

    A slice of the atlas gets the atlas's patient. A stated patient all of whose slices in the atlas are of one patient
    gets that name everywhere: whoever numbered the patients of that set anew means the same person by it. The stated
    name stays an alias, so that other data with only one of the names are recognised.

    Args:
        fingerprints: of the slices, with the patients that are stated and the aliases that are known already.
        index: the slice index of the command.
    """
    rows = index.match_atlas(fingerprints)
    atlas = load_atlas()
    known = [None if row < 0 else f"figshare-{atlas.patients[row]}" for row in rows.tolist()]
    meant: dict[str, set[str]] = {}
    for stated, name in zip(fingerprints.patients, known, strict=True):
        if stated is not None and name is not None:
            meant.setdefault(stated, set()).add(name)
    renamed = {stated: next(iter(names)) for stated, names in meant.items() if len(names) == 1}
    patients = tuple(
        name or (None if stated is None else renamed.get(stated, stated))
        for stated, name in zip(fingerprints.patients, known, strict=True)
    )
    aliases = join_names([*fingerprints.aliases, *((stated, *sorted(names)) for stated, names in meant.items())])
    contradictions = sum(len(names) > 1 for names in meant.values())
    return Identified(patients, tuple(name is not None for name in known), contradictions, aliases)


def patients_of(fingerprints: Fingerprints) -> frozenset[str]:
    """All opaque names of the known patients of ``fingerprints``, its slices of the atlas included."""
    atlas = load_atlas()
    rows = np.flatnonzero(np.isin(atlas.sources, fingerprints.atlas_slices))
    names = frozenset(filter(None, fingerprints.patients)) | {f"figshare-{atlas.patients[row]}" for row in rows}
    return names.union(*(alike for alike in fingerprints.aliases if alike & names))


def number_of_patients(fingerprints: Fingerprints) -> int:
    """How many persons the names of :func:`patients_of` are."""
    names = patients_of(fingerprints)
    return len(names) - sum(len(alike) - 1 for alike in fingerprints.aliases if alike & names)


def without_atlas_slices(fingerprints: Fingerprints, index: SliceIndex) -> Fingerprints:
    """The same slices in less space: those that the atlas knows are kept as their numbers in it.

    Args:
        fingerprints: of slices.
        index: the slice index of the command.
    """
    rows = index.match_atlas(fingerprints)
    kept = np.flatnonzero(rows < 0)
    numbers = {*fingerprints.atlas_slices, *load_atlas().sources[rows[rows >= 0]].tolist()}
    names, splits, sources = (
        tuple(values[i] for i in kept) for values in (fingerprints.names, fingerprints.splits, fingerprints.sources)
    )
    patients = tuple(fingerprints.patients[i] for i in kept)
    return replace(
        fingerprints,
        rows=fingerprints.rows[kept],
        names=names,
        splits=splits,
        sources=sources,
        patients=patients,
        atlas_slices=tuple(sorted(numbers)),
    )


def with_patients(dataset: Dataset, index: SliceIndex) -> Dataset:
    """``dataset`` with the patients that the atlas knows beside those that are stated; see :func:`identify`.

    Slices that the index does not know are read. Give all splits at once, so that a patient has one name in them all.
    """
    found = identify(index.look_up(dataset.samples).fingerprints, index)
    if found.contradictions:
        _log.warning(
            "%d of the patients given have slices of several patients of figshare 1512427, which are kept together",
            found.contradictions,
        )
    return replace(dataset, samples=found.name(dataset.samples))


def independent_groups(samples: Sequence[Sample], copy_groups: Sequence[CopyGroup]) -> list[list[int]]:
    """The groups that splits, folds and the bootstrap never take apart: slices of one patient, and copies.

    They are the connected components of names and copies: a slice of unknown patient belongs to the patient of its
    copies, and slices of several patients of the atlas belong together where they are stated to be of one.

    Args:
        samples: the slices, with their patients (:func:`with_patients`).
        copy_groups: copies among them (:func:`detectclf.duplicates.copies.find_copies`).

    Returns:
        Indices of the slices, each in exactly one group, alone where nothing is like it; ascending.
    """
    joined = DisjointSets(len(samples))
    first: dict[str, int] = {}
    for index, sample in enumerate(samples):
        for name in sample.patient_names:
            joined.join(first.setdefault(name, index), index)
    for group in copy_groups:
        for member in group.members[1:]:
            joined.join(group.members[0], member)
    return joined.sets()


def group_numbers(groups: Sequence[Sequence[int]]) -> list[int]:
    """The number of its group for each slice: the index of the group's first slice."""
    numbers = [0] * sum(map(len, groups))
    for group in groups:
        for index in group:
            numbers[index] = group[0]
    return numbers


def count_origins(stated: Stated, found: Identified) -> dict[str, int]:
    """What the patients of the slices are known from: origin -> number of slices, of those that occur."""
    origins = (
        origin if origin is not None else "atlas" if by_atlas else None
        for origin, by_atlas in zip(stated.origins, found.by_atlas, strict=True)
    )
    counts = Counter(origin for origin in origins if origin is not None)
    return {origin: counts[origin] for origin in ORIGINS if counts[origin]}


__all__ = [
    "ORIGINS",
    "Identified",
    "Stated",
    "count_origins",
    "group_numbers",
    "identify",
    "independent_groups",
    "number_of_patients",
    "patients_of",
    "stated_patients",
    "with_patients",
    "with_stated_patients",
    "without_atlas_slices",
]
