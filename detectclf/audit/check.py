"""What is wrong with a data set: faults of annotations and images, names, balance, copies, patients and leaks.

Every check reports to one :class:`~detectclf.formats.faults.Faults` per folder. Training stops at the same errors, so
it accepts a data set without errors here. The source is only read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detectclf.audit import names as audit_names
from detectclf.audit import patients as audit_patients
from detectclf.audit import splits as audit_splits
from detectclf.audit.patients import KnownPatients
from detectclf.datasets.class_names import known_names
from detectclf.datasets.index import IndexedSlices, SliceIndex
from detectclf.datasets.patients import identify, stated_patients
from detectclf.datasets.splits import large_groups
from detectclf.duplicates.copies import CopyGroup
from detectclf.duplicates.fingerprints import Fingerprints
from detectclf.duplicates.versions import names_apart
from detectclf.errors import DataError
from detectclf.formats import read
from detectclf.formats.faults import Faults
from detectclf.imaging.intensity import UNSAFE
from detectclf.types import ANY_TUMOR, NEGATIVE_CLASS, Dataset, Problem, Sample

# Faults of images that are worth a look but do no harm in training; every other one is an error.
_IMAGE_WARNINGS = frozenset({"wrong_extension"})


@dataclass(frozen=True, slots=True, eq=False)
class AuditGroup:
    """Files that show one source slice, or one patient.

    Attributes:
        files: relative to their data set; with several data sets, the whole paths.
        splits: the splits that they are in, each once.
        kind: how copies differ, see :class:`detectclf.duplicates.copies.CopyGroup`; or ``patient``.
        members: their indices in :attr:`Audit.slices`.
    """

    files: tuple[str, ...]
    splits: tuple[str, ...]
    kind: str
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """The result of :func:`check`.

    Attributes:
        problems: every fault, errors first.
        groups: files that show one source slice.
        slices: all slices, with the class names of the data.
        splits: split -> number of slices.
        classes: class -> number of slices; known spellings count for their canonical class, or as ``any_tumor``.
        folders: the data sets.
        patients: files that show one patient, for each patient with two or more.
        known_patients: how many slices have a known patient, and from where.
    """

    problems: tuple[Problem, ...]
    groups: tuple[AuditGroup, ...]
    slices: tuple[Sample, ...]
    splits: dict[str, int]
    classes: dict[str, int]
    folders: tuple[str, ...]
    patients: tuple[AuditGroup, ...] = ()
    known_patients: KnownPatients = field(default_factory=KnownPatients)

    @property
    def samples(self) -> int:
        """How many slices there are."""
        return len(self.slices)

    @property
    def leaks(self) -> int:
        """How many groups of copies cross splits."""
        return sum(len(group.splits) > 1 for group in self.groups)

    @property
    def patient_leaks(self) -> int:
        """How many patients are in more than one split."""
        return sum(len(group.splits) > 1 for group in self.patients)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems of severity ``error``."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def unsafe(self) -> bool:
        """Whether an image was refused as unsafe."""
        return any(p.code == UNSAFE for p in self.problems)

    def to_record(self) -> dict[str, Any]:
        """The JSON object of ``data check --json``."""
        both = (*self.groups, *self.patients)
        groups = [{"files": list(g.files), "splits": list(g.splits), "kind": g.kind} for g in both]
        return {
            "samples": self.samples,
            "splits": self.splits,
            "classes": self.classes,
            "problems": [p.to_record() for p in self.problems],
            "groups": groups,
            "leaks": self.leaks,
            "patient_leaks": self.patient_leaks,
            "patients": self.known_patients.to_record(),
        }


def check(
    folders: Sequence[Path | str],
    *,
    format: str | None = None,
    copies: bool = True,
    class_map: Mapping[str, str] | None = None,
    patients: Path | None = None,
    patient_pattern: str | None = None,
    index: SliceIndex | None = None,
) -> Audit:
    """Finds everything that is wrong with the data sets in ``folders``, taken together.

    Args:
        folders: exports in any format.
        format: their format; detected by default.
        copies: also look for copies of one slice, within and across splits and folders.
        class_map: the user's own spellings, as ``DataConfig.spellings``.
        patients, patient_pattern: as ``data.patients`` and ``data.patient_pattern``.
        index: the slice index of the command.

    Raises:
        DataError: no such folder, no annotations, or annotations or a patients file that are unreadable as a whole.
        ConfigError: there is no key for the ids of patients, see :mod:`detectclf.pseudonyms`.
        UnsafeError: a name leads out of its folder, or an annotation file is too large. (An unsafe image is only
            reported, see :attr:`Audit.unsafe`.)
    """
    if not folders:
        raise DataError("no data given", remedy="name a folder")
    reports = [(Faults(Path(folder)), Path(folder)) for folder in folders]
    parts = [read(folder, faults, format) for faults, folder in reports]
    for (faults, _), part in zip(reports, parts, strict=True):
        audit_names.check_prefixes(part, faults)
        audit_splits.check_part(part, faults)
    audit_names.check_classes(parts, [faults for faults, _ in reports], class_map or {})
    stated = stated_patients([s for part in parts for s in part.samples], patients, patient_pattern)
    slices = stated.samples
    merged = Dataset(slices, tuple({name: None for part in parts for name in part.classes}))
    audit_splits.check_splits(merged, reports[0][0])
    owners = [faults for (faults, _), part in zip(reports, parts, strict=True) for _ in part.samples]
    index = index or SliceIndex()
    indexed = index.look_up(slices)
    _note_faults(indexed, owners)
    names = [_file_name(sample, owner, len(folders) > 1) for sample, owner in zip(slices, owners, strict=True)]
    prints = _first_frames(indexed)
    identified = identify(prints, index)
    audit_patients.note_oddities(stated, identified, patients, reports[0][0])
    members = audit_patients.patient_members(identified)
    audit_patients.note_leaks(members, slices, owners)
    known = known_names(merged.classes, class_map or {})
    found_copies = index.find_copies(prints) if copies else []
    groups = _groups(found_copies, slices, owners, names, known)
    _note_odd_groups(found_copies, prints.names, slices, owners)
    classes = Counter(known.get(s.label) or s.label for s in slices if s.label is not None)
    return Audit(
        _problems(reports),
        groups,
        slices,
        {name: len(merged.split(name).samples) for name in merged.splits},
        dict(sorted(classes.items())),
        tuple(str(folder) for folder in folders),
        tuple(_group(found, "patient", slices, names) for found in members),
        audit_patients.count_patients(stated, identified),
    )


def _note_faults(indexed: IndexedSlices, owners: Sequence[Faults]) -> None:
    """Reports the faults of every image to the data set that it belongs to."""
    for sample, found, owner in zip(indexed.samples, indexed.faults, owners, strict=True):
        for code, detail in found:
            text = detail if sample.span is None else f"{sample.name}: {detail}"
            owner.add("warning" if code in _IMAGE_WARNINGS else "error", code, sample.path, None, text)


def _first_frames(indexed: IndexedSlices) -> Fingerprints:
    """Fingerprints of all slices that can be decoded, files with several frames included."""
    return replace(indexed.fingerprints, rows=indexed.rows)


def _groups(
    copies: Sequence[CopyGroup],
    slices: Sequence[Sample],
    owners: Sequence[Faults],
    names: Sequence[str],
    known: Mapping[str, str | None],
) -> tuple[AuditGroup, ...]:
    groups = []
    for group in copies:
        groups.append(_group(group.members, group.kind, slices, names))
        members = [slices[i] for i in group.members]
        labels = {known.get(s.label) or s.label for s in members if s.label is not None}
        if labels - {ANY_TUMOR, NEGATIVE_CLASS}:
            labels.discard(ANY_TUMOR)  # a tumour of unknown type may be of that type
        if len(labels) > 1:
            second = names[group.members[1]]
            detail = f"is a copy of {second}, but the copies are called {' and '.join(sorted(labels))}"
            owners[group.members[0]].warning("copies_disagree", members[0].path, detail)
    return tuple(groups)


def _note_odd_groups(
    copies: Sequence[CopyGroup], names: Sequence[str], slices: Sequence[Sample], owners: Sequence[Faults]
) -> None:
    """Notes ``large_copy_group``, and ``name_contradicts_pixels`` for names before ``.rf.`` that look different."""
    for detail, first in large_groups([group.members for group in copies], len(slices)):
        owners[first].warning("large_copy_group", slices[first].path, detail)
    if copies:
        for one, other in names_apart(names, [group.members for group in copies]):
            detail = f"has the name of {slices[other].name} before .rf., but looks different: not taken for its version"
            owners[one].warning("name_contradicts_pixels", slices[one].path, detail)


def _group(members: Sequence[int], kind: str, slices: Sequence[Sample], names: Sequence[str]) -> AuditGroup:
    splits = tuple(dict.fromkeys(slices[i].split for i in members))
    return AuditGroup(tuple(names[i] for i in members), splits, kind, tuple(members))


def _file_name(sample: Sample, owner: Faults, several: bool) -> str:
    name = sample.path.as_posix() if several else owner.relative(sample.path)
    return name if sample.span is None else f"{name}:{sample.name}"


def _problems(reports: Sequence[tuple[Faults, Path]]) -> tuple[Problem, ...]:
    result = []
    for faults, folder in reports:
        for p in faults.problems:
            file = p.file if len(reports) == 1 else (folder / p.file).as_posix()
            if p.file == ".":  # the data set itself
                file = (folder.resolve() if folder == Path() else folder).as_posix()
            result.append(Problem(p.severity, p.code, file, p.line, p.detail))
    return tuple(sorted(result, key=lambda p: p.severity != "error"))


__all__ = ["Audit", "AuditGroup", "check"]
